// The operating point: the bundle's curve with its intervals, and what a threshold on it means.

import { ask } from "./ask.js";
import { t } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const [LEFT, TOP, SIDE] = [40, 26, 250];

const MOST_DOTS = 80; // a curve of more points is a line anyway
const FEW = 100; // below so many radiographs on one side of the class, the page says that the intervals are wide

const place = document.getElementById("operating");
const form = document.getElementById("choose");
const drawing = document.getElementById("curve");
const problem = document.getElementById("problem");
const inForce = JSON.parse(place.dataset.point);
const suggested = JSON.parse(place.dataset.suggested);

document.getElementById("clear-point")?.addEventListener("click", () => {
  const { name } = form.elements;
  if (!name || name.reportValidity()) put({ label: null });
});
if (drawing) ask(place.dataset.address).then(({ curve }) => start(curve), complain);

function complain(error) {
  if (problem) [problem.textContent, problem.hidden] = [error.message, false];
}

async function put(body) {
  try {
    const name = form.elements.name?.value;
    await ask(place.dataset.address, { method: "PUT", body: name === undefined ? body : { ...body, name } });
    location.reload();
  } catch (error) {
    complain(error);
  }
}

/** Only thresholds that were counted can be chosen: the slider steps over the curve's own points. */
function start({ curves, cases }) {
  const { label, threshold, prevalence } = form.elements;
  const chosen = () => curves[label.value][Number(threshold.value)];
  const update = () => show(chosen(), Number(prevalence.value) / 100, threshold);
  const open = () => {
    const points = curves[label.value];
    const wanted = inForce?.label === label.value ? inForce.threshold : suggested[label.value] ?? 0.5;
    threshold.max = points.length - 1;
    threshold.value = nearest(points, wanted);
    draw(points);
    warn(cases[label.value]);
    update();
  };
  label.addEventListener("change", open);
  threshold.addEventListener("input", update);
  prevalence.addEventListener("input", update);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    put({ label: label.value, threshold: chosen().threshold, reason: form.elements.reason.value });
  });
  open();
}

function nearest(points, wanted) {
  const far = points.map((point) => Math.abs(point.threshold - wanted));
  return far.indexOf(Math.min(...far));
}

function warn([sick, well]) {
  const few = document.getElementById("few");
  few.hidden = Math.min(sick, well) >= FEW;
  few.textContent = t("Few cases: {sick} radiographs of this class and {well} others. The steps are coarse and the intervals wide.",
    { sick, well });
}

const across = (specificity) => LEFT + specificity * SIDE;
const down = (sensitivity) => TOP + (1 - sensitivity) * SIDE;

function line(name, values) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
  return element;
}

function text(x, y, words, anchor = "middle") {
  const element = line("text", { x, y, "text-anchor": anchor });
  element.textContent = words;
  return element;
}

function draw(points) {
  const known = points.filter((point) => point.sensitivity && point.specificity);
  const grid = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    line("line", { class: "grid", x1: across(0), x2: across(1), y1: down(share), y2: down(share) }),
    line("line", { class: "grid", x1: across(share), x2: across(share), y1: down(0), y2: down(1) }),
    text(across(share), down(0) + 16, `${share * 100}`), text(across(0) - 6, down(share) + 4, `${share * 100}`, "end"),
  ]);
  const at = (s, p) => `${across(s).toFixed(1)},${down(p).toFixed(1)}`;
  const upper = known.map(({ sensitivity, specificity }) => at(specificity[0], sensitivity[2]));
  const lower = known.map(({ sensitivity, specificity }) => at(specificity[0], sensitivity[1]));
  const middle = known.map(({ sensitivity, specificity }) => at(specificity[0], sensitivity[0]));
  const marker = line("g", { class: "here" });
  marker.id = "curve-here";
  const dots = new Set(middle).size > MOST_DOTS ? [] : [...new Set(middle)].map((each) => {
    const [cx, cy] = each.split(",");
    return line("circle", { class: "dot-of-curve", cx, cy, r: 2.2 });
  });
  drawing.replaceChildren(...grid, line("polygon", { class: "band", points: [...upper, ...lower.reverse()].join(" ") }),
    line("polyline", { class: "curve", points: middle.join(" ") }), ...dots, marker,
    text(across(0.5), down(0) + 34, t("Specificity, %")), text(LEFT - 28, TOP - 14, t("Sensitivity, %"), "start"));
}

function share(triple) {
  if (!triple) return "–";
  const [value, low, high] = triple.map((each) => (each * 100).toFixed(0));
  return `${value} % (${low}–${high})`;
}

function show({ threshold, sensitivity, specificity }, prevalence, slider) {
  const shown = `${(threshold * 100).toFixed(1)} %`;
  document.getElementById("threshold-value").textContent = shown;
  slider.setAttribute("aria-valuetext", shown);
  document.getElementById("sensitivity").textContent = share(sensitivity);
  document.getElementById("specificity").textContent = share(specificity);
  const known = sensitivity && specificity;
  document.getElementById("curve-here").replaceChildren(...(known ? cross(sensitivity, specificity) : []));
  document.getElementById("expected").textContent = known ? expected(sensitivity, specificity, prevalence) : "";
}

/** The chosen point with both its intervals. */
function cross([p, pLow, pHigh], [s, sLow, sHigh]) {
  return [
    line("line", { x1: across(s), x2: across(s), y1: down(pLow), y2: down(pHigh) }),
    line("line", { x1: across(sLow), x2: across(sHigh), y1: down(p), y2: down(p) }),
    line("circle", { r: 6, cx: across(s), cy: down(p) }),
  ];
}

/** Per 100 patients; the ranges take the ends of both intervals. */
function expected(sensitivity, specificity, prevalence) {
  const [sick, well] = [100 * prevalence, 100 * (1 - prevalence)];
  const marked = (p, s) => sick * p + well * (1 - s);
  const [p, pLow, pHigh] = sensitivity;
  const [s, sLow, sHigh] = specificity;
  const range = (low, high) => `${low.toFixed(0)}–${high.toFixed(0)}`;
  return t("Of 100 patients about {marked} ({range}) would be marked; {hits} of them have it, and {missed} ({missedRange}) who have it would be missed.", {
    marked: marked(p, s).toFixed(1), range: range(marked(pLow, sHigh), marked(pHigh, sLow)), hits: (sick * p).toFixed(1),
    missed: (sick * (1 - p)).toFixed(1), missedRange: range(sick * (1 - pHigh), sick * (1 - pLow)),
  });
}
