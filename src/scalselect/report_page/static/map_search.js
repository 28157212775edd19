"use strict";
/* Which dot of the map is meant: the nearest to a point, found by an index of cells, or the next one on a side. */
(() => {
  const CELL = 16;  // CSS pixels

  /** Return what searches dots at `x` and `y`, in CSS pixels, among the visible ones; `shown` ones win ties. */
  function mapSearch(x, y, visible, shown) {
    const count = x.length;
    let index = null;

    function cellsAround(px, py, distance) {
      if (!index) {
        index = new Map();
        for (let each = 0; each < count; each += 1) {
          if (!visible[each]) continue;
          const cell = Math.floor(x[each] / CELL) * 4096 + Math.floor(y[each] / CELL);
          if (!index.has(cell)) index.set(cell, []);
          index.get(cell).push(each);
        }
      }
      const found = [];
      for (let a = Math.floor((px - distance) / CELL); a <= Math.floor((px + distance) / CELL); a += 1) {
        for (let b = Math.floor((py - distance) / CELL); b <= Math.floor((py + distance) / CELL); b += 1) {
          found.push(...(index.get(a * 4096 + b) ?? []));
        }
      }
      return found;
    }

    /** Return the dot nearest to a point of the canvas; of several in one place one that is shown below. */
    function nearest(px, py, distance) {
      let best = -1, least = distance * distance;
      for (const each of cellsAround(px, py, distance)) {
        const away = (x[each] - px) ** 2 + (y[each] - py) ** 2 - (shown[each] ? 0.25 : 0);
        if (away < least) { least = away; best = each; }
      }
      return best;
    }

    /** Return the dot nearest on one side of another: distance along the side counts once, across it twice. */
    function towards(from, right, down) {
      let best = from, least = Infinity;
      for (let each = 0; each < count; each += 1) {
        if (!visible[each]) continue;
        const along = (x[each] - x[from]) * right + (y[each] - y[from]) * down;
        if (along < 1) continue;
        const across = Math.abs((x[each] - x[from]) * down) + Math.abs((y[each] - y[from]) * right);
        const away = along + 2 * across;
        if (away < least) { least = away; best = each; }
      }
      return best;
    }

    return { nearest, towards, changed() { index = null; } };
  }

  window.scalselectReport.mapSearch = mapSearch;
})();
