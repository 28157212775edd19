"use strict";
/* The map: shading that counts all rows, dots for some, found again by pointer and keyboard. */
(() => {
  const { data, decoded, element, mapDrawing, mapSearch } = window.scalselectReport;
  const { colours, drawDensity, drawAxes, key } = mapDrawing;
  const map = data.map;
  const canvas = document.getElementById("map-canvas");
  if (!map || !canvas) return;

  const find = (id) => document.getElementById(id);
  const box = canvas.parentElement;
  const [pairBox, colourBox, showBox] = ["map-pair", "map-colour", "map-show"].map(find);
  const [marker, tooltip, legend, panel, readout] =
    ["map-marker", "map-tooltip", "map-legend", "map-panel", "map-readout"].map(find);
  const NEAR = 10, NEAR_FINGER = 22, STEPS = 32;  // CSS pixels; steps of the ramp

  const count = map.points.row.shape[0];
  const row = decoded(map.points.row), score = decoded(map.points.score), rank = decoded(map.points.rank);
  const chosen = decoded(map.points.chosen), shown = decoded(map.points.shown);
  const coordinates = decoded(map.points.coordinates);  // [axes, points]
  const densities = decoded(map.densities);  // [pairs, cells, cells]
  const groups = {};
  for (const [name, facts] of Object.entries(map.groups)) groups[name] = { ...facts, code: decoded(facts.code) };
  const placeOfRow = new Map(Array.from(row, (each, place) => [each, place]));
  const byRank = Uint32Array.from({ length: count }, (_, place) => place).sort((a, b) => rank[a] - rank[b]);

  const x = new Float32Array(count), y = new Float32Array(count);  // CSS pixels in the canvas
  const visible = new Uint8Array(count);
  const { nearest, towards, changed } = mapSearch(x, y, visible, shown);
  let area = null, pointed = -1, pinned = -1, waiting = false;

  const numbers = new Intl.NumberFormat("en");
  const cut = (text) => (text.length > 30 ? `${text.slice(0, 28).trimEnd()}\u2026` : text);
  const short = (value) => String(Number(value.toPrecision(6)));
  const pair = () => map.pairs[Number(pairBox.value)];

  function mayShow(place) {
    switch (showBox.value) {
      case "chosen": return chosen[place] === 1;
      case "others": return chosen[place] === 0;
      case "shown": return shown[place] === 1;
      case "none": return false;
      default: return true;
    }
  }

  /** Return the layers of dots from the lowest to the highest: colour, radius and the places of the dots. */
  function layers(palette) {
    const alone = showBox.value === "shown";  // no rings are needed then
    const radius = alone ? 4 : count > 4000 ? 1.7 : count > 1000 ? 2.4 : 3, by = colourBox.value, made = new Map();
    for (let place = 0; place < count; place += 1) {
      if (!visible[place]) continue;
      let order, colour, size = radius;
      if (by === "score") {
        order = Math.floor((1 - (rank[place] - 1) / Math.max(map.scored - 1, 1)) * (STEPS - 1));
        colour = palette.ramp(order / (STEPS - 1));
      } else if (by === "choice") {
        order = chosen[place];
        colour = order ? palette.chosen : palette.others;
        size = order ? radius + 0.8 : radius;
      } else {
        const { code, named } = groups[by];
        order = code[place] < named ? code[place] : -1;  // small groups lie on top of large ones
        colour = palette.group(code[place], named);
      }
      const layer = made.get(order) ?? { order, colour, size, places: [] };
      made.set(order, layer);
      layer.places.push(place);
    }
    return [...made.values()].sort((a, b) => a.order - b.order);
  }

  function layout() {
    const bounds = box.getBoundingClientRect();
    const left = 56, right = 22, top = 14, bottom = 44;
    area = {
      width: bounds.width, height: bounds.height, left, top,
      across: Math.max(bounds.width - left - right, 1), down: Math.max(bounds.height - top - bottom, 1),
    };
    const now = pair();
    const horizontal = map.axes[now.x].range, vertical = map.axes[now.y].range;
    const share = (value, [low, high]) => Math.min(Math.max((value - low) / (high - low), 0), 1);
    for (let place = 0; place < count; place += 1) {
      visible[place] = mayShow(place) ? 1 : 0;
      x[place] = area.left + area.across * share(coordinates[now.x * count + place], horizontal);
      y[place] = area.top + area.down * (1 - share(coordinates[now.y * count + place], vertical));
    }
    changed();
  }

  function draw() {
    waiting = false;
    layout();
    const density = window.devicePixelRatio || 1;
    canvas.width = Math.round(area.width * density);
    canvas.height = Math.round(area.height * density);
    const pen = canvas.getContext("2d"), palette = colours();
    pen.setTransform(density, 0, 0, density, 0, 0);
    const now = pair(), begin = Number(pairBox.value) * map.cells ** 2;
    const counts = densities.subarray(begin, begin + map.cells ** 2);
    const most = drawDensity(pen, palette, area, counts, map.cells);
    drawAxes(pen, palette, area, [map.axes[now.x], map.axes[now.y]]);
    pen.globalAlpha = 0.85;
    for (const layer of layers(palette)) {
      pen.fillStyle = layer.colour;
      pen.beginPath();
      for (const place of layer.places) {
        pen.moveTo(x[place] + layer.size, y[place]);
        pen.arc(x[place], y[place], layer.size, 0, 2 * Math.PI);
      }
      pen.fill();
    }
    drawRings(pen, palette);
    showLegend(palette, most);
    showOutside();
    place(marker, pinned >= 0 ? pinned : pointed);
  }

  function redraw() {
    if (!waiting) { waiting = true; requestAnimationFrame(draw); }
  }

  function drawRings(pen, palette) {
    if (showBox.value === "shown") return;
    const radius = count > 4000 ? 4 : 4.5;
    pen.globalAlpha = 0.7;
    pen.strokeStyle = palette.ink;
    pen.lineWidth = 1;
    pen.beginPath();
    for (let each = 0; each < count; each += 1) {
      if (!visible[each] || !shown[each]) continue;
      pen.moveTo(x[each] + radius, y[each]);
      pen.arc(x[each], y[each], radius, 0, 2 * Math.PI);
    }
    pen.stroke();
  }

  function showLegend(palette, most) {
    const parts = [], by = colourBox.value;
    if (by === "score") {
      const bar = element("div", { class: "ramp-bar", "aria-hidden": "true" });
      bar.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(palette.ramp).join(", ")})`;
      const at = map.scores_at.map((each) => element("span", {}, String(Number(each.toPrecision(2)))));
      parts.push(element("div", { class: "ramp" }, bar, element("div", { class: "ramp-numbers" }, ...at),
        "leverage score, at quarters of the rows"));
    } else if (by === "choice") {
      parts.push(key("chosen", palette.chosen), key("not chosen", palette.others, "small"));
    } else {
      const { names, named, values, counts } = groups[by];
      for (let each = 0; each < named; each += 1) {
        parts.push(key(`${cut(names[each])} (${numbers.format(counts[each])})`, palette.group(each, named)));
      }
      if (values > named) parts.push(key(`${numbers.format(values - named)} others`, palette.others));
    }
    if (showBox.value !== "shown") parts.push(key("shown below", null, "ring"));
    parts.push(key(`all rows, up to ${numbers.format(most)} a cell`, null, "square"));
    legend.replaceChildren(...parts);
  }

  function showOutside() {
    const outside = pair().outside;
    find("map-outside").textContent = outside
      ? `${numbers.format(outside)} ${outside === 1 ? "row lies" : "rows lie"} beyond the axes and ` +
        `${outside === 1 ? "stands" : "stand"} on the border.`
      : "";
  }

  function facts(each) {
    const found = [["row", numbers.format(row[each])], ["score", short(score[each])],
      ["rank", `${numbers.format(rank[each])} of ${numbers.format(map.scored)}`]];
    for (const [name, { names, code }] of Object.entries(groups)) found.push([name, names[code[each]]]);
    if (map.decided) found.push(["choice", chosen[each] ? "chosen" : "not chosen"]);
    return found;
  }

  function place(node, each) {
    node.hidden = each < 0 || !visible[each];
    if (node.hidden) return;
    node.style.left = `${x[each]}px`;
    node.style.top = `${y[each]}px`;
  }

  function pointAt(each) {
    pointed = each;
    canvas.dataset.row = each < 0 ? "" : String(row[each]);
    place(marker, each < 0 ? pinned : each);
    tooltip.hidden = each < 0;
    if (each < 0) return;
    tooltip.textContent = [...facts(each).map(([name, value]) => `${name} ${cut(value)}`),
      ...(shown[each] && each !== pinned ? ["click to see the sample"] : [])].join("\n");
    // Beside the dot, on the side that has room.
    const { width, height } = tooltip.getBoundingClientRect();
    tooltip.style.left = `${x[each] + 12 + width < area.width ? x[each] + 12 : Math.max(x[each] - 12 - width, 2)}px`;
    tooltip.style.top = `${Math.min(Math.max(y[each] - height / 2, 2), Math.max(area.height - height - 2, 2))}px`;
  }

  function say(words) { readout.textContent = words; }

  function pin(each) {
    pinned = each;
    place(marker, each);
    const release = element("button", { type: "button", class: "plain", id: "map-release" }, "Let go");
    release.addEventListener("click", () => { unpin(); canvas.focus(); });
    const list = element("dl", { class: "row-facts" });
    for (const [name, value] of facts(each)) list.append(element("dt", {}, name), element("dd", {}, value));
    const now = pair();
    for (const axis of [now.x, now.y]) {
      list.append(element("dt", {}, map.axes[axis].name),
        element("dd", {}, coordinates[axis * count + each].toPrecision(4)));
    }
    const sample = shown[each] ? window.scalselectReport.samples?.body(row[each]) : null;
    panel.dataset.row = String(row[each]);
    panel.replaceChildren(
      element("div", { class: "panel-head" }, element("h3", {}, `Row ${numbers.format(row[each])}`), release), list,
      sample ?? element("p", { class: "quiet" }, "Not one of the samples below: the page has its numbers only."));
    panel.scrollTop = 0;
    say(`Kept beside the map: ${facts(each).map(([name, value]) => `${name} ${value}`).join(", ")}.`);
  }

  function unpin() {
    pinned = -1;
    delete panel.dataset.row;
    panel.replaceChildren(element("h3", {}, "No row picked"), element("p", { class: "quiet" },
      "Point at a dot to see its row; click it, or press Enter, to keep it here."));
    place(marker, pointed);
  }

  /** Return the first visible dot from a place among the ranks on, or something else where there is none. */
  function alongRanks(at, step, otherwise) {
    while (at >= 0 && at < count && !visible[byRank[at]]) at += step;
    return byRank[at] ?? otherwise;
  }

  const MOVES = {
    ArrowLeft: (from) => towards(from, -1, 0), ArrowRight: (from) => towards(from, 1, 0),
    ArrowUp: (from) => towards(from, 0, -1), ArrowDown: (from) => towards(from, 0, 1),
    PageUp: (from) => alongRanks(byRank.indexOf(from) - 1, -1, from),
    PageDown: (from) => alongRanks(byRank.indexOf(from) + 1, 1, from),
    Home: () => alongRanks(0, 1, -1), End: () => alongRanks(count - 1, -1, -1),
  };

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape") { pointAt(-1); unpin(); say("No row picked."); return; }
    if (event.key === "Enter" || event.key === " ") {
      if (pointed >= 0) pin(pointed);
      event.preventDefault();
      return;
    }
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    const from = pointed >= 0 && visible[pointed] ? pointed : pinned >= 0 && visible[pinned] ? pinned : -1;
    const next = from < 0 ? MOVES[event.key === "End" ? "End" : "Home"]() : move(from);
    if (next < 0) { say("No dots are shown."); return; }
    pointAt(next);
    say(facts(next).map(([name, value]) => `${name} ${value}`).join(", "));
  });
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { unpin(); canvas.focus(); }
  });

  const inside = (event) => {
    const bounds = box.getBoundingClientRect();
    return [event.clientX - bounds.left - box.clientLeft, event.clientY - bounds.top - box.clientTop];
  };
  canvas.addEventListener("pointermove", (event) => {
    const next = nearest(...inside(event), NEAR);
    if (next !== pointed) pointAt(next);
  });
  canvas.addEventListener("pointerleave", () => pointAt(-1));
  canvas.addEventListener("blur", () => pointAt(-1));
  canvas.addEventListener("click", (event) => {
    const found = nearest(...inside(event), event.pointerType === "touch" ? NEAR_FINGER : NEAR);
    if (found >= 0) { pin(found); pointAt(found); }
  });

  for (const control of [pairBox, colourBox, showBox]) {
    control.addEventListener("change", () => { pointAt(-1); redraw(); });
  }
  new ResizeObserver(redraw).observe(box);
  for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", draw);

  window.scalselectReport.map = {
    /** Tell whether a row is a dot. */
    has: (which) => placeOfRow.has(which),
    /** Return where the dot of a row is drawn, in pixels of the window; null where it is not drawn. */
    placeOf(which) {
      const each = placeOfRow.get(which);
      if (each === undefined || !visible[each]) return null;
      const bounds = box.getBoundingClientRect();
      return { x: bounds.left + box.clientLeft + x[each], y: bounds.top + box.clientTop + y[each] };
    },
    /** Keep a row beside the map; every dot is shown if its own is hidden. */
    pin(which) {
      const each = placeOfRow.get(which);
      if (each === undefined) return;
      if (!mayShow(each)) { showBox.value = "all"; draw(); }
      pin(each);
    },
  };
  unpin();
  draw();
})();
