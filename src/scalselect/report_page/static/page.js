"use strict";
/* What all scripts of the page share: the data, arrays decoded from them, elements made without parsing text. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const kinds = { f64: Float64Array, f32: Float32Array, u32: Uint32Array, u16: Uint16Array, u8: Uint8Array, i32: Int32Array };

  /** Return the typed array that `encoded` in encoded_arrays.py made. */
  function decoded(item) {
    const text = atob(item.bytes);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return new kinds[item.type](bytes.buffer);
  }

  /** Return a new element; texts are set as text, so that nothing in them is ever markup. */
  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  window.scalselectReport = { data, decoded, element };
  // All scripts have run by then; read by whoever measures how long a large page takes.
  document.addEventListener("DOMContentLoaded", () => performance.mark("scalselect-ready"));
})();

/* Buttons that copy the text before them; without a clipboard they do not appear. */
(() => {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = button.previousElementSibling.textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
})();

/* What another budget would hold: the points of the curve, none in between. */
(() => {
  const { data, decoded } = window.scalselectReport;
  const slider = document.getElementById("budget-rows");
  if (!slider || !data.leverage) return;
  const { rows } = data.leverage;
  const [ranks, held, scores] = ["ranks", "held", "scores"].map((name) => decoded(data.leverage[name]));
  const percent = (share) => (100 * share).toLocaleString("en", { maximumSignificantDigits: 3 }) + "\u202f%";
  const raised = (digits) => [...digits].map((digit) => "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[digit]).join("");
  const number = (value) => {
    if (value === 0 || value >= 0.001) return value.toPrecision(3);
    const [digits, power] = value.toExponential(2).split("e-");
    return `${digits}\u202f\u00d7\u202f10\u207b${raised(power)}`;
  };

  function show() {
    const at = Number(slider.value);
    const words = `${percent(ranks[at] / rows)} of the rows (${ranks[at].toLocaleString("en")}) hold `
      + `${percent(held[at])} of the leverage; the lowest of them scores ${number(scores[at])}.`;
    document.getElementById("budget-words").textContent = words;
    slider.setAttribute("aria-valuetext", words);
  }

  document.getElementById("budget").hidden = false;
  slider.addEventListener("input", show);
  show();
})();
