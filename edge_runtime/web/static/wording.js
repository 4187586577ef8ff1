// How numbers, answers and header facts read.

import { language, t } from "./words.js";

const CLOSE = 0.15; // two classes nearer than this are not told apart

/** 0.7149 -> "71 %"; never "0 %" or "100 %" for what is neither. */
export function percent(fraction) {
  const rounded = Math.round(fraction * 100);
  if (fraction > 0 && rounded === 0) return "< 1 %";
  if (fraction < 1 && rounded === 100) return "> 99 %";
  return `${rounded} %`;
}

/** A sentence where the first two classes are close, or "". */
export function caution(answer) {
  if (answer.prediction_set) return ""; // the set says it, and better
  const [first, second] = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  if (!second || first[1] - second[1] >= CLOSE) return "";
  return t("Unsure: {first} and {second} are close. Ask a reader.", {
    first: labelName(first[0]), second: labelName(second[0]),
  });
}

// The classes of the models that are known; another model's are shown as they are.
const NAMES = { normal: t("normal"), pneumonia: t("pneumonia"), "COVID-19": t("COVID-19") };

export function labelName(label) {
  return NAMES[label] ?? label;
}

/** What cannot be ruled out at the bundle's coverage, and whether a reader should decide; "" where it cannot say. */
export function setLine({ prediction_set: set, refer }) {
  if (!set) return "";
  if (set.length === 0) return t("No class is likely enough. Refer to a reader.");
  const labels = set.map(labelName).join(", ");
  return refer ? t("Cannot be ruled out: {labels}. Refer to a reader.", { labels })
    : t("Cannot be ruled out: {labels}.", { labels });
}

/** What the site's operating point makes of it, or "". */
export function markLine({ operating_point: point }) {
  if (!point) return "";
  const values = { label: labelName(point.label), threshold: percent(point.threshold) };
  return point.reached ? t("Marked: {label} reaches this site's operating point of {threshold}.", values)
    : t("{label} is below this site's operating point of {threshold}.", values);
}

/** Why there is no answer: the API's explanation, or what the page itself found. */
export function explanationOf({ explanation, message, remedy }) {
  return explanation ?? { title: t("No answer"), message: message ?? t("The runtime gave no reason."), remedy, detail: null };
}

/** What is said aloud when an answer arrives. */
export function spokenAnswer(name, answer) {
  if (answer.status === "ok") {
    const first = `${name}: ${labelName(answer.label)}, ${percent(answer.probabilities[answer.label])}`;
    return [first, answer.refer ? setLine(answer) : caution(answer)].filter(Boolean).join(". ");
  }
  const { title, message } = explanationOf(answer);
  return `${name}: ${title}. ${message}`;
}

export function sourceLine({ image }) {
  return image?.source_format ? `${image.source_format}, ${image.source_width} × ${image.source_height} px` : "";
}

export function modelLine(answer) {
  return [answer.artifact, answer.backend, answer.precision].filter(Boolean).join(" · ");
}

export function timingsLine(timings) {
  return Object.entries(timings)
    .filter(([step, value]) => step !== "wait" || value >= 1)
    .map(([step, value]) => `${STEPS[step] ?? step} ${value < 10 ? value.toFixed(1) : Math.round(value)} ms`)
    .join(" · ");
}

const SEXES = { F: t("Female"), M: t("Male"), O: t("Other") };
const UNITS = { D: "day", W: "week", M: "month", Y: "year" };
const STEPS = { read: t("read"), predict: t("predict"), total: t("total"), wait: t("wait") };

/** [term, value] of the facts that identify nobody, in reading order. */
export function factRows(facts) {
  return [
    [t("View"), facts.view],
    [t("Age"), facts.age && age(facts.age)],
    [t("Sex"), SEXES[facts.sex] ?? facts.sex],
    [t("Study date"), facts.study_date && date(facts.study_date)],
    [t("Modality"), facts.modality],
    [t("Body part"), facts.body_part],
  ].filter(([, value]) => value);
}

/** DICOM age string "058Y" -> "58 years". */
export function age(text) {
  const found = /^(\d{3})([DWMY])$/.exec(text);
  if (!found) return text;
  const count = Number(found[1]);
  return new Intl.NumberFormat(language, { style: "unit", unit: UNITS[found[2]], unitDisplay: "long" }).format(count);
}

/** DICOM date "20200317" -> "17 March 2020". */
function date(text) {
  const found = /^(\d{4})(\d{2})(\d{2})$/.exec(text);
  if (!found) return text;
  const day = new Date(Date.UTC(Number(found[1]), Number(found[2]) - 1, Number(found[3])));
  return day.toLocaleDateString(language === "en" ? "en-GB" : language, { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
}

/** ISO 8601 in UTC -> local date and time. */
export function moment(text) {
  return new Date(text).toLocaleString(language === "en" ? "en-GB" : language, { dateStyle: "medium", timeStyle: "short" });
}

export const SOURCES = { upload: t("Upload"), watch: t("Hot folder"), receive: t("DICOM node"), batch: t("Batch") };
export const VERDICTS = { agree: t("Agrees"), disagree: t("Disagrees"), other: t("Other"), withdrawn: t("Taken back") };

/** A verdict in words, with the reader's own class where there is one. */
export function verdictLine({ verdict, label }) {
  return verdict === "disagree" && label ? `${VERDICTS[verdict]}: ${labelName(label)}` : VERDICTS[verdict];
}
