// A file to grey pixels, by its content; the same refusals as the runtime's reader (docs/reading.md).

import { readDicom } from "./dicom.js";
import { decodePicture } from "./picture.js";
import { kindOf } from "./picture_header.js";
import { LAPTOP, Refusal } from "./refusal.js";

const MIB = 1024 * 1024;
export const MOST_BYTES = 128 * MIB;
const SHORTEST_EDGE = 128;

/**
 * @typedef {object} Radiograph
 * @property {Uint8Array} pixels grey, 0 black, row by row
 * @property {number} width
 * @property {number} height
 * @property {string} kind DICOM, PNG or JPEG
 * @property {object} facts header facts; empty for a plain image
 * @property {string[]} notes plain sentences that the answer carries
 */

/** @param {File} file @returns {Promise<Radiograph>} */
export async function readRadiograph(file) {
  if (file.size > MOST_BYTES) {
    throw new Refusal("too_large", `The file is larger than ${MOST_BYTES / MIB} MiB.`, LAPTOP);
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  const kind = kindOf(bytes);
  if (kind === null) {
    throw new Refusal("unreadable", "This page reads DICOM, PNG and JPEG; the file is none of them.",
      `Choose the radiograph itself. ${LAPTOP}`);
  }
  const read = kind === "DICOM" ? await readDicom(bytes) : await decodePicture(bytes, kind);
  if (Math.min(read.width, read.height) < SHORTEST_EDGE) {
    throw new Refusal("too_small", `The image has ${read.width} × ${read.height} pixels: too few to be judged.`,
      "Export the radiograph itself, not its preview or icon.");
  }
  if (isEven(read.pixels)) {
    throw new Refusal("no_contrast", "The image is one even grey.", "Export the image again.");
  }
  return { kind, facts: {}, ...read };
}

function isEven(pixels) {
  return pixels.every((value) => value === pixels[0]);
}
