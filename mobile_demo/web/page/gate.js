// What the bundle refuses to judge, and which classes it cannot rule out: its gate and its prediction sets
// (docs/refusing.md). The scores come from the graph; nothing is computed here.

import { Failure, Refusal } from "./refusal.js";

const REFUSALS = {
  not_a_radiograph: ["The picture does not look like a frontal chest radiograph.", "Choose the study's frontal chest radiograph."],
  lateral_view: ["The picture looks like a view from the side.", "Choose the study's frontal view, PA or AP."],
  inverted: ["The picture looks like a negative.", "Export the radiograph with bone bright and air dark."],
  rotated: ["The picture looks turned.", "Turn the radiograph upright."],
};
const YEARS = { D: 1 / 365.25, W: 7 / 365.25, M: 1 / 12, Y: 1 };

/**
 * Refuses a patient whom the model was not made for, where the header tells the age.
 * @param {object|null} gate the manifest's section
 * @param {object} facts of the header
 */
export function checkAge(gate, facts) {
  const youngest = gate?.minimum_age_years ?? null;
  const found = /^(\d{3})([DWMY])$/.exec(facts.age ?? "");
  if (youngest === null || !found || Number(found[1]) === 0) return;
  if (Number(found[1]) * YEARS[found[2]] >= youngest) return;
  throw new Refusal("child_under_limit", `The patient is younger than ${youngest} years: the model was not made for children.`,
    "Have a reader judge it.");
}

/**
 * Refuses what the gate refuses: from the threshold on the score's whole part names the reason.
 * @param {object|null} gate
 * @param {number} score
 */
export function checkGate(gate, score) {
  if (gate === null) return;
  if (!Number.isFinite(score)) {
    throw new Failure("The model gave a gate score that is not a number.", "Choose another artifact, or use the laptop.");
  }
  if (score < gate.threshold) return;
  const reason = gate.reasons[Math.floor(score) - 1] ?? "not_a_radiograph";
  throw new Refusal(reason, ...REFUSALS[reason]);
}

/** The labels that cannot be ruled out; null where the bundle has no prediction sets. */
export function predictionSet(conformal, labels, probabilities) {
  if (conformal === null) return null;
  return labels.filter((label, index) => probabilities[index] >= conformal.thresholds[label]);
}

/** The sentence that asks for a reader, or "". */
export function referral(conformal, set) {
  if (set === null || set.length === 1) return "";
  if (set.length === 0) return "Refer to a reader: the radiograph is like none of the classes.";
  const several = `${set.slice(0, -1).join(", ")} and ${set.at(-1)}`;
  return `Refer to a reader: ${several} cannot be told apart (at ${Math.round(conformal.coverage * 100)} % coverage).`;
}
