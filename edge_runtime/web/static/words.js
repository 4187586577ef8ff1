// The page's words in the chosen language: the catalogue stands in the page, English is the source.

const catalogue = JSON.parse(document.getElementById("words")?.textContent ?? "{}");

/** @param {string} message in English, with {names} @param {Object<string, unknown>} [values] */
export function t(message, values = {}) {
  return (catalogue[message] ?? message).replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

export const language = document.documentElement.lang || "en";
