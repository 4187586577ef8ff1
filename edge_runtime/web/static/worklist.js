// The worklist: asks for its part of the records, and again when they change. A question a few seconds apart, answered
// at once, holds no worker of the server.

import { ask } from "./ask.js";
import { make } from "./reading.js";
import { age, labelName, moment, percent, SOURCES, verdictLine } from "./wording.js";
import { t } from "./words.js";

const EVERY_MS = 2500;
const PAGE = 50;

const table = document.getElementById("worklist");
const rows = document.getElementById("rows");
const filters = document.getElementById("filters");
const state = { sort: "received", order: "descending", offset: 0, total: 0, revision: -1 };
let asking = new AbortController();

function question() {
  const wanted = new URLSearchParams();
  for (const [name, value] of new FormData(filters)) if (value) wanted.set(name, value);
  wanted.set("sort", state.sort);
  wanted.set("order", state.order);
  return wanted;
}

async function load({ background = false } = {}) {
  asking.abort();
  asking = new AbortController();
  const wanted = question();
  wanted.set("limit", PAGE);
  wanted.set("offset", state.offset);
  const answer = await ask(`${table.dataset.studies}?${wanted}`, { background, signal: asking.signal });
  const added = state.revision >= 0 && background ? answer.total - state.total : 0;
  Object.assign(state, { revision: answer.revision, total: answer.total });
  rows.replaceChildren(...answer.studies.map(row));
  showEmpty(answer.total === 0, isNarrowed());
  const last = Math.min(state.offset + PAGE, answer.total);
  document.getElementById("count").textContent = answer.total
    ? t("{first} to {last} of {total}", { first: state.offset + 1, last, total: answer.total }) : "";
  document.getElementById("earlier").disabled = state.offset === 0;
  document.getElementById("later").disabled = last >= answer.total;
  for (const link of document.querySelectorAll("[data-export]")) {
    const to = question();
    to.delete("identity");
    if (link.dataset.export === "deidentified") to.set("deidentified", "1");
    link.href = `${link.href.split("?")[0]}?${to}`;
  }
  if (added > 0) document.getElementById("announcements").textContent = t("{n} new studies", { n: added });
}

/** Whether anything but the order and the names was asked for. */
function isNarrowed() {
  return [...new FormData(filters)].some(([name, value]) => value && name !== "identity");
}

function showEmpty(none, narrowed) {
  document.getElementById("empty").hidden = !none || narrowed;
  document.getElementById("none-fits").hidden = !none || !narrowed;
  for (const id of ["frame", "foot"]) document.getElementById(id).hidden = none;
}

function row(study) {
  const { answer, facts } = study;
  const line = make("tr");
  const link = make("a", "", moment(study.received));
  link.href = table.dataset.study.replace("{key}", study.key);
  const when = make("th");
  when.scope = "row";
  when.append(link);
  const who = [study.patient_name, facts.patient_id, study.file_name].filter(Boolean).join(" · ");
  const what = [facts.view, facts.age && age(facts.age), facts.sex].filter(Boolean).join(", ");
  const about = make("td");
  if (who) about.append(make("span", "who", who));
  about.append(make("span", who ? "hint" : "", what || study.source_format || "–"));
  const verdict = make("td", study.verdict ? `said ${study.verdict.verdict}` : "hint", study.verdict ? verdictLine(study.verdict) : "–");
  if (study.notes) verdict.append(" · ", make("span", "hint", t("notes: {n}", { n: study.notes })));
  line.append(when, about, answerCell(study), make("td", "number",
    answer.label ? percent(answer.probabilities[answer.label]) : ""), verdict, make("td", "hint", SOURCES[study.source] ?? study.source));
  return line;
}

function answerCell({ answer, operating_point: point }) {
  const cell = make("td");
  if (answer.label) cell.append(make("strong", "", labelName(answer.label)));
  else cell.append(make("span", "tag amber", answer.status === "refused" ? t("Not judged") : t("Failed")));
  if (point?.reached) cell.append(" ", make("span", "tag", t("marked")));
  if (answer.refer) cell.append(" ", make("span", "tag amber", t("refer")));
  return cell;
}

// Live
const live = document.getElementById("live");
async function look() {
  if (document.hidden) return;
  try {
    const { revision } = await ask(table.dataset.revision, { background: true });
    show(true);
    if (revision !== state.revision) await load({ background: true });
  } catch (error) {
    if (error.name !== "AbortError") show(false);
  }
}
function show(reached) {
  live.classList.toggle("lost", !reached);
  document.getElementById("live-text").textContent = reached ? t("Live") : t("The server is away");
}
function refresh(options) {
  load(options).then(() => show(true), (error) => { if (error.name !== "AbortError") show(false); });
}
setInterval(look, EVERY_MS);
document.addEventListener("visibilitychange", look);

// Search, filter, sort, turn the page
let typing;
filters.addEventListener("input", (event) => {
  state.offset = 0;
  clearTimeout(typing);
  typing = setTimeout(refresh, event.target.type === "search" ? 250 : 0);
});
document.getElementById("all").addEventListener("click", () => {
  const { identity } = filters.elements;
  const shown = identity.checked;
  filters.reset();
  identity.checked = shown;
  state.offset = 0;
  refresh();
  filters.elements.search.focus();
});
filters.addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
table.tHead.addEventListener("click", (event) => {
  const { sort } = event.target.dataset;
  if (!sort) return;
  state.order = state.sort === sort && state.order === "descending" ? "ascending" : "descending";
  Object.assign(state, { sort, offset: 0 });
  for (const head of table.tHead.querySelectorAll("th")) head.removeAttribute("aria-sort");
  event.target.closest("th").setAttribute("aria-sort", state.order);
  refresh();
});
document.getElementById("earlier").addEventListener("click", () => { state.offset = Math.max(0, state.offset - PAGE); refresh(); });
document.getElementById("later").addEventListener("click", () => { state.offset += PAGE; refresh(); });

refresh();
