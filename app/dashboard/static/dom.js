// Elements. Whatever comes from outside ends in text nodes and attributes' values, never in markup.

/** `attributes`: `class`, `dataset`, `on` ({event: listener}), properties that are booleans, and attributes; null leaves one out.
 *  `children`: nodes, texts, arrays of these; null and false are left out. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (key === "dataset") Object.assign(element.dataset, value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...kept(children));
  return element;
}

function kept(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Puts `children` in the place of all that an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...kept(children));
  return element;
}

/** `wait` milliseconds after the last of several calls. */
export function settled(act, wait = 250) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...given), wait);
  };
}
