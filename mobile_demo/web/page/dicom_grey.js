// From stored values to 8-bit grey: the greyscale pipeline of DICOM PS3.3, step by step as the runtime has it
// (edge_runtime/reading/dicom_grey.py). Every step maps a value to a value, so it runs on a table of values.

import { Refusal } from "./refusal.js";

const clip = (value, low, high) => Math.min(high, Math.max(low, value));

/** Rounds halves to the even neighbour, as the runtime does. */
function rint(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** Rescale Slope and Intercept, PS3.3 C.11.1.1.2. */
export const rescale = (slope, intercept) => (value) => value * slope + intercept;

/**
 * A Modality or VOI LUT, PS3.3 C.11.1.1 and C.11.2.1.1.
 * @param {number} first input of the first entry
 * @param {ArrayLike<number>} entries
 */
export const lookupTable = (first, entries) => (value) => entries[clip(rint(value) - first, 0, entries.length - 1)];

/**
 * A window as a fraction, 0 black to 1 white: PS3.3 C.11.2.1.2 and C.11.2.1.3.
 * @param {"LINEAR"|"LINEAR_EXACT"|"SIGMOID"} kind
 */
export function windowing(center, width, kind) {
  if (kind === "SIGMOID") return (value) => 1 / (1 + Math.exp(clip((-4 * (value - center)) / width, -700, 700)));
  const shift = kind === "LINEAR" ? 0.5 : 0;
  const [middle, span] = [center - shift, width - 2 * shift];
  if (span === 0) return (value) => (value > middle ? 1 : 0);
  return (value) => clip((value - middle) / span + 0.5, 0, 1);
}

/**
 * @param {Int32Array|Uint16Array|Int16Array|Uint8Array} stored
 * @param {{padding: number[]|null, modality: Function|null, voi: Function|null, inverted: boolean}} rules
 *   `padding` is inclusive; `voi` maps modality values to a fraction of white, null is the full range
 * @returns {Uint8Array} 0 black, padding 0
 */
export function toDisplay(stored, rules) {
  let low = stored[0];
  let high = stored[0];
  for (const value of stored) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const occurs = new Uint8Array(high - low + 1);
  for (const value of stored) occurs[value - low] = 1;
  const table = displayValues(low, occurs, rules);
  const shown = new Uint8Array(stored.length);
  for (let i = 0; i < stored.length; i += 1) shown[i] = table[stored[i] - low];
  return shown;
}

function displayValues(low, occurs, { padding, modality, voi, inverted }) {
  const count = occurs.length;
  const isPadding = (value) => padding !== null && value >= padding[0] && value <= padding[1];
  const meant = new Float64Array(count);
  for (let i = 0; i < count; i += 1) meant[i] = modality ? modality(low + i) : low + i;
  let fraction = voi;
  if (!fraction) {
    let darkest = Infinity;
    let brightest = -Infinity;
    for (let i = 0; i < count; i += 1) {
      if (!occurs[i] || isPadding(low + i)) continue;
      darkest = Math.min(darkest, meant[i]);
      brightest = Math.max(brightest, meant[i]);
    }
    if (!(brightest > darkest)) throw noContrast();
    fraction = (value) => clip((value - darkest) / (brightest - darkest), 0, 1);
  }
  const table = new Uint8Array(count);
  const seen = new Set();
  for (let i = 0; i < count; i += 1) {
    if (isPadding(low + i)) continue;
    const white = fraction(meant[i]);
    table[i] = rint(255 * (inverted ? 1 - white : white));
    if (occurs[i]) seen.add(table[i]);
  }
  if (seen.size < 2) throw noContrast();
  return table;
}

function noContrast() {
  return new Refusal("no_contrast", "The image is one even grey.",
    "Check the exposure and the window, and export the image again.");
}
