// The model, in a thread of its own so that the page stays awake. It takes grey pixels and returns the five outputs.

import * as ort from "./vendor/onnxruntime-web/ort.wasm.min.mjs";

let session = null;

async function open({ runtime, model, threads }) {
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: new URL("./vendor/onnxruntime-web/ort-wasm-simd-threaded.mjs", import.meta.url).href };
  ort.env.wasm.wasmBinary = runtime;
  session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
    logSeverityLevel: 3,
  });
  return { inputs: session.inputNames, outputs: session.outputNames, versions: ort.env.versions.web };
}

async function run({ pixels, height, width }) {
  const image = new ort.Tensor("uint8", new Uint8Array(pixels), [1, 1, height, width]);
  const start = performance.now();
  const results = await session.run({ image });
  const milliseconds = performance.now() - start;
  const outputs = {};
  for (const [name, tensor] of Object.entries(results)) {
    outputs[name] = { dims: [...tensor.dims], type: tensor.type, data: tensor.data.slice() };
    tensor.dispose();
  }
  image.dispose();
  return { outputs, milliseconds };
}

const calls = { open, run };

addEventListener("message", async ({ data: { id, call, argument } }) => {
  try {
    postMessage({ id, result: await calls[call](argument) });
  } catch (error) {
    postMessage({ id, failed: String(error?.message ?? error).split("\n")[0].slice(0, 300) });
  }
});
