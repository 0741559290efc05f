// What the server says, in the page's language. It answers in English, with a code; a dictionary of another language has `problems` by
// these codes, and `faults` by what is said of single fields, with each number as {n}. What it hasn't got stays as the server said it.

import { named, words } from "./words.js";

const NUMBER = /-?\d+(?:[.,]\d+)*/g;
const SEVERAL = "；";

/** `errors`: the fields at fault, as {field, message}. */
export function worded({ code, detail, errors }) {
  const found = words.problems?.[code];
  if (!found) return detail;
  const [, field, what] = /^(\w+): (.+)$/s.exec(detail) ?? [];
  const said = errors.length ? errors.map(ofField).join(SEVERAL) : field ? ofField({ field, message: what }) : detail;
  return found.replace("{detail}", () => said);
}

export function wordedFault(message) {
  const numbers = message.match(NUMBER) ?? [];
  return words.faults?.[message.replace(NUMBER, "{n}")]?.replace(/\{n\}/g, () => numbers.shift()) ?? message;
}

/** A field by its title, as in "body.rates.input". */
function ofField({ field, message }) {
  const parts = field.split(".").filter((part) => !/^(body|query|path|\d+)$/.test(part));
  return `${parts.map((part) => named("fields", part)).join(" ") || field}：${wordedFault(message)}`;
}
