// Draws a heat map of a few cells over the whole radiograph: values are interpolated first, then coloured.

const LONGEST_SIDE = 320; // of the drawing; the browser smooths it up to the size on screen

export class Palette {
  /** @param {number[][]} colours [red, green, blue, opacity], 0 to 255, at evenly spaced values from 0 to 1 */
  constructor(colours) {
    this.last = colours.length - 1;
    this.table = new Uint32Array(new Uint8ClampedArray(colours.flat()).buffer); // one number a colour, as in an image
  }

  /** Writes the colour of `value` (0 to 1) into `pixels` (a Uint32Array over an image's bytes) at `index`. */
  write(pixels, index, value) {
    pixels[index] = this.table[Math.round(Math.min(1, Math.max(0, value)) * this.last)];
  }

  paintScale(canvas) {
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, 1);
    const pixels = new Uint32Array(image.data.buffer);
    for (let x = 0; x < canvas.width; x += 1) this.write(pixels, x, x / (canvas.width - 1));
    context.putImageData(image, 0, 0);
  }
}

export class HeatMap {
  /**
   * @param {HTMLCanvasElement} canvas with the radiograph's width and height
   * @param {number[][][]} values [class][row][column], 0 to 1; the grid covers the whole radiograph
   * @param {Palette} palette
   */
  constructor(canvas, values, palette) {
    this.canvas = canvas;
    this.values = values;
    this.palette = palette;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(canvas.width, canvas.height));
    canvas.width = Math.max(1, Math.round(canvas.width * scale));
    canvas.height = Math.max(1, Math.round(canvas.height * scale));
  }

  /** @param {number} index of the class */
  show(index) {
    const { width, height } = this.canvas;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const grid = this.values[index];
    const columns = positions(width, grid[0].length);
    positions(height, grid.length).forEach(([top, bottom, down], y) => {
      columns.forEach(([left, right, across], x) => {
        const above = mix(grid[top][left], grid[top][right], across);
        const below = mix(grid[bottom][left], grid[bottom][right], across);
        this.palette.write(pixels, y * width + x, mix(above, below, down));
      });
    });
    context.putImageData(image, 0, 0);
  }
}

const mix = (from, to, part) => from + (to - from) * part;

/** For each of `size` pixels: the two cells around its centre, and how far it is from the first to the second. */
function positions(size, cells) {
  return Array.from({ length: size }, (_, pixel) => {
    const place = Math.min(cells - 1, Math.max(0, ((pixel + 0.5) * cells) / size - 0.5));
    const first = Math.floor(place);
    return [first, Math.min(cells - 1, first + 1), place - first];
  });
}
