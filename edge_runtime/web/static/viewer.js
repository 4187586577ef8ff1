// The radiograph with its heat map: zoom, move, window and level, invert; by mouse, touch and keyboard.

import { HeatMap } from "./heat_map.js";
import { t } from "./words.js";
import { labelName } from "./wording.js";

const SVG = "http://www.w3.org/2000/svg";
const LARGEST_ZOOM = 12;
const STEP = 1.35;
const SHARPER_FROM = 1.6; // zoom from which the full image is worth fetching
const PLAIN = { level: 127.5, width: 255 };
let serial = 0;

export class Viewer {
  /**
   * @param {HTMLElement} root holds the parts of the macro `viewer`
   * @param {{palette: import("./heat_map.js").Palette}} settings
   */
  constructor(root, settings) {
    serial += 1;
    this.id = `viewer-${serial}`;
    this.root = root;
    this.settings = settings;
    this.frame = this.part("frame");
    this.plane = this.part("plane");
    this.image = this.part("image");
    this.heat = this.part("heat");
    this.pointers = new Map();
    this.makeFilter();
    this.resetView();
    this.listen();
  }

  part(name) {
    return this.root.querySelector(`[data-part="${name}"]`);
  }

  /** @param {{url: string, width: number, height: number, full?: string}} picture */
  showImage(picture, description) {
    this.image.width = picture.width;
    this.image.height = picture.height;
    this.image.src = picture.url;
    this.image.alt = description;
    this.full = picture.full;
    this.heat.width = picture.width;
    this.heat.height = picture.height;
  }

  /** @param {{labels: string[], values: number[][][]}|null} heatmap @param {string} label shown first */
  showHeatMap(heatmap, label) {
    this.part("controls").hidden = !heatmap;
    this.heat.hidden = !heatmap;
    if (!heatmap) return;
    const { palette } = this.settings;
    const map = new HeatMap(this.heat, heatmap.values, palette);
    palette.paintScale(this.part("scale"));
    const choices = heatmap.labels.map((name, index) => {
      const choice = document.createElement("label");
      const input = document.createElement("input");
      input.type = "radio";
      input.name = `${this.id}-class`;
      input.checked = name === label;
      input.addEventListener("change", () => map.show(index));
      const text = document.createElement("span");
      text.textContent = labelName(name);
      choice.append(input, text);
      return choice;
    });
    this.part("classes").replaceChildren(...choices);
    map.show(Math.max(0, heatmap.labels.indexOf(label)));
    this.setOpacity(100);
  }

  setOpacity(percent) {
    this.part("opacity").value = percent;
    this.heat.style.opacity = percent / 100;
    this.part("opacity-value").textContent = `${percent} %`;
  }

  // window, level, inversion ------------------------------------------------------------------------------------

  makeFilter() {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("aria-hidden", "true");
    svg.setAttribute("class", "filters-of-image");
    const filter = document.createElementNS(SVG, "filter");
    filter.id = `${this.id}-window`;
    filter.setAttribute("color-interpolation-filters", "sRGB");
    const transfer = document.createElementNS(SVG, "feComponentTransfer");
    this.functions = ["R", "G", "B"].map((channel) => {
      const each = document.createElementNS(SVG, `feFunc${channel}`);
      each.setAttribute("type", "linear");
      transfer.append(each);
      return each;
    });
    filter.append(transfer);
    svg.append(filter);
    this.frame.append(svg);
  }

  applyWindow() {
    const { level, width, inverted } = this;
    const plain = level === PLAIN.level && width === PLAIN.width && !inverted;
    let slope = 255 / width;
    let intercept = 0.5 - level / width;
    if (inverted) [slope, intercept] = [-slope, 1 - intercept];
    this.functions.forEach((each) => {
      each.setAttribute("slope", slope);
      each.setAttribute("intercept", intercept);
    });
    this.image.style.filter = plain ? "" : `url(#${this.id}-window)`;
    this.part("level").value = level;
    this.part("width").value = width;
    this.part("level-value").textContent = Math.round(level);
    this.part("width-value").textContent = Math.round(width);
    this.tool("invert").setAttribute("aria-pressed", String(inverted));
  }

  setWindow(level, width) {
    this.level = Math.min(255, Math.max(0, level));
    this.width = Math.min(510, Math.max(8, width));
    this.applyWindow();
  }

  invert() {
    this.inverted = !this.inverted;
    this.applyWindow();
  }

  // zoom and place ----------------------------------------------------------------------------------------------

  resetView() {
    Object.assign(this, { zoom: 1, x: 0, y: 0, inverted: false, ...PLAIN });
    this.applyWindow();
    this.applyPlace();
  }

