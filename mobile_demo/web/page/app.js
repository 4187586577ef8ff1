// The page: gets the model onto the phone once, has the phone test itself, then answers the files it is given.

import { Palette } from "./clinic/heat_map.js";
import { Card } from "./card.js";
import { checkAge, checkGate } from "./gate.js";
import { areKept, loadFile } from "./loading.js";
import { Model } from "./model.js";
import { picturesAreExact } from "./picture.js";
import { readRadiograph } from "./reading.js";
import { Failure } from "./refusal.js";
import { runSelfTest } from "./self_test.js";
import { megabytes, milliseconds, small } from "./wording.js";

const CHOICE = "cxr artifact";
const element = (id) => document.getElementById(id);
const announce = (text) => { element("announcements").textContent = text; };

const page = { site: null, manifest: null, model: null, palette: null, turn: Promise.resolve() };

// ---- getting ready

async function start() {
  if (!isSecureContext || !("serviceWorker" in navigator) || !globalThis.crypto?.subtle) {
    throw new Failure("This page needs an encrypted address (https) or this very machine (localhost): without it a browser "
      + "keeps nothing and checks nothing.", "Open it through https.");
  }
  if (!picturesAreExact()) {
    throw new Failure("This browser adds noise to the pixels that a page reads, against tracking: the model would see it.",
      "Allow canvas data for this site, or use another browser.");
  }
  await serviceWorkerReady();
  page.site = await json("site.json");
  page.manifest = await json("model/manifest.json");
  page.palette = new Palette(page.site.palette);
  showFacts();
  showArtifacts();
  await openArtifact(chosenArtifact());
}

/** The first visit waits until the service worker serves this page: then its security policy holds for all of it. */
async function serviceWorkerReady() {
  // beside the clinic's page that one's worker, at "/", may be the first to serve this page
  const own = new URL("service_worker.js", document.baseURI).href;
  const serves = () => navigator.serviceWorker.controller?.scriptURL === own;
  let registration = null;
  try {
    registration = await navigator.serviceWorker.register("service_worker.js", { updateViaCache: "none" });
  } catch (error) {
    if (!serves()) {
      throw new Failure(`The page cannot be kept on this phone (${error.message}).`, "Leave private browsing, and load the page again.");
    } // in flight mode the registered one goes on
  }
  if (registration && !registration.active) await installed(registration.installing ?? registration.waiting);
  await navigator.serviceWorker.ready;
  if (!serves()) {
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", () => { if (serves()) resolve(); });
      setTimeout(resolve, 5000); // a forced reload has no controller, and never gets one
    });
  }
}

/** The service worker gives up where a file of the page is not the one that was written for this site. */
function installed(worker) {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (worker.state === "activated") resolve();
      if (worker.state === "redundant") {
        reject(new Failure("A file of this page is missing, or is not the one that was written for it.",
          "Load the page again on a network; if it stays so, the site has to be written anew."));
      }
    };
    worker.addEventListener("statechange", look);
    look();
  });
}

async function json(path) {
  const response = await fetch(path).catch(() => null);
  if (!response?.ok) throw new Failure(`${path} cannot be loaded.`, "Connect once to a network, and load the page again.");
  return response.json();
}

/** The artifact's files as this site has them: the manifest's entries, under model/. */
const here = (entry) => ({ ...entry, path: `model/${entry.path}` });

async function openArtifact(artifact) {
  page.model?.close();
  page.model = null;
  element("intake").hidden = true;
  const entries = [page.site.runtime, here(artifact.files[0])];
  const golden = { vectors: here(page.manifest.golden.vectors), inputs: page.manifest.golden.inputs.map(here) };
  const kept = await areKept(entries);
  const buffers = await loadAll([...entries, golden.vectors, ...golden.inputs], kept);
  showStep("Opening the model", null);
  const model = new Model(page.manifest, artifact);
  await model.open(buffers[0], buffers[1]);
  const test = await runSelfTest(model, golden, (done, of) => showStep(`Testing the phone: ${done} of ${of} golden radiographs`, done / of));
  showSelfTest(test, model);
  if (test.status === "differs") {
    model.close();
    throw new Failure(`${artifact.name} does not answer on this phone as the bundle allows: the largest difference of a probability is `
      + `${small(test.difference)}, ${test.decisions} of ${test.vectors} decisions differ.`, "Choose another artifact below, or use the laptop.");
  }
  page.model = model;
  page.golden = golden;
  element("getting-ready").hidden = true;
  element("intake").hidden = false;
  element("serving").textContent = `${page.manifest.name} · ${artifact.name}`;
  document.body.dataset.ready = artifact.name;
  announce("The model is ready.");
}

