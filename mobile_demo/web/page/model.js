// The page's side of the model: opens an artifact in a worker, runs pixels, checks what comes back against the manifest.

import { Failure } from "./refusal.js";

const MOST_THREADS = 4; // phones have few fast cores; more threads wait for slow ones

/** Threads need SharedArrayBuffer, which a browser gives only to pages served with COOP and COEP. */
export function threadsHere() {
  return globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
}

export class Model {
  /**
   * @param {object} manifest of the bundle
   * @param {object} artifact of the manifest
   */
  constructor(manifest, artifact) {
    this.manifest = manifest;
    this.artifact = artifact;
    this.threads = threadsHere();
    this.version = "";
    this.calls = new Map();
    this.serial = 0;
    this.worker = new Worker(new URL("./model_worker.js", import.meta.url), { type: "module", name: "model" });
    this.worker.addEventListener("message", ({ data }) => {
      const call = this.calls.get(data.id);
      this.calls.delete(data.id);
      if ("failed" in data) call?.reject(new Failure(`The model failed on this phone (${data.failed}).`, "Load the page again, or use the laptop."));
      else call?.resolve(data.result);
    });
    this.worker.addEventListener("error", (event) => {
      event.preventDefault();
      const failure = new Failure(`The model stopped on this phone (${event.message || "the browser gave no reason"}).`,
        "Load the page again; close other pages if memory is short.");
      for (const call of this.calls.values()) call.reject(failure);
      this.calls.clear();
    });
  }

  /** @param {ArrayBuffer} runtime the wasm file @param {ArrayBuffer} model the artifact; both are handed over */
  async open(runtime, model) {
    const opened = await this.call("open", { runtime, model, threads: this.threads }, [runtime, model]);
    const wanted = this.manifest.outputs.map((output) => output.name);
    if (opened.inputs.join() !== this.manifest.input.name || wanted.some((name) => !opened.outputs.includes(name))) {
      throw new Failure(`${this.artifact.name} has other inputs or outputs than its manifest says.`, "The bundle has to be built anew.");
    }
    this.version = opened.versions;
  }

  /**
   * Answers for a radiograph. Nothing but the pixels goes in: resize and normalisation are in the graph.
   * @param {{pixels: Uint8Array, height: number, width: number}} radiograph
   * @returns {Promise<{outputs: Object<string, Float32Array>, milliseconds: number}>}
   */
  async run({ pixels, height, width }) {
    const copy = pixels.slice().buffer;
    const { outputs, milliseconds } = await this.call("run", { pixels: copy, height, width }, [copy]);
    const plain = {};
    for (const { name, shape } of this.manifest.outputs) {
      const output = outputs[name];
      if (output?.type !== "float32" || output.dims.join() !== shape.join()) {
        throw new Failure(`${this.artifact.name}: output ${name} is not what the manifest says.`, "The bundle has to be built anew.");
      }
      plain[name] = output.data;
    }
    if (!plain.probabilities.every(Number.isFinite)) {
      throw new Failure(`${this.artifact.name} gave probabilities that are not numbers.`, "Choose another artifact, or use the laptop.");
    }
    return { outputs: plain, milliseconds };
  }

  close() {
    this.worker.terminate();
    const failure = new Failure("The model was closed.");
    for (const call of this.calls.values()) call.reject(failure);
    this.calls.clear();
  }

  call(call, argument, transfer) {
    this.serial += 1;
    const id = this.serial;
    return new Promise((resolve, reject) => {
      this.calls.set(id, { resolve, reject });
      this.worker.postMessage({ id, call, argument }, transfer);
    });
  }
}

/** Index of the largest value; of equals the first, as the runtime decides. */
export function largest(values) {
  return values.reduce((best, value, index) => (value > values[best] ? index : best), 0);
}