  applyPlace() {
    const { clientWidth: w, clientHeight: h } = this.frame;
    const [mostX, mostY] = [(w * (this.zoom - 1)) / 2, (h * (this.zoom - 1)) / 2];
    this.x = Math.min(mostX, Math.max(-mostX, this.x));
    this.y = Math.min(mostY, Math.max(-mostY, this.y));
    this.plane.style.transform = this.zoom === 1 ? "" : `translate(${this.x}px, ${this.y}px) scale(${this.zoom})`;
    this.frame.classList.toggle("zoomed", this.zoom > 1);
    if (this.zoom >= SHARPER_FROM && this.full) {
      this.image.src = this.full;
      this.full = undefined;
    }
  }

  /** Zooms so that what is under (x, y), from the frame's centre, stays there. */
  zoomBy(factor, x = 0, y = 0) {
    const zoom = Math.min(LARGEST_ZOOM, Math.max(1, this.zoom * factor));
    const share = zoom / this.zoom;
    this.x = x - (x - this.x) * share;
    this.y = y - (y - this.y) * share;
    this.zoom = zoom;
    this.applyPlace();
  }

  moveBy(x, y) {
    this.x += x;
    this.y += y;
    this.applyPlace();
  }

  fromCentre(event) {
    const box = this.frame.getBoundingClientRect();
    return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  }

  // mouse, touch, keyboard --------------------------------------------------------------------------------------

  tool(name) {
    return this.root.querySelector(`[data-tool="${name}"]`);
  }

  listen() {
    const actions = {
      in: () => this.zoomBy(STEP),
      out: () => this.zoomBy(1 / STEP),
      invert: () => this.invert(),
      reset: () => this.resetView(),
      adjust: () => {
        const sliders = this.part("window");
        sliders.hidden = !sliders.hidden;
        this.tool("adjust").setAttribute("aria-pressed", String(!sliders.hidden));
      },
    };
    for (const [name, action] of Object.entries(actions)) this.tool(name).addEventListener("click", action);
    this.part("level").addEventListener("input", (event) => this.setWindow(Number(event.target.value), this.width));
    this.part("width").addEventListener("input", (event) => this.setWindow(this.level, Number(event.target.value)));
    this.part("opacity").addEventListener("input", (event) => this.setOpacity(event.target.value));
    this.frame.addEventListener("keydown", (event) => this.onKey(event));
    // Without Ctrl the wheel scrolls the page, as everywhere.
    this.frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 300), ...this.fromCentre(event));
    }, { passive: false });
    this.frame.addEventListener("dblclick", (event) => {
      if (this.zoom > 1) this.zoomBy(1 / LARGEST_ZOOM);
      else this.zoomBy(2.5, ...this.fromCentre(event));
    });
    // Two fingers are the viewer's, whatever the browser would do with them; one scrolls the page until it is zoomed in.
    for (const kind of ["touchstart", "touchmove"]) {
      this.frame.addEventListener(kind, (event) => {
        if (event.touches.length > 1 && event.cancelable) event.preventDefault();
      }, { passive: false });
    }
    this.frame.addEventListener("pointerdown", (event) => this.onPointerDown(event));
    this.frame.addEventListener("pointermove", (event) => this.onPointerMove(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      this.frame.addEventListener(kind, (event) => this.pointers.delete(event.pointerId));
    }
  }

  onPointerDown(event) {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    this.pointers.set(event.pointerId, event);
    if (event.pointerType === "mouse" || this.zoom > 1) this.frame.setPointerCapture(event.pointerId);
  }

  onPointerMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
    this.pointers.set(event.pointerId, event);
    const other = [...this.pointers.values()].find((each) => each.pointerId !== event.pointerId);
    if (other) {
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const [ox, oy] = this.fromCentre(other);
      const [ex, ey] = this.fromCentre(event);
      this.zoomBy(apart(event) / Math.max(1, apart(before)), (ox + ex) / 2, (oy + ey) / 2);
      this.moveBy(x / 2, y / 2);
    } else if (event.pointerType === "mouse" && event.shiftKey) {
      this.setWindow(this.level - y, this.width + x * 2); // as on a workstation: across the width, up and down the level
    } else if (this.zoom > 1) {
      this.moveBy(x, y);
    }
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = this.frame.clientWidth / 8;
    const keys = {
      "+": () => this.zoomBy(STEP), "=": () => this.zoomBy(STEP), "-": () => this.zoomBy(1 / STEP),
      "0": () => this.resetView(), i: () => this.invert(), I: () => this.invert(),
      "[": () => this.setWindow(this.level - 8, this.width), "]": () => this.setWindow(this.level + 8, this.width),
      "{": () => this.setWindow(this.level, this.width - 16), "}": () => this.setWindow(this.level, this.width + 16),
      h: () => this.setOpacity(this.part("opacity").value > 0 ? 0 : 100),
    };
    if (this.zoom > 1) {
      Object.assign(keys, {
        ArrowLeft: () => this.moveBy(far, 0), ArrowRight: () => this.moveBy(-far, 0),
        ArrowUp: () => this.moveBy(0, far), ArrowDown: () => this.moveBy(0, -far),
      });
    }
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  describe(name) {
    return t("Radiograph from {name}", { name });
  }
}