async function loadAll(entries, kept) {
  const total = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  const verb = kept ? "Checking what is kept on this phone" : "Loading the model, once";
  const there = new Map();
  const buffers = [];
  for (const entry of entries) {
    buffers.push(await loadFile(entry, (bytes) => {
      there.set(entry.path, bytes);
      const sum = Array.from(there.values()).reduce((a, b) => a + b, 0);
      showStep(`${verb}: ${megabytes(sum)} of ${megabytes(total)}`, sum / total);
    }));
  }
  return buffers;
}

/** @param {number|null} fraction null where there is no measure */
function showStep(text, fraction) {
  element("getting-ready").hidden = false;
  element("failure").hidden = true;
  element("step-progress").hidden = false;
  element("step").textContent = text;
  if (fraction === null) element("step-bar").removeAttribute("value");
  else element("step-bar").value = fraction * 100;
}

function showFailure(error) {
  const known = error instanceof Failure;
  element("getting-ready").hidden = false;
  element("step-progress").hidden = true;
  element("failure").hidden = false;
  element("failure-message").textContent = known ? error.message : `The page failed (${error.message}).`;
  element("failure-remedy").textContent = known ? error.remedy : "Load the page again.";
  document.body.dataset.failed = "true";
  announce("The model could not be made ready.");
}

// ---- this phone

function chosenArtifact() {
  const offered = page.site.artifacts;
  const wanted = localStorage.getItem(CHOICE);
  const name = offered.includes(wanted) ? wanted : page.site.default;
  return page.manifest.artifacts.find((artifact) => artifact.name === name);
}

function showArtifacts() {
  const chosen = chosenArtifact().name;
  element("artifacts").replaceChildren(...page.site.artifacts.map((name) => {
    const artifact = page.manifest.artifacts.find((one) => one.name === name);
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "artifact", checked: name === chosen });
    input.addEventListener("change", async () => {
      localStorage.setItem(CHOICE, name);
      delete document.body.dataset.ready;
      await openArtifact(artifact).catch(showFailure);
    });
    label.append(input, Object.assign(document.createElement("span"), { textContent: `${name}, ${megabytes(artifact.files[0].bytes)}` }));
    return label;
  }));
}

const VERDICTS = {
  agrees: "It answers as the full model does",
  as_built: "It answers as where it was built; some decisions differ from the full model's",
  differs: "It does not answer as the bundle allows",
};

function showSelfTest(test, model) {
  const inputs = page.manifest.golden.synthetic ? "synthetic " : "";
  element("verdict-here").textContent = `${VERDICTS[test.status]}: ${test.vectors - test.decisions} of ${test.vectors} decisions on `
    + `${inputs}golden radiographs.`;
  element("ready-agreement").textContent = test.status === "agrees" ? "Answers as the full model does" : "Answers as it was built";
  element("ready-agreement").dataset.state = test.status;
  const rows = [
    ["Artifact", `${model.artifact.name} (${model.artifact.precision})`],
    ["Largest |Δ probability|", `${small(test.difference)} (allowed ${small(test.allowed)})`],
    ["Decisions that differ", `${test.decisions} of ${test.vectors} (allowed ${test.allowedDecisions})`],
    ["Largest |Δ heat map|", small(test.heatMapDifference)],
    ["Latency, median", `${milliseconds(test.p50)}, pixels to answer`],
    ["Threads", `${model.threads}${globalThis.crossOriginIsolated ? "" : " (the second visit can use more)"}`],
    ["Runtime", `onnxruntime-web ${model.version}`],
  ];
  element("self-test").replaceChildren(...rows.map(([term, value]) => pair(term, value)));
  element("phone").dataset.test = JSON.stringify({ ...test, artifact: model.artifact.name, threads: model.threads });
}

