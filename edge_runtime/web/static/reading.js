// Fills an answer into the parts of the templates' macros. All text goes in as text, never as markup.

import { ask } from "./ask.js";
import { Viewer } from "./viewer.js";
import {
  caution, explanationOf, factRows, labelName, markLine, modelLine, percent, setLine, timingsLine,
} from "./wording.js";
import { language, t } from "./words.js";

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export class Reading {
  /**
   * @param {HTMLElement} root
   * @param {{labels: string[], palette: import("./heat_map.js").Palette}} settings
   */
  constructor(root, settings) {
    this.root = root;
    this.settings = settings;
    this.viewer = new Viewer(root, settings);
  }

  part(name) {
    return this.root.querySelector(`[data-part="${name}"]`);
  }

  setText(name, text) {
    const place = this.part(name);
    if (!place) return;
    place.textContent = text;
    place.hidden = !text;
  }

  showRefusal(answer) {
    const { title, message, remedy, detail, language: spoken } = explanationOf(answer);
    this.part("refusal").hidden = false;
    this.setText("refusal-title", title);
    this.setText("message", message);
    this.setText("remedy", remedy ?? "");
    this.setText("detail", detail ?? "");
    for (const name of ["message", "remedy"]) this.part(name).lang = spoken ?? language;
  }

  /** @param {object} answer the API's @param {string} name of the file, for the image's description */
  show(answer, name) {
    if (answer.status !== "ok" && this.part("refusal")) this.showRefusal(answer);
    if (!answer.image) return;
    this.part("reading").hidden = false;
    this.viewer.showImage(answer.image, this.viewer.describe(name));
    this.viewer.showHeatMap(answer.heatmap, answer.label);
    this.part("answer").hidden = answer.status !== "ok";
    if (answer.status === "ok") this.showAnswer(answer);
    if (this.part("particulars")) this.showParticulars(answer);
  }

  showAnswer(answer) {
    this.part("label").textContent = labelName(answer.label);
    this.part("value").textContent = percent(answer.probabilities[answer.label]);
    this.part("bars").replaceChildren(...this.settings.labels.map((label) => this.bar(label, answer)));
    this.setText("caution", caution(answer));
    this.setText("set", setLine(answer));
    this.part("set").classList.toggle("caution", Boolean(answer.refer));
    this.setText("mark", markLine(answer));
    this.part("mark").classList.toggle("reached", Boolean(answer.operating_point?.reached));
  }

  bar(label, answer) {
    const row = make("li", label === answer.label ? "first" : "");
    const fill = make("span", "fill");
    fill.style.width = `${answer.probabilities[label] * 100}%`;
    const track = make("span", "track");
    track.setAttribute("aria-hidden", "true");
    track.append(fill);
    if (answer.operating_point?.label === label) {
      const line = make("span", "threshold");
      line.style.insetInlineStart = `${answer.operating_point.threshold * 100}%`;
      track.append(line);
    }
    row.append(make("span", "", labelName(label)), make("span", "value", percent(answer.probabilities[label])), track);
    return row;
  }

  showParticulars(answer) {
    this.showFacts(answer);
    this.part("notes-section").hidden = !answer.notes?.length;
    this.part("notes").replaceChildren(...(answer.notes ?? []).map((note) => {
      const item = make("li", "", note);
      if (language !== "en") item.lang = "en";
      return item;
    }));
    this.part("model").textContent = modelLine(answer);
    this.part("timings").textContent = timingsLine(answer.timings_ms ?? {});
  }

  showFacts({ facts, identity }) {
    const rows = factRows(facts ?? {}).map(([term, value]) => pair(term, make("dd", "", value)));
    if (identity) rows.push(identity);
    this.part("facts-section").hidden = rows.length === 0;
    this.part("facts").replaceChildren(...rows);
  }
}

export function pair(term, definition) {
  const row = make("div");
  row.append(make("dt", "", term), definition);
  return row;
}

/** Who a study of the records is of: asked of the server, whose log keeps that, and hidden again the same way. */
export function identityOf(address) {
  return hiddenPair(t("Patient and file"), async () => {
    const named = await ask(`${address}?identity=1`);
    return [named.patient_name, named.facts.patient_id, named.file_name].filter(Boolean).join(" · ") || "–";
  });
}

function hiddenPair(term, value) {
  const definition = make("dd");
  const shown = make("span");
  const button = make("button", "quiet", t("Show"));
  button.type = "button";
  button.setAttribute("aria-label", t("Show {term}", { term }));
  button.addEventListener("click", async () => {
    const hide = shown.textContent === "";
    shown.textContent = hide ? await value() : "";
    button.textContent = hide ? t("Hide") : t("Show");
    button.setAttribute("aria-label", hide ? t("Hide {term}", { term }) : t("Show {term}", { term }));
    definition.replaceChildren(...(hide ? [shown, " ", button] : [button]));
    button.focus();
  });
  definition.append(button);
  return pair(term, definition);
}
