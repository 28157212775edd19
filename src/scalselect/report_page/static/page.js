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
})();
