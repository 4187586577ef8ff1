// Width, height and depth of a PNG or JPEG from its first segments, before anything is decoded.

import { LAPTOP, Refusal } from "./refusal.js";

/** A canvas of more pixels than this is refused or emptied by some phones' browsers. */
export const MOST_PICTURE_PIXELS = 4096 * 4096;

const START_OF_FRAME = new Set([0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf]);

const starts = (bytes, magic) => magic.every((value, index) => bytes[index] === value);

/** @returns {"DICOM"|"PNG"|"JPEG"|null} judged by content, never by name */
export function kindOf(bytes) {
  if (bytes.length > 132 && String.fromCharCode(...bytes.subarray(128, 132)) === "DICM") return "DICOM";
  if (starts(bytes, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return "PNG";
  if (starts(bytes, [0xff, 0xd8, 0xff])) return "JPEG";
  return null;
}

/** @returns {{width: number, height: number, bits: number, components: number}} */
export function pictureHeader(bytes, kind) {
  const header = kind === "PNG" ? pngHeader(bytes) : jpegHeader(bytes);
  if (!header) throw damaged(kind);
  return header;
}

export function damaged(kind) {
  return new Refusal("unreadable", `The file is a damaged or truncated ${kind} image.`, "Copy or export the file again.");
}

/** Refuses, before anything is allocated, what a phone's browser cannot decode to exact grey. */
export function checkPicture({ width, height, bits, components }, kind) {
  if (width < 1 || height < 1) throw damaged(kind);
  if (width * height > MOST_PICTURE_PIXELS) {
    throw new Refusal("too_large", `The image claims ${width} × ${height} pixels, more than this page decodes.`, LAPTOP);
  }
  if (bits > 8) throw new Refusal("unreadable", `The image has ${bits} bits a pixel; browsers keep only 8 of them.`, LAPTOP);
  if (components === 4 && kind === "JPEG") {
    throw new Refusal("unreadable", "The image is made for printing (CMYK).", LAPTOP);
  }
}

function pngHeader(bytes) {
  if (bytes.length < 33 || String.fromCharCode(...bytes.subarray(12, 16)) !== "IHDR") return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const components = { 0: 1, 2: 3, 3: 3, 4: 2, 6: 4 }[bytes[25]] ?? 0;
  return { width: view.getUint32(16), height: view.getUint32(20), bits: bytes[24], components };
}

function jpegHeader(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let place = 2;
  while (place + 9 < bytes.length) {
    if (bytes[place] !== 0xff) return null;
    const marker = bytes[place + 1];
    if (marker === 0xff) { place += 1; continue; } // fill bytes
    if (START_OF_FRAME.has(marker)) {
      return {
        bits: bytes[place + 4],
        height: view.getUint16(place + 5),
        width: view.getUint16(place + 7),
        components: bytes[place + 9],
      };
    }
    if (marker === 0xda || marker === 0xd9) return null;
    place += 2 + view.getUint16(place + 2);
  }
  return null;
}