function pair(term, value) {
  const row = document.createElement("div");
  row.append(
    Object.assign(document.createElement("dt"), { textContent: term }),
    Object.assign(document.createElement("dd"), { textContent: value }),
  );
  return row;
}

element("test-again").addEventListener("click", async () => {
  if (!page.model) return;
  const { model } = page;
  element("test-again").disabled = true;
  try {
    const test = await inTurn(() => runSelfTest(model, page.golden, (done, of) => {
      element("verdict-here").textContent = `Testing: ${done} of ${of} golden radiographs`;
    }));
    showSelfTest(test, model);
    announce(element("verdict-here").textContent);
  } catch (error) {
    element("verdict-here").textContent = error.message;
  } finally {
    element("test-again").disabled = false;
  }
});

let installation = null;
addEventListener("beforeinstallprompt", (event) => {
  event.preventDefault();
  installation = event;
  element("install").hidden = false;
});
element("install").addEventListener("click", async () => {
  await installation?.prompt();
  element("install").hidden = true;
});

// ---- about the model

function showFacts() {
  const { manifest } = page;
  const { provenance } = manifest;
  const synthetic = provenance.trained_on_synthetic_data;
  element("demonstration").hidden = !synthetic;
  element("labels").textContent = manifest.labels.join(", ");
  element("first-label").textContent = manifest.labels[0];
  element("limitations").append(...manifest.limitations.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  element("intended-use").textContent = manifest.intended_use;
  const size = manifest.input.preprocessing_in_graph.size;
  element("facts").replaceChildren(...[
    ["Bundle", manifest.name],
    ["Architecture", `${provenance.architecture}, ${size} × ${size} px`],
    ["Trained on", synthetic ? "synthetic radiographs" : "public radiographs"],
    ["Probabilities", manifest.calibration.fitted_on ? `calibrated on the split '${manifest.calibration.fitted_on}'` : "not calibrated"],
    ["Built", provenance.created.slice(0, 10)],
    ["Checkpoint", provenance.checkpoint_sha256.slice(0, 12)],
    ["Licence", manifest.licence],
  ].map(([term, value]) => pair(term, value)));
}

element("to-limits").addEventListener("click", () => {
  element("limits").open = true;
  element("limits").querySelector("summary").focus();
});

// ---- radiographs

/** One thing at a time is with the model. */
function inTurn(work) {
  const result = page.turn.then(work);
  page.turn = result.catch(() => {});
  return result;
}

function take(files) {
  for (const file of files) {
    const card = new Card(file, { labels: page.manifest.labels, palette: page.palette }, showOrHideResults);
    element("cards").prepend(card.element);
    card.showStage("Waiting");
    inTurn(() => answer(card));
  }
  showOrHideResults();
}

async function answer(card) {
  if (card.removed) return;
  try {
    const begun = performance.now();
    card.showStage("Reading");
    const radiograph = await readRadiograph(card.file);
    const read = performance.now() - begun;
    card.showRadiograph(radiograph);
    checkAge(page.manifest.gate, radiograph.facts);
    card.showStage("Judging");
    const { outputs, milliseconds: predict } = await page.model.run(radiograph);
    checkGate(page.manifest.gate, outputs.gate_score[0]);
    announce(card.showAnswer(radiograph, { outputs, model: page.model, timings: { read, predict, total: performance.now() - begun } }));
  } catch (error) {
    card.showError(error);
    announce(`${card.file.name}: ${error.message}`);
  }
}

function showOrHideResults() {
  const some = element("cards").childElementCount > 0;
  element("results").hidden = !some;
  document.body.classList.toggle("has-results", some);
  if (!some) element("files").focus();
}

element("files").addEventListener("change", ({ target }) => {
  take(Array.from(target.files));
  target.value = ""; // the same file may be chosen again
});

for (const event of ["dragover", "drop"]) {
  document.addEventListener(event, (dropped) => {
    dropped.preventDefault(); // a browser would leave the page to show the file
    if (event === "drop" && page.model) take(Array.from(dropped.dataTransfer?.files ?? []));
  });
}

element("clear").addEventListener("click", () => {
  element("cards").replaceChildren();
  showOrHideResults();
  announce("All results removed");
});

start().catch(showFailure);
