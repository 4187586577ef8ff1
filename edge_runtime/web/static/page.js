// The page: takes files (chosen, dropped, pasted) and gives each one a card.

import { Card } from "./card.js";
import { Palette } from "./heat_map.js";
import { sendRadiograph } from "./send.js";
import { spokenAnswer } from "./wording.js";
import { t } from "./words.js";

const AT_ONCE = 2; // one is with the model while the next one uploads

const intake = document.getElementById("intake");
const results = document.getElementById("results");
const cards = document.getElementById("cards");
const announcements = document.getElementById("announcements");

const settings = {
  address: intake.dataset.predict,
  maxBytes: Number(intake.dataset.maxBytes),
  labels: JSON.parse(cards.dataset.labels),
  study: cards.dataset.study,
  api: cards.dataset.api,
  palette: new Palette(JSON.parse(cards.dataset.palette)),
};

const waiting = [];
let sending = 0;

function announce(text) {
  announcements.textContent = text;
}

function showOrHideResults() {
  const some = cards.childElementCount > 0;
  results.hidden = !some;
  summarise();
  document.body.classList.toggle("has-results", some);
}

/** With many files: how many are through. */
function summarise() {
  const all = Array.from(cards.children, (element) => Card.of(element));
  const done = all.filter((card) => card.answer);
  const refused = done.filter((card) => card.answer.status !== "ok").length;
  document.getElementById("summary").textContent = all.length < 2 ? ""
    : t("{done} of {all} read, {refused} without an answer", { done: done.length, all: all.length, refused });
}

function take(files) {
  const added = Array.from(files, (file) => {
    const card = new Card(file, settings, {
      onRemove: () => { remove(card); },
      onAgain: () => { queue(card); },
    });
    return card;
  });
  if (added.length === 0) return;
  cards.prepend(...added.map((card) => card.element));
  showOrHideResults();
  announce(added.length === 1 ? t("Reading {name}", { name: added[0].file.name })
    : t("Reading {n} files", { n: added.length }));
  added.forEach(queue);
}

function queue(card) {
  card.showStage(t("Waiting"));
  waiting.push(card);
  sendNext();
}

function remove(card) {
  const place = waiting.indexOf(card);
  if (place >= 0) waiting.splice(place, 1);
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  card.discard();
  showOrHideResults();
  announce(t("{name} removed", { name: card.file.name }));
  // The focus stays near what was removed, never lost.
  (next?.querySelector("[data-part=remove]") ?? document.getElementById("files")).focus();
}

async function sendNext() {
  if (sending >= AT_ONCE || waiting.length === 0) return;
  const card = waiting.shift();
  sending += 1;
  try {
    const answer = await sendRadiograph(card.file, settings, card);
    if (answer && !card.discarded) {
      card.showAnswer(answer);
      summarise();
      announce(spokenAnswer(card.file.name, answer));
    }
  } finally {
    sending -= 1;
    sendNext();
  }
}

// Choose
const chooser = document.getElementById("files");
for (const input of [chooser, document.getElementById("folder")]) {
  input.addEventListener("change", () => {
    take(Array.from(input.files).filter(isNoHiddenFile));
    input.value = ""; // the same file may be chosen again
  });
}

function isNoHiddenFile(file) {
  return !file.name.startsWith(".");
}

/** The files of what was dropped, folders opened, in the order of their names. */
async function filesOf(transfer) {
  // The entries are gone after the first await: taken all at once.
  const entries = Array.from(transfer.items ?? [], (item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return Array.from(transfer.files);
  const found = await Promise.all(entries.map(filesOfEntry));
  return found.flat().filter(isNoHiddenFile);
}

async function filesOfEntry(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => { entry.file(resolve, reject); })];
  const reader = entry.createReader();
  const inside = [];
  for (;;) { // a folder is handed out in parts
    const part = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (part.length === 0) break;
    inside.push(...part);
  }
  inside.sort((a, b) => a.name.localeCompare(b.name));
  return (await Promise.all(inside.map(filesOfEntry))).flat();
}

// Drop, anywhere on the page
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  event.dataTransfer.dropEffect = "copy";
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dragging");
});
document.addEventListener("drop", async (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(await filesOf(event.dataTransfer));
});

// Paste
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) take(event.clipboardData.files);
});

document.getElementById("clear").addEventListener("click", () => {
  waiting.length = 0;
  Array.from(cards.children).forEach((element) => Card.of(element).discard());
  showOrHideResults();
  announce(t("All results removed"));
  chooser.focus();
});

document.getElementById("to-limits").addEventListener("click", () => {
  const limits = document.getElementById("limits");
  limits.open = true;
  limits.querySelector("summary").focus();
});
