// The operating point: the bundle's curve with its intervals, and what a threshold on it means.

import { ask } from "./ask.js";
import { t } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const [LEFT, TOP, SIDE] = [40, 26, 250];

const place = document.getElementById("operating");
const form = document.getElementById("choose");
const drawing = document.getElementById("curve");

document.getElementById("clear-point")?.addEventListener("click", () => put({ label: null }));
if (drawing) ask(place.dataset.address).then(({ curve }) => start(curve.curves));

async function put(body) {
  try {
    await ask(place.dataset.address, { method: "PUT", body });
    location.reload();
  } catch (error) {
    const problem = document.getElementById("problem");
    problem.textContent = error.message;
    problem.hidden = false;
  }
}

function start(curves) {
  const { label, threshold, prevalence } = form.elements;
  const update = () => show(curves[label.value], Number(threshold.value), Number(prevalence.value) / 100);
  label.addEventListener("change", () => { draw(curves[label.value]); update(); });
  threshold.addEventListener("input", update);
  prevalence.addEventListener("input", update);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    put({ label: label.value, threshold: Number(threshold.value), reason: form.elements.reason.value });
  });
  draw(curves[label.value]);
  update();
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
  const upper = known.map(({ sensitivity, specificity }) => `${across(specificity[0])},${down(sensitivity[2])}`);
  const lower = known.map(({ sensitivity, specificity }) => `${across(specificity[0])},${down(sensitivity[1])}`);
  const middle = known.map(({ sensitivity, specificity }) => `${across(specificity[0])},${down(sensitivity[0])}`);
  const marker = line("circle", { class: "here", r: 6 });
  marker.id = "curve-here";
  drawing.replaceChildren(...grid, line("polygon", { class: "band", points: [...upper, ...lower.reverse()].join(" ") }),
    line("polyline", { class: "curve", points: middle.join(" ") }), marker,
    text(across(0.5), down(0) + 34, t("Specificity, %")), text(LEFT - 28, TOP - 14, t("Sensitivity, %"), "start"));
}

/** The last point at or below the threshold: what the counts say of it. */
function at(points, threshold) {
  return points.filter((point) => point.threshold <= threshold).at(-1) ?? points[0];
}

function share(triple) {
  if (!triple) return "–";
  const [value, low, high] = triple.map((each) => (each * 100).toFixed(0));
  return `${value} % (${low}–${high})`;
}

function show(points, threshold, prevalence) {
  const { sensitivity, specificity } = at(points, threshold);
  document.getElementById("threshold-value").textContent = `${(threshold * 100).toFixed(1)} %`;
  document.getElementById("sensitivity").textContent = share(sensitivity);
  document.getElementById("specificity").textContent = share(specificity);
  const marker = document.getElementById("curve-here");
  if (!sensitivity || !specificity) return;
  marker.setAttribute("cx", across(specificity[0]));
  marker.setAttribute("cy", down(sensitivity[0]));
  const hits = 100 * prevalence * sensitivity[0];
  const marked = hits + 100 * (1 - prevalence) * (1 - specificity[0]);
  document.getElementById("expected").textContent = t(
    "Of 100 patients about {marked} would be marked; {hits} of them have it, and {missed} who have it would be missed.",
    { marked: marked.toFixed(1), hits: hits.toFixed(1), missed: (100 * prevalence - hits).toFixed(1) });
}
