"use strict";
(() => {
  const map = document.getElementById("map");
  if (!map) return;
  const data = JSON.parse(document.getElementById("points").textContent);
  const atlas = document.getElementById("atlas");
  const plot = document.getElementById("plot");
  const pen = plot.getContext("2d");
  const picture = document.getElementById("picture");
  const facts = document.getElementById("facts");
  const legend = document.getElementById("legend");
  const hint = document.getElementById("hint");
  const count = data.name.length;
  const right = data.class.map((label, i) => label === data.called[i]);
  const state = { view: "plane", colour: "class", show: "all", hidden: new Set(), chosen: -1 };
  const start = { zoom: 1, left: 0, top: 0, yaw: 0.6, pitch: 0.35 };
  let camera = { ...start };
  let placed = [];
  let colours = {};
  let queued = false;
  map.hidden = false;

  const draw = () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; paint(); });
  };

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    colours = { ink: of("--ink"), ground: of("--ground"), line: of("--line") };
    colours.kinds = Array.from({ length: 8 }, (_, i) => of(`--kind${i}`));
  }

  // Radiographs as [x, y, depth], depth 0 far to 1 near; x and y in -1..1 before zoom.
  function turned(point) {
    if (state.view === "plane") return [point[0], point[1], 1];
    const [sy, cy, sp, cp] = [Math.sin(camera.yaw), Math.cos(camera.yaw), Math.sin(camera.pitch), Math.cos(camera.pitch)];
    const x = point[0] * cy + point[2] * sy;
    const z = point[2] * cy - point[0] * sy;
    const y = point[1] * cp - z * sp;
    const depth = point[1] * sp + z * cp;
    const near = 3.2 / (3.2 - depth);
    return [x * near, y * near, (depth + 1) / 2];
  }

  function toScreen(point) {
    const { clientWidth: w, clientHeight: h } = plot;
    const scale = Math.min(w, h) / 2 * 0.93 * camera.zoom;
    const [x, y, depth] = turned(point);
    return [w / 2 + (x + camera.left) * scale, h / 2 - (y + camera.top) * scale, depth];
  }

  const isShown = (i) => (state.show === "all" || right[i] === (state.show === "right"))
    && !state.hidden.has(data[state.colour][i]);

  function paint() {
    const { clientWidth: w, clientHeight: h } = plot;
    const ratio = Math.min(window.devicePixelRatio || 1, 3);
    if (plot.width !== Math.round(w * ratio) || plot.height !== Math.round(h * ratio)) {
      plot.width = Math.round(w * ratio);
      plot.height = Math.round(h * ratio);
    }
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    if (state.view === "space") paintBox();
    placed = [];
    for (let i = 0; i < count; i += 1) {
      if (isShown(i)) placed.push([i, ...toScreen(data[state.view][i])]);
    }
    placed.sort((a, b) => a[3] - b[3]);
    const size = Math.max(2.6, Math.min(5, 90 / Math.sqrt(count))) * Math.min(1.6, Math.sqrt(camera.zoom));
    for (const one of placed) paintMark(one, size);
    const chosen = placed.find(([i]) => i === state.chosen);
    if (chosen) {
      paintMark(chosen, size);
      paintRing(chosen, size);
    }
  }

  function paintMark([i, x, y, depth], size) {
    const colour = colours.kinds[data[state.colour][i] % 8];
    const radius = size * (0.65 + 0.45 * depth);
    pen.globalAlpha = 0.35 + 0.5 * depth;
    if (right[i]) {
      pen.fillStyle = colour;
      pen.beginPath();
      pen.arc(x, y, radius, 0, 2 * Math.PI);
      pen.fill();
    } else {
      const arm = radius * 1.15;
      const cross = new Path2D(`M${x - arm} ${y - arm}L${x + arm} ${y + arm}M${x - arm} ${y + arm}L${x + arm} ${y - arm}`);
      pen.lineCap = "round";
      pen.strokeStyle = colours.ground;
      pen.lineWidth = radius * 1.15;
      pen.stroke(cross);
      pen.globalAlpha = 0.5 + 0.5 * depth;
      pen.strokeStyle = colour;
      pen.lineWidth = radius * 0.62;
      pen.stroke(cross);
    }
    pen.globalAlpha = 1;
  }

  function paintRing([, x, y], size) {
    pen.strokeStyle = colours.ink;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(x, y, size + 5, 0, 2 * Math.PI);
    pen.stroke();
  }

  function paintBox() {
    const corners = Array.from({ length: 8 }, (_, i) => toScreen([i & 1, (i >> 1) & 1, (i >> 2) & 1].map((bit) => bit * 1.1 - 0.55)));
    pen.strokeStyle = colours.line;
    pen.lineWidth = 1;
    for (let a = 0; a < 8; a += 1) {
      for (const bit of [1, 2, 4]) {
        if (a & bit) continue;
        pen.beginPath();
        pen.moveTo(corners[a][0], corners[a][1]);
        pen.lineTo(corners[a | bit][0], corners[a | bit][1]);
        pen.stroke();
      }
    }
  }

  function line(text, kind) {
    const p = document.createElement("p");
    p.textContent = text;
    if (kind) p.className = kind;
    return p;
  }

  function choose(i) {
    if (i === state.chosen) return;
    state.chosen = i;
    if (i >= 0) {
      const names = data.groups;
      const share = Math.round(100 * data.probability[i]);
      facts.replaceChildren(
        line(names.class[data.class[i]], "verdict"),
        line(`${right[i] ? "● called so" : `✕ called ${names.class[data.called[i]]}`}, ${share} %`),
        line(`${names.source[data.source[i]]} · ${names.split[data.split[i]]}`),
        line(data.name[i], "file"),
      );
      showPicture(i);
    }
    draw();
  }

  function showPicture(i) {
    if (!data.sheet || !atlas) return;
    const paper = picture.getContext("2d");
    const { edge, columns } = data.sheet;
    const put = () => {
      if (state.chosen !== i) return;
      paper.imageSmoothingQuality = "high";
      paper.drawImage(atlas, (i % columns) * edge, Math.floor(i / columns) * edge, edge, edge, 0, 0, picture.width, picture.height);
    };
    if (atlas.complete && atlas.naturalWidth) put();
    else atlas.decode().then(put, () => {});
  }

  function nearest(event, reach) {
    const box = plot.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = -1;
    let least = reach * reach;
    for (const [i, x, y] of placed) {
      const distance = (x - px) ** 2 + (y - py) ** 2;
      if (distance <= least) { least = distance; best = i; }
    }
    return best;
  }

  const pointers = new Map();
  let moved = 0;
  plot.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, event);
    moved = 0;
    plot.setPointerCapture(event.pointerId);
  });
  plot.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") {
        const found = nearest(event, 14);
        if (found >= 0) choose(found);
      }
      return;
    }
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    moved += Math.abs(dx) + Math.abs(dy);
    pointers.set(event.pointerId, event);
    if (moved < 4 || pointers.size > 1) return;
    if (state.view === "space") {
      camera.yaw += dx * 0.008;
      camera.pitch = Math.max(-1.5, Math.min(1.5, camera.pitch + dy * 0.008));
    } else {
      const scale = Math.min(plot.clientWidth, plot.clientHeight) / 2 * 0.93 * camera.zoom;
      camera.left += dx / scale;
      camera.top -= dy / scale;
    }
    draw();
  });
  plot.addEventListener("pointerup", (event) => {
    if (pointers.delete(event.pointerId) && moved < 6) {
      const found = nearest(event, event.pointerType === "mouse" ? 14 : 28);
      if (found >= 0) choose(found);
    }
  });
  plot.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  // Ctrl and wheel is also what a pinch on a touchpad sends; the plain wheel keeps scrolling the page.
  plot.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.004));
  }, { passive: false });
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    for (let n = 1; n <= count; n += 1) {
      const i = (((state.chosen < 0 && step < 0 ? 0 : state.chosen) + step * n) % count + count) % count;
      if (isShown(i)) { choose(i); return; }
    }
  });

  function zoom(factor) {
    if (factor === 0) camera = { ...start };
    else camera.zoom = Math.max(0.5, Math.min(20, camera.zoom * factor));
    draw();
  }
  for (const button of map.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
  }
  for (const group of map.querySelectorAll("[data-choice]")) {
    group.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
      state[group.dataset.choice] = button.dataset.value;
      if (group.dataset.choice === "colour") state.hidden.clear();
      if (group.dataset.choice === "view") camera = { ...start };
      refresh();
    });
  }

  function refresh() {
    const of = data[state.colour];
    legend.replaceChildren(...data.groups[state.colour].map((name, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!state.hidden.has(index)));
      const dot = document.createElement("i");
      dot.className = `kind${index % 8}`;
      const number = document.createElement("small");
      number.textContent = of.filter((at, i) => at === index && (state.show === "all" || right[i] === (state.show === "right"))).length;
      button.append(dot, name, number);
      button.addEventListener("click", () => {
        if (!state.hidden.delete(index)) state.hidden.add(index);
        button.setAttribute("aria-pressed", String(!state.hidden.has(index)));
        draw();
      });
      return button;
    }));
    hint.textContent = state.view === "space" ? "Drag to turn" : "Drag to move";
    draw();
  }

  new ResizeObserver(draw).observe(plot);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); draw(); });
  readColours();
  refresh();
})();
