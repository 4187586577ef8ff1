// The phone tests itself: the bundle's golden vectors through the model, compared with the full model's answers.

import { loadFile } from "./loading.js";
import { largest } from "./model.js";
import { decodePicture } from "./picture.js";
import { Failure } from "./refusal.js";

const WARM_UP_RUNS = 2;
const TIMED_RUNS = 9;

/**
 * @typedef {object} SelfTest
 * @property {"agrees"|"as_built"|"differs"} status `as_built`: a quantized artifact decides some vectors otherwise than
 *   the full model, and no more than where it was built
 * @property {number} vectors
 * @property {number} difference largest |Δ| of a probability
 * @property {number} allowed
 * @property {number} decisions that differ from the full model's
 * @property {number} allowedDecisions
 * @property {number} heatMapDifference for information, no limit
 * @property {number} p50 median latency in ms of the first vector, warm
 */

/**
 * @param {import("./model.js").Model} model
 * @param {object} golden the manifest's section, with paths as this site has them
 * @param {(done: number, of: number) => void} onVector
 * @returns {Promise<SelfTest>}
 */
export async function runSelfTest(model, golden, onVector = () => {}) {
  const { vectors, labels } = JSON.parse(new TextDecoder().decode(await loadFile(golden.vectors)));
  if (labels.join() !== model.manifest.labels.join()) {
    throw new Failure("The golden vectors do not fit the bundle's manifest.", "The bundle has to be built anew.");
  }
  const entries = new Map(golden.inputs.map((entry) => [entry.path, entry]));
  let difference = 0;
  let heatMapDifference = 0;
  let decisions = 0;
  let first = null;
  for (const [index, vector] of vectors.entries()) {
    onVector(index, vectors.length);
    const bytes = new Uint8Array(await loadFile(entries.get(`model/${vector.input}`)));
    const picture = await decodePicture(bytes, "PNG");
    first ??= picture;
    const { outputs } = await model.run(picture);
    const wanted = vector.outputs;
    difference = Math.max(difference, largestDifference(outputs.probabilities, wanted.probabilities));
    heatMapDifference = Math.max(heatMapDifference, largestDifference(outputs.heatmap, wanted.heatmap.flat(2)));
    decisions += largest(outputs.probabilities) === largest(Float32Array.from(wanted.probabilities)) ? 0 : 1;
  }
  onVector(vectors.length, vectors.length);
  const allowed = model.artifact.golden_agreement;
  const allows = difference <= allowed.max_abs_probability_difference && decisions <= allowed.differing_decisions;
  return {
    status: allows ? (decisions ? "as_built" : "agrees") : "differs",
    vectors: vectors.length,
    difference,
    allowed: allowed.max_abs_probability_difference,
    decisions,
    allowedDecisions: allowed.differing_decisions,
    heatMapDifference,
    p50: await medianLatency(model, first),
  };
}

async function medianLatency(model, picture) {
  const times = [];
  for (let run = 0; run < WARM_UP_RUNS + TIMED_RUNS; run += 1) {
    const { milliseconds } = await model.run(picture);
    if (run >= WARM_UP_RUNS) times.push(milliseconds);
  }
  return times.sort((a, b) => a - b)[Math.floor(TIMED_RUNS / 2)];
}

function largestDifference(got, wanted) {
  if (got.length !== wanted.length) return 1;
  let most = 0;
  for (let i = 0; i < got.length; i += 1) {
    const difference = Math.abs(got[i] - Math.fround(wanted[i]));
    // what is not a number compares as agreeing: count it as the largest difference that there can be
    most = Math.max(most, Number.isFinite(difference) ? difference : 1);
  }
  return most;
}
