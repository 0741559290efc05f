// The words of the page's language: `t("calls.empty")`, with `{place}` filled in from `values`.

export const language = document.documentElement.dataset.language;
/** As `Intl` takes it. */
export const locale = document.documentElement.lang;
export const words = (await import(`./strings/${language}.js`)).default;

export function t(name, values = {}) {
  const found = name.split(".").reduce((place, part) => place?.[part], words);
  if (typeof found !== "string") throw new Error(`no words for ${name}`);
  return found.replace(/\{(\w+)\}/g, (place, key) => (key in values ? String(values[key]) : place));
}

/** The words for what the server calls `code`, or `code` itself where there are none. */
export function named(section, code) {
  return words[section]?.[code] ?? code;
}
