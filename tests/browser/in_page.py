"""What is asked of a page in its own language: scripts that return plain values."""

from __future__ import annotations

# Texts whose contrast with what lies behind them is too low: [text, ratio, colour, background].
FAINT_TEXTS = """([least, within]) => {
  const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parsed = (colour) => {  // any CSS colour, as red, green, blue and alpha of 0 to 1
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = brush.getImageData(0, 0, 1, 1).data;
    return [red, green, blue, alpha / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = (colour) => colour.slice(0, 3).map((each) => each / 255)
    .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
    .reduce((sum, each, i) => sum + each * [0.2126, 0.7152, 0.0722][i], 0);
  const kept = new Map(), faintness = new Map();
  const once = (memory, node, work) => {
    if (!memory.has(node)) memory.set(node, work(node));
    return memory.get(node);
  };
  const opaque = (node) => (node ? once(faintness, node,
    (each) => Number(getComputedStyle(each).opacity) * opaque(each.parentElement)) : 1);
  const behind = (node) => once(kept, node, (each) => {
    if (!each) return parsed(getComputedStyle(document.documentElement).getPropertyValue("--paper").trim() || "white");
    const own = parsed(getComputedStyle(each).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(each.parentElement));
  });
  const faint = [];
  const walker = document.createTreeWalker(document.querySelector(within ?? "body"), NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const node = text.parentElement;
    if (!text.textContent.trim() || node.closest("script, style, title, desc, noscript, option")) continue;
    if (!node.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const box = node.getBoundingClientRect();
    if (box.width <= 1 || box.height <= 1) continue;
    const style = getComputedStyle(node), below = behind(node);
    const drawn = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const ink = parsed(drawn);
    ink[3] *= opaque(node);
    const [a, b] = [luminance(over(ink, below)), luminance(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const told = [text.textContent.trim().slice(0, 40), Math.round(ratio * 100) / 100, drawn, String(below)];
    if (ratio < least) faint.push(told);
  }
  return faint;
}"""

# What a reader who does not see the page would stumble over.
WITHOUT_NAMES = """() => {
  const found = [], tell = (node, why) => found.push(`${why}: ${node.outerHTML.slice(0, 120)}`);
  const named = (node) => (node.getAttribute("aria-label") ?? "").trim() ||
    (node.getAttribute("aria-labelledby") ?? "").split(" ")
      .some((id) => document.getElementById(id)?.textContent.trim());
  const hidden = (node) => node.closest("[aria-hidden=true]") !== null;
  for (const node of document.images) if (!(node.getAttribute("alt") ?? "").trim()) tell(node, "no alternative text");
  for (const node of document.querySelectorAll("svg, canvas")) {
    if (hidden(node)) continue;
    const title = node.querySelector(":scope > title")?.textContent.trim();
    if (!named(node) && !title) tell(node, "no name");
    if (!node.hasAttribute("role")) tell(node, "no role");
  }
  for (const node of document.querySelectorAll("input, select, textarea")) {
    const label = [...(node.labels ?? [])].flatMap((each) => [...each.childNodes])
      .map((each) => (each.contains(node) ? "" : each.textContent.trim())).join("");
    if (!label && !named(node)) tell(node, "no label");
  }
  for (const node of document.querySelectorAll("button, a, summary")) {
    if (!node.textContent.trim() && !named(node)) tell(node, "no words");
  }
  for (const node of document.querySelectorAll("section, nav, [role=region]")) if (!named(node)) tell(node, "no name");
  for (const node of document.querySelectorAll("table")) {
    if (![...node.querySelectorAll("th")].every((each) => each.scope)) tell(node, "a heading without scope");
  }
  for (const node of document.querySelectorAll("[aria-labelledby], [aria-describedby], label[for], output[for]")) {
    for (const name of ["aria-labelledby", "aria-describedby", "for"]) {
      for (const id of (node.getAttribute(name) ?? "").split(" ").filter(Boolean)) {
        if (!document.getElementById(id)) tell(node, `no element ${id}`);
      }
    }
  }
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of ids.filter((each, place) => ids.indexOf(each) !== place)) found.push(`id twice: ${id}`);
  return found;
}"""

HEADINGS = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")]
  .filter((node) => node.checkVisibility()).map((node) => [Number(node.tagName[1]), node.textContent.trim()])"""

# What stands in the document that no page of ours holds: [what, markup].
FOREIGN_ELEMENTS = """() => {
  const found = [];
  const strange = "iframe, object, embed, base, form, link, frame, audio, video, applet, foreignObject, svg script," +
    "svg a, svg image, svg use, math, template, meta[http-equiv=refresh i], animate, set";
  for (const node of document.querySelectorAll(strange)) found.push(["element", node.outerHTML.slice(0, 200)]);
  for (const node of document.querySelectorAll("*")) {
    for (const { name, value } of node.attributes) {
      if (name.startsWith("on")) found.push(["handler", node.outerHTML.slice(0, 200)]);
      const address = ["href", "src", "action", "formaction", "srcdoc", "xlink:href"].includes(name);
      const ours = /^(#|data:image\\/webp;base64,)/.test(value);
      if (address && !ours) found.push(["address", `${name}=${value.slice(0, 100)}`]);
    }
  }
  return found;
}"""

TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  return [...document.querySelectorAll("body *")].filter((node) => node.getBoundingClientRect().right > width + 1)
    .map((node) => `${node.tagName} ${node.id} ${node.className.baseVal ?? node.className}`).slice(0, 10);
}"""


SHOW_MORE = """() => { const more = document.getElementById("samples-more"); while (!more.hidden) more.click(); }"""


def settled(page):
    """Wait until what was asked for is drawn: two frames."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def look_at_all(page):
    """Bring everything to light that a person could: all samples, all disclosures, a row kept beside the map."""
    if page.locator("#samples-group").count():
        page.select_option("#samples-group", "")
        page.evaluate(SHOW_MORE)
    page.evaluate("() => document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    if page.locator("#map-canvas").count():
        page.locator("#map-canvas").focus()
        page.keyboard.press("Home")
        page.keyboard.press("Enter")
        page.keyboard.press("PageDown")
    settled(page)
