// What a DICOM header says about suitability: is this a frontal radiograph of the chest at all? Only clear statements
// refuse; what is absent or unknown passes with a note (edge_runtime/reading/dicom_suitability.py).

import { Refusal } from "./refusal.js";

const RADIOGRAPHY = new Set(["CR", "DX", "RG", "DR", "XR", "CRX"]);
const PERHAPS = new Set(["OT", "SC", "RF", "HC"]);
const STORAGE = "1.2.840.10008.5.1.4.1.1.";
const FOR_PROCESSING = `${STORAGE}1.1.1`;
const DIRECTORY = "1.2.840.10008.1.3.10";
const OTHER_CLASSES = [
  ["2", "a CT image"], ["4", "an MR image"], ["3", "an ultrasound image"], ["6", "an ultrasound image"],
  ["20", "a nuclear medicine image"], ["128", "a PET image"], ["130", "a PET image"], ["1.2", "a mammogram"],
  ["1.3", "a dental radiograph"], ["12", "an angiogram"], ["13", "a 3D X-ray image"],
  ["66", "a segmentation or registration"], ["30", "a parametric map"], ["77", "a photograph or microscopy image"],
  ["481", "a radiotherapy object"], ["88", "a report"], ["9", "a waveform"], ["11", "a presentation state"],
  ["104", "an encapsulated document"],
];
const CHEST = /CHEST|THORA|TORA[XC]|LUNG|PULM|POUMON|PECHO|BRUST|HEART|RIB|STERN|TRUNK|BABYGRAM|WHOLEBODY/;
const OTHER_PART = new RegExp(
  "ABDOM|PELVI|HIP|KNEE|HAND|WRIST|FOOT|FEET|ANKLE|ELBOW|SHOULDER|SKULL|HEAD|BRAIN|NECK|SPINE|SINUS|EXTREMIT|LEG|"
  + "ARM|FEMUR|TIBIA|FIBULA|HUMERUS|RADIUS|ULNA|FINGER|THUMB|TOE|JAW|MANDIB|MAXILL|TEETH|TOOTH|BREAST|CLAVIC|SCAPULA|"
  + "SACRUM|COCCYX|CALCAN|PATELLA|ORBIT|NASAL|BLADDER|KIDNEY|COLON|STOMACH|UTERUS|PROSTATE|LIVER");
const LATERAL = new Set(["L", "R", "LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "LATL", "LATR", "LTLAT", "RTLAT"]);
const OBLIQUE = new Set(["RLO", "LLO", "RAO", "LAO", "RPO", "LPO", "OBL", "OBLIQUE"]);

const upper = (dataSet, tag) => (dataSet.string(tag) ?? "").trim().toUpperCase();
const letters = (text) => text.replace(/[^A-Z]/g, "");
const meaning = (dataSet, tag) => (dataSet.elements[tag]?.items?.[0]?.dataSet?.string("x00080104") ?? "").trim();

/** @returns {string[]} notes about what the header leaves open */
export function checkSuitable(dataSet) {
  const notes = [...checkModality(dataSet), ...checkBodyPart(dataSet)];
  checkView(dataSet);
  if (upper(dataSet, "x00080068") === "FOR PROCESSING" || upper(dataSet, "x00080016") === FOR_PROCESSING) {
    notes.push("The image is marked FOR PROCESSING: it may lack the contrast that the model was trained on.");
  }
  return notes;
}

function notARadiograph(what, got) {
  return new Refusal("not_a_radiograph", `${what} (${got}).`, "Choose the study's frontal chest radiograph.");
}

function checkModality(dataSet) {
  const sopClass = upper(dataSet, "x00080016") || upper(dataSet, "x00020002");
  if (sopClass === DIRECTORY) throw notARadiograph("The file is the index of a DICOM disc, not an image", "a DICOMDIR");
  const modality = upper(dataSet, "x00080060");
  const no = "The header says that this is no projection radiograph";
  if (modality && !RADIOGRAPHY.has(modality) && !PERHAPS.has(modality)) throw notARadiograph(no, `modality ${modality}`);
  if (sopClass.startsWith(STORAGE)) {
    const kind = sopClass.slice(STORAGE.length);
    const other = OTHER_CLASSES.find(([start]) => kind === start || kind.startsWith(`${start}.`));
    if (other && !kind.startsWith("12.2")) throw notARadiograph(no, other[1]);
  }
  if (RADIOGRAPHY.has(modality)) return [];
  return [`The header does not say that this is a projection radiograph (modality ${modality || "absent"}).`];
}

function checkBodyPart(dataSet) {
  const part = (dataSet.string("x00180015") ?? "").trim() || meaning(dataSet, "x00082218");
  const said = letters(part.toUpperCase());
  if (!said || (CHEST.test(said) && !said.includes("SPINE"))) return [];
  if (OTHER_PART.test(said)) throw notARadiograph("The header names another part of the body", `body part ${part}`);
  return [`The header names an unknown part of the body (${part}).`];
}

function checkView(dataSet) {
  const view = upper(dataSet, "x00185101");
  const code = meaning(dataSet, "x00540220");
  let found = "";
  if (view) {
    const said = letters(view);
    const lateral = LATERAL.has(said) || (/^(LAT|LEFTLAT|RIGHTLAT)/.test(said) && !said.includes("DEC"));
    if (lateral || OBLIQUE.has(said)) found = `view position ${view}`;
  } else if (code) {
    const words = code.toLowerCase();
    if ((words.includes("lateral") && !words.includes("decubitus")) || words.includes("oblique")) found = `view ${code}`;
  }
  if (!found && !view) {
    // PS3.3 C.7.6.1.1.1, the rows' direction: to the patient's front or back is a view from the side.
    const orientation = upper(dataSet, "x00200020");
    if (/^[AP]/.test(orientation)) found = `patient orientation ${orientation}`;
  }
  if (found) {
    throw new Refusal("lateral_view", `The header says that this is not a frontal view (${found}).`,
      "Choose the study's frontal view, PA or AP.");
  }
}
