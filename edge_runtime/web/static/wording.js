// How numbers and header facts read.

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
  const [first, second] = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  if (!second || first[1] - second[1] >= CLOSE) return "";
  return `Unsure: ${first[0]} and ${second[0]} are close. Ask a reader.`;
}

/** What is said aloud when an answer arrives. */
export function spokenAnswer(name, answer) {
  if (answer.status === "ok") return `${name}: ${answer.label}, ${percent(answer.probabilities[answer.label])}`;
  return `${name}: ${answer.status === "refused" ? "not judged" : "no answer"}. ${sentence(answer.message, answer.file)}`;
}

export function sourceLine({ image }) {
  return image ? `${image.source_format}, ${image.source_width} × ${image.source_height} px` : "";
}

export function modelLine(answer) {
  return [answer.artifact, answer.backend, answer.precision].filter(Boolean).join(" · ");
}

export function timingsLine(timings) {
  return Object.entries(timings)
    .filter(([step, value]) => step !== "wait" || value >= 1)
    .map(([step, value]) => `${step} ${value < 10 ? value.toFixed(1) : Math.round(value)} ms`)
    .join(" · ");
}

/**
 * The runtime's messages are also lines of a terminal: here they get a capital letter (but never a file's name)
 * and a full stop.
 */
export function sentence(text, fileName) {
  if (!text) return "";
  const named = fileName && text.startsWith(fileName);
  const whole = named ? text : text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

const SEXES = { F: "Female", M: "Male", O: "Other" };
const UNITS = { D: "day", W: "week", M: "month", Y: "year" };

/** [term, value] of the facts that identify nobody, in reading order. */
export function factRows(facts) {
  return [
    ["View", facts.view],
    ["Age", facts.age && age(facts.age)],
    ["Sex", SEXES[facts.sex] ?? facts.sex],
    ["Study date", facts.study_date && date(facts.study_date)],
    ["Modality", facts.modality],
    ["Body part", facts.body_part],
  ].filter(([, value]) => value);
}

/** DICOM age string "058Y" -> "58 years". */
function age(text) {
  const found = /^(\d{3})([DWMY])$/.exec(text);
  if (!found) return text;
  const count = Number(found[1]);
  return `${count} ${UNITS[found[2]]}${count === 1 ? "" : "s"}`;
}

/** DICOM date "20200317" -> "17 March 2020". */
function date(text) {
  const found = /^(\d{4})(\d{2})(\d{2})$/.exec(text);
  if (!found) return text;
  const day = new Date(Date.UTC(Number(found[1]), Number(found[2]) - 1, Number(found[3])));
  return day.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
}
