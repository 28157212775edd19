"use strict";
/* What the map is drawn with: colours, shading, axes, entries of the legend. Nothing here knows of rows. */
(() => {
  const { element } = window.scalselectReport;
  // Cividis, a ramp of even steps for every kind of eye, at nine places (Nunez, Anderton and Renslow, 2018).
  const RAMP = [[0, 34, 78], [26, 56, 111], [67, 78, 108], [97, 101, 111], [125, 124, 120], [155, 148, 118],
    [188, 174, 108], [222, 201, 88], [254, 232, 56]];

  function ramp(share) {
    const at = Math.min(Math.max(share, 0), 1) * (RAMP.length - 1);
    const low = RAMP[Math.floor(at)], high = RAMP[Math.ceil(at)], part = at - Math.floor(at);
    return `rgb(${low.map((each, i) => Math.round(each + (high[i] - each) * part)).join(" ")})`;
  }

  /** Return the colours of the page as they are now: light, dark, or printed. */
  function colours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    const low = Number(of("--ramp-low")), high = Number(of("--ramp-high"));
    return {
      ink: of("--ink"), quiet: of("--quiet"), density: of("--density"), strength: Number(of("--density-strength")),
      chosen: of("--chosen"), others: of("--others"), ramp: (share) => ramp(low + (high - low) * share),
      group: (place, named) => (place < named ? of(`--group-${place}`) : of("--others")),
    };
  }

  /** Shade each cell by the logarithm of its number of rows; return the largest number. */
  function drawDensity(pen, palette, area, counts, cells) {
    let most = 0;
    for (const each of counts) most = Math.max(most, each);
    const small = document.createElement("canvas");
    small.width = small.height = cells;
    const brush = small.getContext("2d");
    brush.fillStyle = palette.density;
    for (let down = 0; down < cells; down += 1) {
      for (let across = 0; across < cells; across += 1) {
        const rows = counts[down * cells + across];
        if (!rows) continue;
        brush.globalAlpha = 0.05 + palette.strength * Math.log1p(rows) / Math.log1p(most);
        brush.fillRect(across, cells - 1 - down, 1, 1);
      }
    }
    pen.globalAlpha = 1;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, area.left, area.top, area.across, area.down);
    return most;
  }

  /** Draw a frame, ticks, and the names of two axes, `{ name, range }` each. */
  function drawAxes(pen, palette, area, axes) {
    const font = getComputedStyle(document.body).fontFamily;
    pen.globalAlpha = 1;
    pen.lineWidth = 1;
    pen.font = `12px ${font}`;
    pen.strokeStyle = palette.quiet;
    pen.strokeRect(area.left - 0.5, area.top - 0.5, area.across + 1, area.down + 1);
    pen.fillStyle = palette.quiet;
    pen.textBaseline = "top";
    pen.textAlign = "center";
    for (const [value, share] of ticks(axes[0].range, area.across / 90)) {
      pen.fillText(value, area.left + share * area.across, area.top + area.down + 6);
      pen.fillRect(area.left + share * area.across - 0.5, area.top + area.down, 1, 4);
    }
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const [value, share] of ticks(axes[1].range, area.down / 60)) {
      pen.fillText(value, area.left - 7, area.top + (1 - share) * area.down);
      pen.fillRect(area.left - 4, area.top + (1 - share) * area.down - 0.5, 4, 1);
    }
    pen.fillStyle = palette.ink;
    pen.textBaseline = "bottom";
    pen.textAlign = "center";
    pen.fillText(axes[0].name, area.left + area.across / 2, area.height - 3);
    pen.save();
    pen.translate(6, area.top + area.down / 2);
    pen.rotate(-Math.PI / 2);
    pen.textBaseline = "top";
    pen.fillText(axes[1].name, 0, 0);
    pen.restore();
  }

  /** Return about so many round values of a range, as words and as shares of the range. */
  function ticks([low, high], about) {
    const rough = (high - low) / Math.max(about, 2), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((each) => each * power >= rough) * power;
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const found = [];
    for (let at = Math.ceil(low / step); at * step <= high; at += 1) {
      const words = digits > 4 ? (at * step).toExponential(0) : (at * step + 0).toFixed(digits);
      found.push([words.replace("-", "\u2212"), (at * step - low) / (high - low)]);
    }
    return found;
  }

  /** Return an entry of a legend. */
  function key(words, colour, kind = "") {
    const swatch = element("span", { class: `map-swatch ${kind}`, "aria-hidden": "true" });
    if (colour) swatch.style.background = colour;
    return element("span", { class: "key" }, swatch, words);
  }

  window.scalselectReport.mapDrawing = { colours, drawDensity, drawAxes, key };
})();
