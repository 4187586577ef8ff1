// One file's card: progress, then the answer in its place.

import { identityOf, Reading } from "./reading.js";
import { percent, sourceLine } from "./wording.js";
import { t } from "./words.js";

const known = new WeakMap();
let serial = 0;

export class Card {
  /**
   * @param {File} file
   * @param {{labels: string[], palette: import("./heat_map.js").Palette, study: string}} settings
   * @param {{onRemove: () => void, onAgain: () => void}} actions
   */
  constructor(file, settings, actions) {
    this.file = file;
    this.settings = settings;
    this.discarded = false;
    this.ending = new AbortController();
    this.element = document.getElementById("card").content.firstElementChild.cloneNode(true);
    known.set(this.element, this);
    this.reading = new Reading(this.element, settings);
    serial += 1;
    const name = this.part("name");
    name.id = `card-${serial}-name`;
    name.textContent = file.name;
    this.element.setAttribute("aria-labelledby", name.id);
    this.part("bar").setAttribute("aria-labelledby", name.id);
    const remove = this.part("remove");
    remove.setAttribute("aria-label", t("Remove {name}", { name: file.name }));
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
    this.part("stage-text").textContent = text;
  }

  /** @param {number} fraction of the file that is sent, 0 to 1 */
  showUploaded(fraction) {
    this.part("bar").value = fraction * 100;
    this.part("stage-text").textContent = t("Uploading {share}", { share: percent(fraction) });
  }

  showAnswer(answer) {
    this.answer = answer;
    this.part("progress").hidden = true;
    if (answer.study) this.useRecords(answer);
    this.part("source").textContent = sourceLine(answer);
    this.reading.show(answer, this.file.name);
    this.part("again").hidden = answer.status !== "error" || answer.reason === "too_large";
  }

  /** What only the records can give: the full image when zoomed in, the names, the study's own page. */
  useRecords(answer) {
    const address = this.settings.api.replace("{key}", answer.study);
    if (answer.image && answer.image.source_width > answer.image.width) answer.image.full = `${address}/image?edge=4096`;
    if (answer.identity_hidden) answer.identity = identityOf(address);
    const open = this.part("open");
    open.href = this.settings.study.replace("{key}", answer.study);
    open.setAttribute("aria-label", t("Open study {name}", { name: this.file.name }));
    open.hidden = false;
  }
}
