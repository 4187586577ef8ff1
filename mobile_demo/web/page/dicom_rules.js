// What a DICOM header says about turning stored values into grey (edge_runtime/reading/dicom_grey_rules.py).

import { lookupTable, rescale, windowing } from "./dicom_grey.js";
import { Refusal } from "./refusal.js";

const TAG = {
  paddingValue: "x00280120", paddingLimit: "x00280121",
  intercept: "x00281052", slope: "x00281053", modalityLut: "x00283000",
  center: "x00281050", width: "x00281051", voiFunction: "x00281056", voiLut: "x00283010",
  lutDescriptor: "x00283002", lutData: "x00283006", presentationShape: "x20500020",
};

/** All numbers of a decimal-string element; what is no number is left out. */
function decimals(dataSet, tag) {
  const text = dataSet.string(tag) ?? "";
  return text.split("\\").map((part) => (part.trim() === "" ? NaN : Number(part))).filter((value) => !Number.isNaN(value));
}

/**
 * @param {object} dataSet of dicom-parser
 * @param {{photometric: string, signed: boolean, littleEndian: boolean}} image
 * @returns {{rules: object, notes: string[]}}
 */
export function greyRules(dataSet, { photometric, signed, littleEndian }) {
  const notes = [];
  const { modality, negative } = modalityRule(dataSet, signed, littleEndian);
  const voi = voiRule(dataSet, negative, littleEndian, notes);
  const shape = (dataSet.string(TAG.presentationShape) ?? "").trim().toUpperCase();
  if (!["", "IDENTITY", "INVERSE"].includes(shape)) {
    notes.push(`Presentation LUT Shape ${shape} is unknown and was not applied.`);
  }
  const inverted = photometric === "MONOCHROME1" || shape === "INVERSE";
  return { rules: { padding: paddingRule(dataSet, signed), modality, voi, inverted }, notes };
}

/** A US-or-SS value with the signedness of the pixels; writers confuse the two. */
function asPixel(value, signed) {
  if (signed && value > 0x7fff) return value - 0x10000;
  return value;
}

function paddingRule(dataSet, signed) {
  const value = dataSet.uint16(TAG.paddingValue);
  if (value === undefined) return null;
  const limit = dataSet.uint16(TAG.paddingLimit) ?? value;
  return [asPixel(value, signed), asPixel(limit, signed)].sort((a, b) => a - b);
}

function firstItem(dataSet, tag) {
  return dataSet.elements[tag]?.items?.[0]?.dataSet;
}

function modalityRule(dataSet, signed, littleEndian) {
  const item = firstItem(dataSet, TAG.modalityLut);
  if (item) return { modality: readTable(item, signed, littleEndian).look, negative: signed };
  const [slope] = decimals(dataSet, TAG.slope);
  const [intercept] = decimals(dataSet, TAG.intercept);
  if ((slope ?? 1) === 1 && (intercept ?? 0) === 0) return { modality: null, negative: signed };
  // Rescaling can make negative values of unsigned pixels, and a VOI LUT counts in those.
  return { modality: rescale(slope ?? 1, intercept ?? 0), negative: signed || (intercept ?? 0) < 0 };
}

function voiRule(dataSet, negative, littleEndian, notes) {
  const items = dataSet.elements[TAG.voiLut]?.items ?? [];
  if (items.length) {
    if (items.length > 1) notes.push(`VOI LUT 1 of ${items.length} was used.`);
    const { look, maximum } = readTable(items[0].dataSet, negative, littleEndian);
    return (value) => look(value) / maximum;
  }
  if (!(dataSet.string(TAG.center) ?? "").trim()) {
    notes.push("The header has no window: the full range of the pixel values is shown.");
    return null;
  }
  let kind = (dataSet.string(TAG.voiFunction) ?? "LINEAR").trim().toUpperCase() || "LINEAR";
  if (!["LINEAR", "LINEAR_EXACT", "SIGMOID"].includes(kind)) {
    throw new Refusal("unreadable", `The header asks for a window function that DICOM does not define (${kind}).`);
  }
  const centers = decimals(dataSet, TAG.center);
  const widths = decimals(dataSet, TAG.width);
  const count = Math.min(centers.length, widths.length);
  if (!count) {
    notes.push("The header's window cannot be used: the full range of the pixel values is shown.");
    return null;
  }
  const [center, width] = [centers[0], widths[0]];
  if (count > 1) notes.push(`Window 1 of ${count} was used (center ${center}, width ${width}).`);
  if (!(Number.isFinite(center) && Number.isFinite(width) && width > 0)) {
    notes.push(`The header's window has the invalid width ${width}: the full range is shown.`);
    return null;
  }
  if (kind === "LINEAR" && width < 1) { // C.11.2.1.2.1 forbids it; the exact form says what was meant
    notes.push(`The header's window is narrower than 1 (${width}): read as LINEAR_EXACT.`);
    kind = "LINEAR_EXACT";
  }
  return windowing(center, width, kind);
}

/** LUT Descriptor (entries, where 0 is 65,536; first input; bits) and LUT Data, PS3.3 C.11.1.1.1. */
function readTable(item, signed, littleEndian) {
  const descriptor = item.elements[TAG.lutDescriptor];
  const data = item.elements[TAG.lutData];
  if (!descriptor || descriptor.length < 6 || !data) throw badTable();
  const count = item.uint16(TAG.lutDescriptor, 0) || 0x10000;
  const first = asPixel(item.uint16(TAG.lutDescriptor, 1), signed);
  const bits = item.uint16(TAG.lutDescriptor, 2);
  if (bits < 1 || bits > 16) throw badTable();
  const bytes = item.byteArray.subarray(data.dataOffset, data.dataOffset + data.length);
  let entries;
  if (bytes.length >= 2 * count) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    entries = Uint16Array.from({ length: count }, (_, index) => view.getUint16(2 * index, littleEndian));
  } else if (bytes.length >= count && bits <= 8) { // packed, two entries to a word
    entries = bytes.subarray(0, count);
  } else {
    throw badTable();
  }
  // Some writers state fewer bits than their entries have.
  const maximum = entries.reduce((most, entry) => Math.max(most, entry), 2 ** bits - 1);
  return { look: lookupTable(first, entries), maximum };
}

function badTable() {
  return new Refusal("unreadable", "A lookup table in the header is damaged.", "Export the image again.");
}
