"use strict";
(function () {
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const plot = document.getElementById("viewer-plot");
  const slider = document.getElementById("viewer-frame");
  const colour = document.getElementById("viewer-colour");
  const label = document.getElementById("viewer-label");
  const play = document.getElementById("viewer-play");
  const note = document.getElementById("viewer-note");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");

  function hasWebgl() {
    const canvas = document.createElement("canvas");
    return Boolean(window.WebGLRenderingContext && (canvas.getContext("webgl2") || canvas.getContext("webgl")));
  }
  const solid = data.heights && hasWebgl();
  if (data.heights && !solid) note.textContent = "This browser offers no WebGL: the sheet is shown from above instead of in 3D.";
  else if (!data.heights) note.textContent = "Heights were not determined: the sheet is shown from above.";
  else note.textContent = "Drag to turn, scroll to zoom. Heights are drawn " + data.exaggeration + " times too large.";

  function traces(frame, choice) {
    const bonds = { x: [], y: [], z: [] };
    for (let k = 0; k < frame.bonds.length; k += 2) {
      for (const atom of [frame.bonds[k], frame.bonds[k + 1]]) {
        bonds.x.push(frame.x[atom]); bonds.y.push(frame.y[atom]); bonds.z.push(data.heights ? frame.z[atom] : 0);
      }
      bonds.x.push(null); bonds.y.push(null); bonds.z.push(null);
    }
    const kind = solid ? "scatter3d" : "scatter";
    const values = frame[choice.key] || frame.x.map(() => 0);
    const hover = values.map((value, k) => "atom " + frame.id[k] + "<br>" + choice.label + ": " + (value === null ? "not known" : value));
    const lines = { type: kind, mode: "lines", x: bonds.x, y: bonds.y, line: { color: dark.matches ? "#777" : "#999", width: solid ? 3 : 1 }, hoverinfo: "skip", showlegend: false };
    const atoms = { type: kind, mode: "markers", x: frame.x, y: frame.y, text: hover, hoverinfo: "text", showlegend: false,
      marker: { size: solid ? 4 : 6, color: values, cmin: choice.min, cmax: choice.max, colorscale: choice.scale,
        colorbar: { title: { text: choice.label, side: "right" }, thickness: 12, len: 0.8, outlinewidth: 0 } } };
    if (solid) { lines.z = bonds.z; atoms.z = frame.z; }
    return [lines, atoms];
  }

  function layout() {
    const ink = getComputedStyle(document.body).color;
    const grid = dark.matches ? "#444" : "#ddd";
    const axis = (title, range) => ({ title: { text: title }, range: range, color: ink, gridcolor: grid, zeroline: false, showbackground: false });
    const base = { margin: { l: 0, r: 0, t: 8, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 11 }, uirevision: "keep" };
    if (!solid) {
      const flat = { xaxis: axis("x (Å)", data.range.x), yaxis: axis("y (Å)", [data.range.y[1], data.range.y[0]]), margin: { l: 48, r: 8, t: 8, b: 40 } };
      flat.yaxis.scaleanchor = "x";
      return Object.assign(base, flat);
    }
    const span = (range) => range[1] - range[0];
    const longest = Math.max(span(data.range.x), span(data.range.y));
    // y is not reversed here, unlike in the images: turning one axis of three would show the mirror image of the sheet.
    base.scene = { xaxis: axis("x (Å)", data.range.x), yaxis: axis("y (Å)", data.range.y), zaxis: axis("z (Å)", data.range.z),
      aspectmode: "manual", camera: { eye: { x: 0.75, y: -1.1, z: 0.8 } },
      aspectratio: { x: span(data.range.x) / longest, y: span(data.range.y) / longest, z: data.exaggeration * span(data.range.z) / longest } };
    base.scene.zaxis.nticks = 4;
    return base;
  }

  function draw() {
    const frame = data.frames[Number(slider.value)];
    const choice = data.colours.find((one) => one.key === colour.value);
    label.textContent = frame.frame + (frame.time_ms === null ? "" : " (" + frame.time_ms + " ms)");
    return Plotly.react(plot, traces(frame, choice), layout(), { responsive: true, displayModeBar: false });
  }

  let timer = null;
  function setPlaying(on) {
    window.clearInterval(timer);
    timer = on ? window.setInterval(function () { slider.value = String((Number(slider.value) + 1) % data.frames.length); draw(); }, still.matches ? 1500 : 250) : null;
    play.textContent = on ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(on));
  }
  slider.addEventListener("input", function () { setPlaying(false); draw(); });
  colour.addEventListener("change", draw);
  play.addEventListener("click", function () { setPlaying(timer === null); });
  dark.addEventListener("change", draw);
  draw().then(function () { plot.dataset.ready = solid ? "3d" : "2d"; });
})();
