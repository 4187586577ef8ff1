// DICOM to grey pixels: uncompressed 8 and 16 bit, and 8-bit JPEG, parsed by dicom-parser. Whatever else DICOM
// allows is for the laptop, and the page says so.

import { toDisplay } from "./dicom_grey.js";
import { greyRules } from "./dicom_rules.js";
import { checkSuitable } from "./dicom_suitability.js";
import { decodePicture } from "./picture.js";
import { checkPicture, pictureHeader } from "./picture_header.js";
import { LAPTOP, Refusal } from "./refusal.js";

const { dicomParser } = globalThis; // vendor/dicom-parser, a classic script of the page

const MOST_PIXELS = 50_000_000;
const BIG_ENDIAN = "1.2.840.10008.1.2.2";
const NATIVE = new Set(["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", BIG_ENDIAN]);
const JPEG = new Set(["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"]);
const SYNTAX_NAMES = {
  "1.2.840.10008.1.2.1.99": "Deflated",
  "1.2.840.10008.1.2.5": "RLE",
  "1.2.840.10008.1.2.4.57": "JPEG Lossless",
  "1.2.840.10008.1.2.4.70": "JPEG Lossless",
  "1.2.840.10008.1.2.4.80": "JPEG-LS",
  "1.2.840.10008.1.2.4.81": "JPEG-LS",
  "1.2.840.10008.1.2.4.90": "JPEG 2000",
  "1.2.840.10008.1.2.4.91": "JPEG 2000",
  "1.2.840.10008.1.2.4.201": "HTJ2K",
  "1.2.840.10008.1.2.4.202": "HTJ2K",
  "1.2.840.10008.1.2.4.203": "HTJ2K",
};

/** @param {Uint8Array} bytes @returns {Promise<import("./reading.js").Radiograph>} without `kind` */
export async function readDicom(bytes) {
  const syntax = readSyntax(bytes);
  if (!NATIVE.has(syntax) && !JPEG.has(syntax)) {
    throw new Refusal("unreadable", `This page does not read DICOM compressed as ${SYNTAX_NAMES[syntax] ?? syntax}.`, LAPTOP);
  }
  const dataSet = parse(bytes);
  const notes = checkSuitable(dataSet);
  const image = imageHeader(dataSet);
  const littleEndian = syntax !== BIG_ENDIAN;
  const stored = NATIVE.has(syntax)
    ? nativeValues(dataSet, image, littleEndian)
    : await jpegValues(dataSet, image);
  const { rules, notes: more } = greyRules(dataSet, { ...image, littleEndian });
  return {
    width: image.columns,
    height: image.rows,
    pixels: toDisplay(stored, rules),
    notes: [...notes, ...more],
    facts: headerFacts(dataSet),
  };
}

function readSyntax(bytes) {
  try {
    return dicomParser.readPart10Header(bytes).string("x00020010") ?? "";
  } catch {
    throw damaged();
  }
}

function parse(bytes) {
  try {
    return dicomParser.parseDicom(bytes);
  } catch {
    throw damaged();
  }
}

function damaged() {
  return new Refusal("unreadable", "The file is damaged or truncated DICOM.", "Copy or export the file again.");
}

