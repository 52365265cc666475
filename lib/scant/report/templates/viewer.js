"use strict";
(function () {
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const byId = (name) => document.getElementById("viewer-" + name);
  const box = document.getElementById("viewer");
  const plot = byId("plot"), slider = byId("frame"), colour = byId("colour"), label = byId("label");
  const play = byId("play"), note = byId("note"), atom = byId("atom"), picked = byId("picked"), clear = byId("clear");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  const HOW_TO_PICK = "Pick an atom: click or tap it, give its number, or step through them with the arrow keys. It stays picked from frame to frame.";

  function hasWebgl() {
    const canvas = document.createElement("canvas");
    return Boolean(window.WebGLRenderingContext && (canvas.getContext("webgl2") || canvas.getContext("webgl")));
  }
  const solid = data.heights && hasWebgl();
  if (data.heights && !solid) note.textContent = "This browser offers no WebGL: the sheet is shown from above instead of in 3D.";
  else if (!data.heights) note.textContent = "Heights were not determined: the sheet is shown from above.";
  else note.textContent = "Drag to turn, scroll or pinch to zoom; with the view in focus: arrow keys turn it, + and − zoom, Home puts it back, " +
    "Escape lets go of the atom. Heights are drawn " + data.exaggeration + " times too large.";

  const span = (range) => range[1] - range[0];
  const longest = Math.max(span(data.range.x), span(data.range.y));
  // A narrow view sees the sheet from farther away, and its atoms smaller.
  const far = plot.clientWidth < 500 ? 1.35 : 1;
  const size = Math.min(4, Math.max(2, plot.clientWidth / longest / 7));
  const home = { eye: { x: 0.78 * far, y: -1.2 * far, z: 0.85 * far }, center: { x: 0, y: 0, z: -0.12 }, up: { x: 0, y: 0, z: 1 } };
  // Asked of the scene itself: a finger that turned it raises no event.
  function cameraNow() {
    const scene = plot._fullLayout && plot._fullLayout.scene && plot._fullLayout.scene._scene;
    return scene ? scene.getCamera() : home;
  }

  const frameShown = () => data.frames[Number(slider.value)];
  const choiceShown = () => data.colours.find((one) => one.key === colour.value);
  const number = (value, digits) => (value === null || value === undefined ? "not known" : value.toFixed(digits).replace("-", "−"));

  function bondLines(frame) {
    const lines = { x: [], y: [], z: [] };
    for (let k = 0; k < frame.bonds.length; k += 2) {
      for (const end of [frame.bonds[k], frame.bonds[k + 1]]) {
        lines.x.push(frame.x[end]); lines.y.push(frame.y[end]); lines.z.push(data.heights ? frame.z[end] : 0);
      }
      lines.x.push(null); lines.y.push(null); lines.z.push(null);
    }
    return lines;
  }

  function traces(frame, choice) {
    const kind = solid ? "scatter3d" : "scatter";
    const ink = getComputedStyle(document.body).color;
    const bonds = bondLines(frame);
    const values = frame[choice.key] || frame.x.map(() => 0);
    const hover = values.map((value, k) => "atom " + frame.id[k] + "<br>" + choice.label + ": " + number(value, 2));
    const lines = { type: kind, mode: "lines", x: bonds.x, y: bonds.y, line: { color: dark.matches ? "#777" : "#999", width: solid ? 3 : 1 }, hoverinfo: "skip", showlegend: false };
    const bar = { title: { text: choice.label, side: "top" }, orientation: "h", x: 0.5, y: solid ? 1 : 1.02, yanchor: solid ? "top" : "bottom", thickness: 10, len: 0.7, outlinewidth: 0 };
    const atoms = { type: kind, mode: "markers", x: frame.x, y: frame.y, text: hover, hoverinfo: "text", showlegend: false,
      marker: { size: solid ? size : 6, color: values, cmin: choice.min, cmax: choice.max, colorscale: choice.scale, colorbar: bar } };
    const at = frame.id.indexOf(Number(atom.value === "" ? NaN : atom.value));
    const ring = { type: kind, mode: "markers", x: at < 0 ? [] : [frame.x[at]], y: at < 0 ? [] : [frame.y[at]], hoverinfo: "skip", showlegend: false,
      marker: { symbol: "circle-open", size: solid ? 3 * size : 16, color: ink, line: { color: ink, width: 3 } } };
    if (solid) { lines.z = bonds.z; atoms.z = frame.z; ring.z = at < 0 ? [] : [frame.z[at]]; }
    return [lines, atoms, ring];
  }

  function layout() {
    const ink = getComputedStyle(document.body).color;
    const grid = dark.matches ? "#444" : "#ddd";
    const axis = (title, range) => ({ title: { text: title }, range: range, color: ink, gridcolor: grid, zeroline: false, showbackground: false });
    const base = { margin: { l: 0, r: 0, t: 8, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 11 }, uirevision: "keep" };
    if (!solid) {
      const flat = { xaxis: axis("x (Å)", data.range.x), yaxis: axis("y (Å)", [data.range.y[1], data.range.y[0]]), margin: { l: 48, r: 8, t: 64, b: 40 } };
      flat.yaxis.scaleanchor = "x";
      return Object.assign(base, flat);
    }
    // y is not reversed here, unlike in the images: turning one axis of three would show the mirror image of the sheet.
    base.scene = { xaxis: axis("x (Å)", data.range.x), yaxis: axis("y (Å)", data.range.y), zaxis: axis("z (Å)", data.range.z),
      aspectmode: "manual", camera: cameraNow(), uirevision: "keep", domain: { x: [0, 1], y: [0, 0.9] },
      aspectratio: { x: span(data.range.x) / longest, y: span(data.range.y) / longest, z: data.exaggeration * span(data.range.z) / longest } };
    base.scene.zaxis.nticks = 4;
    return base;
  }

  function sayPicked(frame) {
    if (atom.value === "") { picked.textContent = HOW_TO_PICK; return; }
    const at = frame.id.indexOf(Number(atom.value));
    if (at < 0) { picked.textContent = "There is no atom " + atom.value + " in frame " + frame.frame + "."; return; }
    const bonded = [];
    for (let k = 0; k < frame.bonds.length; k += 2) {
      if (frame.bonds[k] === at) bonded.push(frame.id[frame.bonds[k + 1]]);
      if (frame.bonds[k + 1] === at) bonded.push(frame.id[frame.bonds[k]]);
    }
    picked.textContent = "Atom " + frame.id[at] + ": x " + number(frame.x[at], 2) + " Å, y " + number(frame.y[at], 2) + " Å" +
      (data.heights ? ", z " + number(frame.z[at], 2) + " ± " + number(frame.sigma[at], 2) + " Å" : ", σ in the plane " + number(frame.sigma[at], 3) + " Å") +
      "; mean strain " + number(frame.strain[at], 2) + (frame.strain[at] === null ? "" : " %") + (bonded.length ? "; bonded to " + bonded.join(", ") : "") + ".";
  }

  function draw() {
    const frame = frameShown();
    label.textContent = frame.frame + (frame.time_ms === null ? "" : " (" + frame.time_ms + " ms)");
    slider.setAttribute("aria-valuetext", "frame " + label.textContent);
    sayPicked(frame);
    return Plotly.react(plot, traces(frame, choiceShown()), layout(), { responsive: true, displayModeBar: false });
  }

  function pick(identity) { atom.value = identity === null ? "" : String(identity); draw(); }

  let timer = null, held = false;
  function next() {
    // A frame drawn in the middle of a drag would take the view back to where the drag began.
    if (held) return;
    slider.value = String((Number(slider.value) + 1) % data.frames.length);
    draw();
  }
  function setPlaying(on) {
    window.clearInterval(timer);
    timer = on ? window.setInterval(next, still.matches ? 1500 : 250) : null;
    play.textContent = on ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(on));
  }

  // Spherical steps about the middle of the view; the poles are left out, where left and right have no meaning.
  function moveCamera(turn, tilt, zoom) {
    const camera = cameraNow(), eye = camera.eye, far = Math.hypot(eye.x, eye.y, eye.z) * zoom;
    const azimuth = Math.atan2(eye.y, eye.x) + turn;
    const height = Math.min(Math.max(Math.asin(eye.z / Math.hypot(eye.x, eye.y, eye.z)) + tilt, -1.5), 1.5);
    const moved = { x: far * Math.cos(height) * Math.cos(azimuth), y: far * Math.cos(height) * Math.sin(azimuth), z: far * Math.sin(height) };
    setCamera({ eye: moved, center: camera.center, up: camera.up });
  }
  function setCamera(wanted) { Plotly.relayout(plot, { "scene.camera": wanted }); }
  const KEYS = {
    ArrowLeft: () => moveCamera(-0.12, 0, 1), ArrowRight: () => moveCamera(0.12, 0, 1), ArrowUp: () => moveCamera(0, 0.1, 1), ArrowDown: () => moveCamera(0, -0.1, 1),
    "+": () => moveCamera(0, 0, 0.9), "-": () => moveCamera(0, 0, 1 / 0.9), "−": () => moveCamera(0, 0, 1 / 0.9), Home: () => setCamera(home),
  };

  slider.addEventListener("input", function () { setPlaying(false); draw(); });
  colour.addEventListener("change", draw);
  atom.addEventListener("input", draw);
  atom.addEventListener("keydown", function (event) {
    const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!step) return;
    // To the next atom that there is: not every number has one.
    event.preventDefault();
    const order = frameShown().id.slice().sort((a, b) => step * (a - b));
    const next = atom.value === "" ? order[0] : order.find((one) => step * (one - Number(atom.value)) > 0);
    if (next !== undefined) pick(next);
  });
  clear.addEventListener("click", function () { pick(null); });
  play.addEventListener("click", function () { setPlaying(timer === null); });
  dark.addEventListener("change", draw);
  plot.addEventListener("pointerdown", function () { held = true; }, true);
  for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, function () { held = false; }, true);
  box.addEventListener("keydown", function (event) { if (event.key === "Escape") { setPlaying(false); pick(null); } });
  plot.addEventListener("keydown", function (event) {
    if (!solid || event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  draw().then(function () {
    // Plotly tells of a click while it draws, again and again as long as the button is down: drawing at once would never end.
    plot.on("plotly_click", function (event) {
      const identity = event.points.length ? frameShown().id[event.points[0].pointNumber] : undefined;
      if (identity !== undefined && String(identity) !== atom.value) window.setTimeout(function () { pick(identity); }, 0);
    });
    plot.dataset.ready = solid ? "3d" : "2d";
  });
})();
