// PNG and JPEG to grey pixels, exactly as stored: the browser decodes, nothing is resized or colour-managed.

import { checkPicture, damaged, pictureHeader } from "./picture_header.js";
import { Refusal } from "./refusal.js";

const MOST_SPREAD = 24; // between the channels of one pixel: scanner noise and faint tints, no photograph

/**
 * @param {Uint8Array} bytes
 * @param {"PNG"|"JPEG"} kind
 * @returns {Promise<{width: number, height: number, pixels: Uint8Array, notes: string[]}>} 0 black
 */
export async function decodePicture(bytes, kind) {
  checkPicture(pictureHeader(bytes, kind), kind);
  if (kind === "JPEG" && !hasEnd(bytes)) throw damaged(kind); // browsers paint what is missing grey
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none", premultiplyAlpha: "default" });
  } catch {
    throw damaged(kind);
  }
  const { width, height } = bitmap;
  const context = newCanvas(width, height).getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(bitmap, 0, 0); // on black: what a film's surroundings are
  bitmap.close();
  const colours = context.getImageData(0, 0, width, height).data;
  return { width, height, ...grey(colours, width * height) };
}

/**
 * Some browsers add noise to what a page reads back from a picture, against tracking. The model would see that
 * noise, so it is looked for once.
 */
export function picturesAreExact() {
  const context = newCanvas(16, 16).getContext("2d", { alpha: false, willReadFrequently: true });
  const drawn = context.createImageData(16, 16);
  for (let i = 0; i < 256; i += 1) drawn.data.set([i, i, i, 255], i * 4);
  context.putImageData(drawn, 0, 0);
  const read = context.getImageData(0, 0, 16, 16).data;
  return drawn.data.every((value, index) => value === read[index]);
}

function newCanvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

function hasEnd(bytes) {
  for (let i = bytes.length - 2; i > Math.max(0, bytes.length - 4096); i -= 1) {
    if (bytes[i] === 0xff && bytes[i + 1] === 0xd9) return true;
  }
  return false;
}

function grey(colours, count) {
  const pixels = new Uint8Array(count);
  let spread = 0;
  for (let i = 0, c = 0; i < count; i += 1, c += 4) {
    const red = colours[c];
    const green = colours[c + 1];
    const blue = colours[c + 2];
    if (red === green && green === blue) { pixels[i] = red; continue; }
    spread = Math.max(spread, Math.max(red, green, blue) - Math.min(red, green, blue));
    pixels[i] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16; // ITU-R BT.601, as the runtime has it
  }
  if (spread > MOST_SPREAD) {
    throw new Refusal("colour_photo", "The image is in colour; this page reads grey radiographs.",
      "Export the radiograph itself in grey, or open it on the laptop, which can tell a tinted film from a photograph.");
  }
  return { pixels, notes: spread ? ["The file is in colour but grey in fact; its brightness was used."] : [] };
}

