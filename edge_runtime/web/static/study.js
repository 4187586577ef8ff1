// One study: image and answer, the reader's verdict, notes, the same patient's other studies, similar cases.

import { ask } from "./ask.js";
import { Palette } from "./heat_map.js";
import { identityOf, make, Reading } from "./reading.js";
import { answerOf } from "./study_answer.js";
import { labelName, moment, percent, sourceLine, SOURCES, verdictLine } from "./wording.js";
import { t } from "./words.js";

const place = document.getElementById("study");
const address = place.dataset.study;
const announcements = document.getElementById("announcements");
const verdictForm = document.getElementById("verdict");
const noteForm = document.getElementById("note");
const ownLabel = document.getElementById("own-label");
const reading = new Reading(place, {
  labels: JSON.parse(place.dataset.labels), palette: new Palette(JSON.parse(place.dataset.palette)),
});
const pageOf = (key) => place.dataset.studyPage.replace("{key}", key);

async function open() {
  const study = await ask(address);
  const answer = await answerOf(study, address);
  answer.identity = identityOf(address);
  reading.show(answer, moment(study.received));
  document.getElementById("title").textContent = t("Study of {moment}", { moment: moment(study.received) });
  document.getElementById("subtitle").textContent = [SOURCES[study.source], sourceLine(answer)].filter(Boolean).join(" · ");
  for (const choice of verdictForm.querySelectorAll("[data-needs=answer]")) choice.hidden = !answer.label;
  for (const option of ownLabel.querySelectorAll("option")) option.hidden = option.disabled = option.value === answer.label;
  ownLabel.querySelector("select").value = [...ownLabel.querySelectorAll("option")].find((option) => !option.disabled)?.value ?? "";
  showSaid(study);
  showPatient(study);
  showSimilar();
}

function showSaid(study) {
  document.getElementById("withdraw").hidden = !study.verdict;
  document.getElementById("verdicts").replaceChildren(...study.verdicts.map((each) => said(
    verdictLine(each), each.comment, each.reader, each.at)));
  document.getElementById("note-texts").replaceChildren(...study.note_texts.map((each) => said(
    "", each.text, each.author, each.at)));
  const chosen = study.verdict?.verdict;
  for (const input of verdictForm.elements.verdict) input.checked = input.value === chosen;
  ownLabel.hidden = chosen !== "disagree";
  if (chosen === "disagree" && study.verdict.label) verdictForm.elements.label.value = study.verdict.label;
}

function said(lead, text, who, when) {
  const item = make("li");
  if (lead) item.append(make("strong", "", lead));
  if (text) item.append(make("p", "text", text));
  item.append(make("p", "hint", `${who}, ${moment(when)}`));
  return item;
}

function showPatient(study) {
  document.getElementById("patient").hidden = study.same_patient.length === 0;
  document.getElementById("same-patient").replaceChildren(...study.same_patient.map((other) => {
    const item = make("li");
    const link = make("a", "", moment(other.received));
    link.href = pageOf(other.key);
    const compare = make("a", "quiet", t("Compare"));
    compare.href = `${place.dataset.compare}?first=${other.key}&second=${study.key}`;
    compare.setAttribute("aria-label", t("Compare with {moment}", { moment: moment(other.received) }));
    const line = make("p");
    line.append(link, " ", make("span", "hint", other.answer.label ? labelName(other.answer.label) : t("Not judged")));
    item.append(line, compare);
    return item;
  }));
}

async function showSimilar() {
  const { similar } = await ask(`${address}/similar`, { background: true });
  document.getElementById("no-similar").hidden = similar.length > 0;
  document.getElementById("similar").replaceChildren(...similar.map(({ study, similarity, label }) => {
    const item = make("li");
    const link = make("a");
    link.href = pageOf(study.key);
    const image = make("img");
    image.src = `/api/v1/studies/${study.key}/image?edge=200`;
    image.alt = "";
    image.loading = "lazy";
    link.append(image, make("strong", "", labelName(label)), make("span", "hint", t("alike {share}", { share: percent(Math.max(0, similarity)) })));
    item.append(link);
    return item;
  }));
}

/** Says above the study what went wrong, and keeps what was typed. */
function complain(error) {
  const problem = document.getElementById("problem");
  problem.textContent = error.message;
  problem.hidden = false;
  problem.scrollIntoView({ block: "nearest" });
}

/** @returns {Promise<boolean>} whether it was kept */
async function say(path, body, done) {
  document.getElementById("problem").hidden = true;
  try {
    showSaid(await ask(`${address}/${path}`, { method: "POST", body }));
  } catch (error) {
    complain(error);
    return false;
  }
  announcements.textContent = done;
  return true;
}

verdictForm.addEventListener("change", () => { ownLabel.hidden = verdictForm.elements.verdict.value !== "disagree"; });
verdictForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { verdict, label, comment } = verdictForm.elements;
  if (!verdict.value) return;
  const kept = await say("verdict", {
    verdict: verdict.value, label: verdict.value === "disagree" ? label.value : null, comment: comment.value || null,
  }, t("Verdict kept"));
  if (kept) comment.value = "";
});
document.getElementById("withdraw").addEventListener("click", () => say("verdict", { verdict: "withdrawn" }, t("Verdict taken back")));
noteForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await say("notes", { text: noteForm.elements.text.value }, t("Note added"))) noteForm.reset();
});

const dialog = document.getElementById("confirm");
document.getElementById("delete")?.addEventListener("click", () => dialog.showModal());
document.getElementById("keep").addEventListener("click", () => dialog.close());
document.getElementById("delete-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const left = await ask(address, { method: "DELETE", body: { reason: event.target.elements.reason.value } });
    if (left) showLeft(left);
    else location.assign(place.dataset.worklist);
  } catch (error) {
    dialog.close();
    complain(error);
  }
});

/** The study is gone; something of it could not be removed yet. */
function showLeft({ left }) {
  const link = make("a", "button", t("Worklist"));
  link.href = place.dataset.worklist;
  dialog.replaceChildren(make("h2", "", t("Deleted, but not everywhere")),
    make("p", "", t("Some of it could not be removed yet: a drive is away, or another program is busy with it. It is tried again by itself with the next deletion.")),
    ...left.map((path) => make("p", "hint", path)), link);
  link.focus();
}

open().catch(complain);
