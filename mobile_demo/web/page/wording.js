// How numbers, sizes and header facts read.

const CLOSE = 0.15; // two classes nearer than this are not told apart
const MB = 1e6;

/** 0.7149 -> "71 %"; never "0 %" or "100 %" for what is neither. */
export function percent(fraction) {
  const rounded = Math.round(fraction * 100);
  if (fraction > 0 && rounded === 0) return "< 1 %";
  if (fraction < 1 && rounded === 100) return "> 99 %";
  return `${rounded} %`;
}

export const megabytes = (bytes) => `${(bytes / MB).toFixed(bytes < 10 * MB ? 1 : 0)} MB`;

export const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

const SUPERSCRIPTS = { "-": "\u207b", 0: "\u2070", 1: "\u00b9", 2: "\u00b2", 3: "\u00b3", 4: "\u2074", 5: "\u2075", 6: "\u2076", 7: "\u2077", 8: "\u2078", 9: "\u2079" };

/** 0.0000314 -> "3.1 × 10⁻⁵" */
export function small(value) {
  if (value === 0 || value >= 0.01) return String(Number(value.toFixed(3)));
  const [digits, exponent] = value.toExponential(1).split("e");
  return `${digits}\u00a0×\u00a010${Array.from(exponent, (sign) => SUPERSCRIPTS[sign]).join("")}`;
}

/** A sentence where the first two classes are close, or "". */
export function caution(labels, probabilities) {
  const [first, second] = labels.map((label, index) => [label, probabilities[index]]).sort((a, b) => b[1] - a[1]);
  return first[1] - second[1] < CLOSE ? `Unsure: ${first[0]} and ${second[0]} are close. Ask a reader.` : "";
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
