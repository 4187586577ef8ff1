// One file's card: progress, then the answer in its place. All text goes in as text, never as markup.

import { HeatMap } from "./heat_map.js";
import { caution, factRows, modelLine, percent, sentence, sourceLine, timingsLine } from "./wording.js";

const FIRST_OPACITY = 100;
const known = new WeakMap();
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
   * @param {{labels: string[], palette: import("./heat_map.js").Palette}} settings
   * @param {{onRemove: () => void, onAgain: () => void}} actions
   */
  constructor(file, settings, actions) {
    this.file = file;
    this.settings = settings;
    this.discarded = false;
    this.ending = new AbortController();
    this.element = document.getElementById("card").content.firstElementChild.cloneNode(true);
    known.set(this.element, this);
    serial += 1;
    this.id = `card-${serial}`;
    const name = this.part("name");
    name.id = `${this.id}-name`;
    name.textContent = file.name;
    this.element.setAttribute("aria-labelledby", name.id);
    this.part("bar").setAttribute("aria-labelledby", name.id);
    const remove = this.part("remove");
    remove.setAttribute("aria-label", `Remove ${file.name}`);
    remove.addEventListener("click", actions.onRemove);
    this.part("again").addEventListener("click", actions.onAgain);
  }

  static of(element) {
    return known.get(element);
  }

  get signal() {
    return this.ending.signal;
  }

  part(name) {
    return this.element.querySelector(`[data-part="${name}"]`);
  }

  discard() {
    this.discarded = true;
    this.ending.abort();
    this.element.remove();
  }

  /** A stage without a measure of its own. */
  showStage(text) {
    this.part("refusal").hidden = true;
    this.part("progress").hidden = false;
    this.part("bar").removeAttribute("value");
    this.part("stage").textContent = text;
  }

  /** @param {number} fraction of the file that is sent, 0 to 1 */
  showUploaded(fraction) {
    this.part("bar").value = fraction * 100;
    this.part("stage").textContent = `Uploading ${percent(fraction)}`;
  }

  showAnswer(answer) {
    this.part("progress").hidden = true;
    this.part("source").textContent = sourceLine(answer);
    if (answer.status !== "ok") this.showRefusal(answer);
    if (answer.image) this.showReading(answer);
  }

  showRefusal(answer) {
    const refused = answer.status === "refused";
    this.part("refusal").hidden = false;
    this.part("refusal-title").textContent = refused ? "Not judged" : "No answer";
    this.part("message").textContent = sentence(answer.message ?? "The runtime gave no reason", answer.file);
    this.part("remedy").textContent = sentence(answer.remedy ?? "");
    this.part("remedy").hidden = !answer.remedy;
    this.part("again").hidden = refused || answer.reason === "too_large";
  }

  showReading(answer) {
    this.part("reading").hidden = false;
    const image = this.part("image");
    image.width = answer.image.width;
    image.height = answer.image.height;
    image.src = answer.image.url;
    image.alt = `Radiograph from ${this.file.name}`;
    this.part("answer").hidden = answer.status !== "ok";
    this.part("particulars").hidden = answer.status !== "ok";
    this.part("controls").hidden = !answer.heatmap;
    if (answer.heatmap) this.showHeatMap(answer);
    if (answer.status !== "ok") return;
    this.part("label").textContent = answer.label;
    this.part("value").textContent = percent(answer.probabilities[answer.label]);
    this.part("bars").replaceChildren(...this.settings.labels.map((label) => this.bar(label, answer)));
    const warning = caution(answer);
    this.part("caution").textContent = warning;
    this.part("caution").hidden = !warning;
    this.showFacts(answer.facts);
    this.part("notes-section").hidden = !answer.notes?.length;
    this.part("notes").replaceChildren(...(answer.notes ?? []).map((note) => make("li", "", note)));
    this.part("model").textContent = modelLine(answer);
    this.part("timings").textContent = timingsLine(answer.timings_ms ?? {});
  }

  bar(label, answer) {
    const row = make("li", label === answer.label ? "first" : "");
    const fill = make("span", "fill");
    fill.style.width = `${answer.probabilities[label] * 100}%`;
    const track = make("span", "track");
    track.setAttribute("aria-hidden", "true");
    track.append(fill);
    row.append(make("span", "", label), make("span", "value", percent(answer.probabilities[label])), track);
    return row;
  }

  showHeatMap(answer) {
    const { palette } = this.settings;
    const canvas = this.part("heat");
    canvas.width = answer.image.width;
    canvas.height = answer.image.height;
    const map = new HeatMap(canvas, answer.heatmap.values, palette);
    palette.paintScale(this.part("scale"));

    const choices = answer.heatmap.labels.map((label, index) => {
      const choice = make("label");
      const input = make("input");
      input.type = "radio";
      input.name = `${this.id}-class`;
      input.checked = label === answer.label;
      input.addEventListener("change", () => map.show(index));
      choice.append(input, make("span", "", label));
      return choice;
    });
    this.part("classes").replaceChildren(...choices);
    map.show(Math.max(0, answer.heatmap.labels.indexOf(answer.label)));

    const slider = this.part("opacity");
    const apply = () => {
      canvas.style.opacity = slider.value / 100;
      this.part("opacity-value").textContent = `${slider.value} %`;
    };
    slider.value = FIRST_OPACITY;
    slider.addEventListener("input", apply);
    apply();
  }

  showFacts(facts) {
    const rows = factRows(facts ?? {}).map(([term, value]) => this.pair(term, make("dd", "", value)));
    if (facts?.patient_id) rows.push(this.hiddenPair("Patient ID", facts.patient_id));
    this.part("facts-section").hidden = rows.length === 0;
    this.part("facts").replaceChildren(...rows);
  }

  pair(term, definition) {
    const row = make("div");
    row.append(make("dt", "", term), definition);
    return row;
  }

  /** A value that names the patient: shown when asked for, hidden again the same way. */
  hiddenPair(term, value) {
    const definition = make("dd");
    const shown = make("span");
    const button = make("button", "quiet", "Show");
    button.type = "button";
    button.setAttribute("aria-label", `Show ${term.toLowerCase()}`);
    button.addEventListener("click", () => {
      const hide = shown.textContent === "";
      shown.textContent = hide ? value : "";
      button.textContent = hide ? "Hide" : "Show";
      button.setAttribute("aria-label", `${button.textContent} ${term.toLowerCase()}`);
      definition.replaceChildren(...(hide ? [shown, " ", button] : [button]));
      button.focus();
    });
    definition.append(button);
    return this.pair(term, definition);
  }
}