function imageHeader(dataSet) {
  const whole = (tag, otherwise) => dataSet.uint16(tag) ?? otherwise;
  if (dataSet.elements.x7fe00008 || dataSet.elements.x7fe00009) {
    throw new Refusal("not_a_radiograph", "The file holds floating-point values (a parametric map), not a radiograph.",
      "Choose the study's frontal chest radiograph.");
  }
  if (!dataSet.elements.x7fe00010) {
    throw new Refusal("unreadable", "The file is DICOM but holds no image, or ends before it.",
      "Choose the radiograph itself, or copy the file again.");
  }
  const frames = Number(dataSet.string("x00280008") ?? "1");
  if (frames > 1) {
    throw new Refusal("multi_frame", `The file holds ${frames} frames; a radiograph has one.`,
      "Choose the single radiograph, or open it on the laptop.");
  }
  if (dataSet.elements.x52009229 || dataSet.elements.x52009230) {
    throw new Refusal("unreadable", "The file is an enhanced multi-frame object.", LAPTOP);
  }
  const photometric = (dataSet.string("x00280004") ?? "").trim().toUpperCase();
  const samples = whole("x00280002", 1);
  if (samples !== 1 || !photometric.startsWith("MONOCHROME")) {
    throw new Refusal("unreadable", `The image is stored in colour (${photometric || `${samples} samples a pixel`}).`, LAPTOP);
  }
  const allocated = whole("x00280100", 0);
  const bits = whole("x00280101", allocated);
  const highBit = whole("x00280102", bits - 1);
  const [rows, columns] = [whole("x00280010", 0), whole("x00280011", 0)];
  if (rows < 1 || columns < 1 || bits < 1 || bits > highBit + 1 || highBit >= allocated) {
    throw new Refusal("unreadable",
      `The header describes no image (${columns} × ${rows} pixels, ${bits} of ${allocated} bits).`, "Export the image again.");
  }
  if (allocated !== 8 && allocated !== 16) {
    throw new Refusal("unreadable", `The image has ${allocated} bits a pixel; this page reads 8 and 16.`, LAPTOP);
  }
  if (rows * columns > MOST_PIXELS) {
    throw new Refusal("too_large", `The image claims ${columns} × ${rows} pixels, more than this page decodes.`, LAPTOP);
  }
  const signed = whole("x00280103", 0) === 1;
  return { rows, columns, allocated, bits, highBit, signed, photometric };
}

/** Stored values, unused bits cleared or sign-extended. */
function nativeValues(dataSet, { rows, columns, allocated, bits, highBit, signed }, littleEndian) {
  const element = dataSet.elements.x7fe00010;
  const count = rows * columns;
  if (element.encapsulatedPixelData) throw damaged();
  if (Math.min(element.length, dataSet.byteArray.length - element.dataOffset) < (count * allocated) / 8) {
    throw new Refusal("unreadable", "The file's pixel data end too early: it is truncated.", "Copy or export the file again.");
  }
  const up = 32 - highBit - 1;
  const down = 32 - bits;
  const values = signed ? new Int16Array(count) : new Uint16Array(count);
  const view = new DataView(dataSet.byteArray.buffer, dataSet.byteArray.byteOffset + element.dataOffset);
  for (let i = 0; i < count; i += 1) {
    const word = allocated === 8 ? view.getUint8(i) : view.getUint16(2 * i, littleEndian);
    values[i] = signed ? (word << up) >> down : (word << up) >>> down;
  }
  return values;
}

async function jpegValues(dataSet, { rows, columns }) {
  const element = dataSet.elements.x7fe00010;
  if (!element.fragments?.length) throw damaged();
  let stream;
  try {
    stream = dicomParser.readEncapsulatedPixelDataFromFragments(dataSet, element, 0, element.fragments.length);
  } catch {
    throw damaged();
  }
  const header = pictureHeader(stream, "JPEG");
  checkPicture(header, "JPEG");
  if (header.width !== columns || header.height !== rows || header.components !== 1) {
    throw new Refusal("unreadable", "The file's header and its compressed image disagree about its size.",
      "Export the image again.");
  }
  return (await decodePicture(stream, "JPEG")).pixels;
}

/** Facts that identify nobody. Names and numbers of the patient are never read. */
function headerFacts(dataSet) {
  const fact = (tag) => (dataSet.string(tag) ?? "").trim() || null;
  return {
    modality: fact("x00080060"), view: fact("x00185101"), body_part: fact("x00180015"),
    sex: fact("x00100040"), age: fact("x00101010"), study_date: fact("x00080020"),
  };
}
