// One file's card: progress, then the answer in its place. All text goes in as text, never as markup.

import { HeatMap } from "./clinic/heat_map.js";
import { predictionSet, referral } from "./gate.js";
import { largest } from "./model.js";
import { caution, factRows, milliseconds, percent } from "./wording.js";

const LONGEST_SIDE = 1024; // of the radiograph on screen
let serial = 0;

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export class Card {
  /**
   * @param {File} file
   * @param {{labels: string[], palette: import("./clinic/heat_map.js").Palette}} settings
   * @param {() => void} onRemove
   */
  constructor(file, settings, onRemove) {
    this.file = file;
    this.settings = settings;
    this.removed = false;
    this.element = document.getElementById("card").content.firstElementChild.cloneNode(true);
    serial += 1;
    this.id = `card-${serial}`;
    const name = this.part("name");
    name.id = `${this.id}-name`;
    name.textContent = file.name;
    this.element.setAttribute("aria-labelledby", name.id);
    this.part("bar").setAttribute("aria-labelledby", name.id);
    const remove = this.part("remove");
    remove.setAttribute("aria-label", `Remove ${file.name}`);
    remove.addEventListener("click", () => {
      this.removed = true;
      this.element.remove();
      onRemove();
    });
  }

  part(name) {
    return this.element.querySelector(`[data-part="${name}"]`);
  }

  showStage(text) {
    this.part("progress").hidden = false;
    this.part("stage").textContent = text;
  }

  /** @param {Error} error a Refusal (of the file) or a Failure (of the page) */
  showError(error) {
    this.part("progress").hidden = true;
    this.part("refusal").hidden = false;
    if (error.reason) this.element.dataset.reason = error.reason;
    this.part("refusal-title").textContent = error.name === "Refusal" ? "Not judged" : "No answer";
    this.part("message").textContent = error.message;
    this.part("remedy").textContent = error.remedy ?? "";
    this.part("remedy").hidden = !error.remedy;
  }

  /** The pixels that were judged, or refused. */
  showRadiograph(radiograph) {
    this.part("source").textContent = `${radiograph.kind}, ${radiograph.width} × ${radiograph.height} px`;
    this.part("reading").hidden = false;
    this.part("answer").hidden = true;
    this.part("particulars").hidden = true;
    this.part("controls").hidden = true;
    paint(this.part("image"), radiograph);
    this.part("image").setAttribute("aria-label", `Radiograph from ${this.file.name}`);
  }

  /**
   * @param {import("./reading.js").Radiograph} radiograph
   * @param {{outputs: Object<string, Float32Array>, model: import("./model.js").Model, timings: Object<string, number>}} answer
   */
  showAnswer(radiograph, { outputs, model, timings }) {
    const { labels } = this.settings;
    const { probabilities } = outputs;
    const first = largest(probabilities);
    this.part("progress").hidden = true;
    this.part("answer").hidden = false;
    this.part("particulars").hidden = false;
    this.part("controls").hidden = false;
    this.element.dataset.probabilities = JSON.stringify(Array.from(probabilities));
    this.part("label").textContent = labels[first];
    this.part("value").textContent = percent(probabilities[first]);
    this.part("bars").replaceChildren(...labels.map((label, index) => bar(label, probabilities[index], index === first)));
    const { conformal } = model.manifest;
    const set = predictionSet(conformal, labels, probabilities);
    // without prediction sets a plain rule of the page stands in
    const warning = set === null ? caution(labels, probabilities) : referral(conformal, set);
    this.part("caution").textContent = warning;
    this.part("caution").hidden = !warning;
    this.showHeatMap(outputs.heatmap, model, first);
    const rows = factRows(radiograph.facts).map(([term, value]) => {
      const row = make("div");
      row.append(make("dt", "", term), make("dd", "", value));
      return row;
    });
    this.part("facts-section").hidden = rows.length === 0;
    this.part("facts").replaceChildren(...rows);
    this.part("notes-section").hidden = radiograph.notes.length === 0;
    this.part("notes").replaceChildren(...radiograph.notes.map((note) => make("li", "", note)));
    this.part("model").textContent = `${model.artifact.name} · onnxruntime-web ${model.version} · on this phone`;
    this.part("timings").textContent = Object.entries(timings)
      .map(([step, value]) => `${step} ${milliseconds(value)}`).join(" · ");
    return `${this.file.name}: ${labels[first]}, ${percent(probabilities[first])}`;
  }

  showHeatMap(values, model, first) {
    const { labels, palette } = this.settings;
    const [, , rows, columns] = model.manifest.outputs.find((output) => output.name === "heatmap").shape;
    const canvas = this.part("heat");
    const image = this.part("image");
    canvas.width = image.width;
    canvas.height = image.height;
    const grids = labels.map((_, index) => Array.from({ length: rows }, (__, row) => {
      const start = (index * rows + row) * columns;
      return Array.from(values.subarray(start, start + columns));
    }));
    const map = new HeatMap(canvas, grids, palette);
    palette.paintScale(this.part("scale"));
    this.part("classes").replaceChildren(...labels.map((label, index) => {
      const choice = make("label");
      const input = make("input");
      input.type = "radio";
      input.name = `${this.id}-class`;
      input.checked = index === first;
      input.addEventListener("change", () => map.show(index));
      choice.append(input, make("span", "", label));
      return choice;
    }));
    map.show(first);
    const slider = this.part("opacity");
    const apply = () => {
      canvas.style.opacity = slider.value / 100;
      this.part("opacity-value").textContent = `${slider.value} %`;
    };
    slider.value = 100;
    slider.addEventListener("input", apply);
    apply();
  }
}

function bar(label, probability, isFirst) {
  const row = make("li", isFirst ? "first" : "");
  const fill = make("span", "fill");
  fill.style.width = `${probability * 100}%`;
  const track = make("span", "track");
  track.setAttribute("aria-hidden", "true");
  track.append(fill);
  row.append(make("span", "", label), make("span", "value", percent(probability)), track);
  return row;
}

/** Draws grey pixels, every n-th of a large image: for the eye, never for the model. */
function paint(canvas, { pixels, width, height }) {
  const step = Math.ceil(Math.max(width, height) / LONGEST_SIDE);
  canvas.width = Math.floor(width / step);
  canvas.height = Math.floor(height / step);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const words = new Uint32Array(image.data.buffer);
  for (let y = 0, place = 0; y < canvas.height; y += 1) {
    for (let x = 0; x < canvas.width; x += 1, place += 1) {
      words[place] = 0xff000000 | (mean(pixels, width, x * step, y * step, step) * 0x010101);
    }
  }
  context.putImageData(image, 0, 0);
}

function mean(pixels, width, left, top, step) {
  if (step === 1) return pixels[top * width + left];
  let sum = 0;
  for (let y = top; y < top + step; y += 1) for (let x = left; x < left + step; x += 1) sum += pixels[y * width + x];
  return Math.round(sum / (step * step));
}
