// The page: takes files (chosen, dropped, pasted) and gives each one a card.

import { Card } from "./card.js";
import { Palette } from "./heat_map.js";
import { sendRadiograph } from "./send.js";
import { spokenAnswer } from "./wording.js";

const AT_ONCE = 2; // one is with the model while the next one uploads

const intake = document.getElementById("intake");
const results = document.getElementById("results");
const cards = document.getElementById("cards");
const announcements = document.getElementById("announcements");

const settings = {
  address: intake.dataset.predict,
  maxBytes: Number(intake.dataset.maxBytes),
  labels: JSON.parse(cards.dataset.labels),
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
  document.body.classList.toggle("has-results", some);
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
  announce(added.length === 1 ? `Reading ${added[0].file.name}` : `Reading ${added.length} files`);
  added.forEach(queue);
}

function queue(card) {
  card.showStage("Waiting");
  waiting.push(card);
  sendNext();
}

function remove(card) {
  const place = waiting.indexOf(card);
  if (place >= 0) waiting.splice(place, 1);
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  card.discard();
  showOrHideResults();
  announce(`${card.file.name} removed`);
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
      announce(spokenAnswer(card.file.name, answer));
    }
  } finally {
    sending -= 1;
    sendNext();
  }
}

// Choose
const chooser = document.getElementById("files");
chooser.addEventListener("change", () => {
  take(chooser.files);
  chooser.value = ""; // the same file may be chosen again
});

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
document.addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files);
});

// Paste
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) take(event.clipboardData.files);
});

document.getElementById("clear").addEventListener("click", () => {
  waiting.length = 0;
  Array.from(cards.children).forEach((element) => Card.of(element).discard());
  showOrHideResults();
  announce("All results removed");
  chooser.focus();
});

document.getElementById("to-limits").addEventListener("click", () => {
  const limits = document.getElementById("limits");
  limits.open = true;
  limits.querySelector("summary").focus();
});
