"use strict";
/* The samples: cards made when they are asked for, filters, and attention laid over the pictures. */
(() => {
  const { data, element } = window.scalselectReport;
  const list = document.getElementById("samples-list");
  if (!data.samples || !list) return;

  const AT_ONCE = 24, SIDE = 192;  // cards; pixels of the longer side of a picture
  const find = (id) => document.getElementById(id);
  const { cards, pictures } = data.samples;
  const byRow = new Map(cards.map((card) => [card.row, card]));
  const numbers = new Intl.NumberFormat("en");
  const overlayBox = find("samples-overlay");
  let found = [], made = 0;

  const bytesOf = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  const instruction = (card) => card.turns.find((turn) => turn.role === "user")?.text ?? "";
  const shortened = (text, most) => (text.length > most ? `${text.slice(0, most).trimEnd()} ...` : text);

  /** Paint attention, or the outline of the tokens kept, over a picture. */
  function paint(canvas) {
    const overlay = canvas.overlay, kind = overlayBox?.value ?? "off";
    const pen = canvas.getContext("2d");
    pen.clearRect(0, 0, canvas.width, canvas.height);
    canvas.hidden = kind === "off";
    if (canvas.hidden) return;
    overlay.cells ??= bytesOf(overlay.mass);
    const down = overlay.cells.length / overlay.across, [left, top, right, bottom] = overlay.area;
    const edge = (first, last, share, size) => Math.round((first + (last - first) * share) * size);
    const x = (at) => edge(left, right, at / overlay.across, canvas.width);
    const y = (at) => edge(top, bottom, at / down, canvas.height);
    if (kind === "attention") {
      pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--overlay").trim();
      overlay.cells.forEach((mass, cell) => {
        const across = cell % overlay.across, row = Math.floor(cell / overlay.across);
        pen.globalAlpha = 0.8 * mass / 255;
        pen.fillRect(x(across), y(row), x(across + 1) - x(across), y(row + 1) - y(row));
      });
    } else {
      paintKept(pen, overlay, down, x, y);
    }
    if (!overlay.whole) paintUnseen(pen, x(0), y(0), x(overlay.across), y(down));
  }

  /** Darken and hatch what no token shows: all but one part of the picture. */
  function paintUnseen(pen, left, top, right, bottom) {
    const { width, height } = pen.canvas;
    pen.save();
    const unseen = new Path2D();
    unseen.rect(0, 0, width, height);
    unseen.rect(left, top, right - left, bottom - top);
    pen.clip(unseen, "evenodd");
    pen.globalAlpha = 1;
    pen.clearRect(0, 0, width, height);
    pen.fillStyle = "rgba(0, 0, 0, 0.6)";
    pen.fillRect(0, 0, width, height);
    const lines = new Path2D();
    for (let at = -height; at < width; at += 16) { lines.moveTo(at, height); lines.lineTo(at + height, 0); }
    pen.strokeStyle = "rgba(255, 255, 255, 0.6)";
    pen.lineWidth = 2;
    pen.stroke(lines);
    pen.restore();
  }

  /** Darken what is not kept and draw a line around what is, light on dark, to be seen on any picture. */
  function paintKept(pen, overlay, down, x, y) {
    overlay.bits ??= bytesOf(overlay.kept);
    const kept = (across, row) => {
      if (across < 0 || row < 0 || across >= overlay.across || row >= down) return false;
      const cell = row * overlay.across + across;
      return (overlay.bits[cell >> 3] >> (7 - (cell & 7)) & 1) === 1;
    };
    pen.fillStyle = "#000000";
    pen.globalAlpha = 0.45;
    pen.fillRect(0, 0, pen.canvas.width, pen.canvas.height);
    const lines = new Path2D();
    for (let row = 0; row < down; row += 1) {
      for (let across = 0; across < overlay.across; across += 1) {
        if (!kept(across, row)) continue;
        const [a, b, c, d] = [x(across), y(row), x(across + 1), y(row + 1)];
        pen.clearRect(a, b, c - a, d - b);
        if (!kept(across - 1, row)) { lines.moveTo(a, b); lines.lineTo(a, d); }
        if (!kept(across + 1, row)) { lines.moveTo(c, b); lines.lineTo(c, d); }
        if (!kept(across, row - 1)) { lines.moveTo(a, b); lines.lineTo(c, b); }
        if (!kept(across, row + 1)) { lines.moveTo(a, d); lines.lineTo(c, d); }
      }
    }
    pen.globalAlpha = 1;
    for (const [colour, width] of [["#000000", 5], ["#ffffff", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.stroke(lines);
    }
  }

  function pictureOf(card, number) {
    const picture = card.pictures[number];
    if (picture.picture === undefined) {
      return element("div", { class: "no-picture" }, `Image ${number + 1} is not shown: ${picture.fault}`);
    }
    const shown = element("div", { class: "picture", title: picture.name });
    const alt = `Image ${number + 1} of row ${card.row}: ${shortened(instruction(card), 120)}`;
    const scale = SIDE / Math.max(picture.width, picture.height);  // a small picture is shown larger than it is
    const [width, height] = [picture.width, picture.height].map((each) => Math.max(1, Math.round(each * scale)));
    const image = element("img", { alt, width, height, decoding: "async" });
    image.src = `data:image/webp;base64,${pictures[picture.picture]}`;
    shown.append(image);
    const overlay = card.overlay?.find((each) => each.image === number);
    if (overlay) {
      const canvas = element("canvas", { width: 2 * width, height: 2 * height, "aria-hidden": "true" });
      canvas.overlay = overlay;
      paint(canvas);
      shown.append(canvas);
    }
    return shown;
  }

  function conversation(card) {
    const turns = `${card.turns.length} ${card.turns.length === 1 ? "turn" : "turns"}`;
    const words = card.turns[0].role === "record" ? "The record as it was written" : `Whole conversation (${turns})`;
    const whole = element("details", { class: "conversation" }, element("summary", {}, words));
    whole.addEventListener("toggle", () => {
      if (whole.childElementCount > 1) return;
      for (const turn of card.turns) {
        whole.append(element("div", { class: `turn ${turn.role}` }, element("b", {}, turn.role),
          element("p", { dir: "auto" }, turn.text)));
      }
    });
    return whole;
  }

  function attentionOf(card) {
    const words = [];
    if (card.attention) words.push(card.attention);
    if (card.no_overlay) words.push(`No overlay: ${card.no_overlay}.`);
    return words.length ? [element("p", { class: "aside attention" }, words.join(" "))] : [];
  }

  /** Return what is seen of a row: pictures, attention, instruction, conversation. */
  function seen(card) {
    const parts = [], text = instruction(card);
    if (card.pictures.length) {
      parts.push(element("div", { class: "pictures" }, ...card.pictures.map((_, number) => pictureOf(card, number))));
    }
    if (card.more) {
      parts.push(element("p", { class: "aside" }, `${numbers.format(card.more)} ` +
        `${card.pictures.length ? "more " : ""}${card.more === 1 ? "image" : "images"} in the record`));
    }
    parts.push(...attentionOf(card));
    if (text) parts.push(element("p", { class: "instruction", dir: "auto" }, text));
    if (card.turns.length) parts.push(conversation(card));
    if (card.fault && !(card.detail && card.turns.length)) parts.push(element("p", { class: "aside" }, card.fault));
    return parts;
  }

  function factsOf(card) {
    const facts = [];
    if (card.score !== null) {
      const score = element("span", { title: String(card.score) }, String(Number(card.score.toPrecision(6))));
      facts.push(["score", score], ["rank", numbers.format(card.rank)]);
    }
    facts.push(["id", card.id ?? "none"], ["source", card.source]);
    if (card.stratum !== null) facts.push(["stratum", card.stratum]);
    if (card.reason) facts.push([card.status === "skipped" ? "skipped" : "barred", card.reason]);
    if (card.detail) facts.push(["detail", card.detail]);
    const made = element("dl", { class: "row-facts" });
    for (const [name, value] of facts) made.append(element("dt", {}, name), element("dd", { dir: "auto" }, value));
    return made;
  }

  function badge(card) {
    if (card.status === "skipped") return [element("span", { class: "badge skipped" }, "skipped")];
    if (card.chosen === null) return [];
    const [kind, words] = card.chosen ? ["chosen", "chosen"] : ["others", "not chosen"];
    return [element("span", { class: `badge ${kind}` }, words)];
  }

  function cardOf(card) {
    const title = element("h3", { id: `sample-${card.row}` }, element("span", {}, `Row ${numbers.format(card.row)}`),
      ...badge(card));
    const made = element("article", { class: "card", "data-row": card.row, "aria-labelledby": `sample-${card.row}` },
      title, ...seen(card), factsOf(card));
    if (window.scalselectReport.map?.has(card.row)) {
      const button = element("button", { type: "button", class: "plain to-map" }, "Show on the map");
      button.addEventListener("click", () => {
        window.scalselectReport.map.pin(card.row);
        find("map").scrollIntoView();
        find("map-canvas").focus({ preventScroll: true });
      });
      made.append(button);
    }
    return made;
  }

  function showMore() {
    const some = found.slice(made, made + AT_ONCE);
    const first = some.map(cardOf);
    list.append(...first);
    made += some.length;
    const left = found.length - made, more = find("samples-more");
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(left, AT_ONCE)} more`;
    find("samples-count").textContent = found.length
      ? `${numbers.format(made)} of ${numbers.format(found.length)} samples shown` : "No sample fits these filters";
    return first[0];
  }

  function filter() {
    const group = find("samples-group").value, source = find("samples-source")?.value ?? "";
    const words = find("samples-search").value.trim().toLowerCase(), explained = find("samples-explained")?.checked;
    const asked = /^(?:row\s*|#\s*)([\d,]+)$/.exec(words)?.[1].replaceAll(",", "");
    const fits = (card) => !words || String(card.row) === asked || textOf(card).includes(words);
    found = cards.filter((card) => (!group || card.group === group) && (!source || card.source === source) &&
      (!explained || card.overlay) && fits(card));
    made = 0;
    list.replaceChildren();
    showMore();
  }

  function textOf(card) {
    const texts = card.turns.map((turn) => turn.text);
    card.text ??= [card.row, card.id, card.reason, card.detail, ...texts].join("\n").toLowerCase();
    return card.text;
  }

  for (const [id, kind] of [["samples-group", "change"], ["samples-source", "change"], ["samples-search", "input"],
    ["samples-explained", "change"]]) find(id)?.addEventListener(kind, filter);
  overlayBox?.addEventListener("change", () => document.querySelectorAll(".picture canvas").forEach(paint));
  find("samples-more").addEventListener("click", () => {
    const next = showMore();
    next?.setAttribute("tabindex", "-1");  // the keyboard goes on where the new cards begin
    next?.focus({ preventScroll: true });
  });

  window.scalselectReport.samples = {
    /** Return what is seen of a shown row, as a new element; null of any other row. */
    body: (row) => (byRow.has(row) ? element("div", { class: "card" }, ...seen(byRow.get(row))) : null),
  };
  filter();
})();
