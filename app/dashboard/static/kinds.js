// What values are: how each kind is shown, edited and sent. A page's fields are {name: kind}; their words are in `fields` and `hints`.

import { get } from "./api.js";
import { el, fill, settled } from "./dom.js";
import { moment as shownMoment, money, NONE, number, ownZone } from "./format.js";
import { field, pill } from "./parts.js";
import { named, t } from "./words.js";

const SUGGESTED = 50;
const FEW = 5;

/** `show(value, row)` in full, and `brief` in tables where that may be long; `write(value)` what an input holds; `read(text)` what is sent. `input`: what `parts.field` takes. */
const plain = { show: (value) => value ?? NONE, write: (value) => String(value ?? ""), read: (written) => written, input: {}, class: null };
const kind =
  (own) =>
  (input = {}) => ({ ...plain, ...own, input: { ...own.input, ...input } });

export const text = kind({});
export const secret = kind({ write: () => "", input: { type: "password", autocomplete: "new-password", spellcheck: "false" } });
/** Money: decimal strings, which no float touches. */
export const amount = kind({
  show: (value) => money(value),
  write: (value) => trimmed(value),
  input: { inputmode: "decimal" },
  class: "number",
});
export const factor = kind({
  show: (value) => `× ${trimmed(value)}`,
  write: (value) => trimmed(value),
  input: { inputmode: "decimal" },
  class: "number",
});
/** What is no number goes as it is, so that the server says so. */
export const count = kind({
  show: (value) => number(value),
  read: (written) => (/^-?\d+(\.\d+)?$/.test(written) ? Number(written) : written),
  input: { inputmode: "decimal" },
  class: "number",
});
export const moment = kind({
  show: (value) => shownMoment(value, ownZone, { seconds: false }),
  write: local,
  read: (written) => new Date(written).toISOString(),
  input: { type: "datetime-local" },
});
export const flag = kind({ show: (value) => t(value ? "calls.yes" : "calls.no"), write: Boolean, input: { type: "checkbox" } });
/** A list of names, one a line. */
export const names = kind({
  show: (value) => value?.join(", ") ?? NONE,
  brief: (value) => few(value ?? []) || NONE,
  write: (value) => (value ?? []).join("\n"),
  read: linesOf,
  input: { type: "textarea", rows: 3, spellcheck: "false" },
});
/** An object, as lines of `name = value`. */
export const pairs = kind({
  show: (value) => entriesOf(value).join(", ") || NONE,
  write: (value) => entriesOf(value).join("\n"),
  read: pairsOf,
  input: { type: "textarea", rows: 3, spellcheck: "false" },
});
/** Names, or an object where any line has `=`: the name that clients use, and the upstream's own. */
export const routes = kind({
  show: (value) => routesOf(value).join(", "),
  brief: (value) => few(routesOf(value)),
  write: (value) => routesOf(value).join("\n"),
  read: (written) => (written.includes("=") ? pairsOf(written) : linesOf(written)),
  input: { type: "textarea", rows: 4, spellcheck: "false" },
});
/** What goes wrong in it, the server tells. */
export const json = kind({
  show: (value) => (value ? JSON.stringify(value) : NONE),
  write: (value) => (value ? JSON.stringify(value, null, 2) : ""),
  read: parsed,
  input: { type: "textarea", rows: 4, spellcheck: "false", class: "mono" },
});
/** One of `codes`, whose words are in `section`. `any`: the words for none of them. */
export const choice = (section, codes, { any = null, ...input } = {}) => ({
  ...plain,
  show: (value) => (value ? named(section, value) : NONE),
  input: {
    type: "select",
    options: [...(any === null ? [] : [["", any]]), ...codes.map((code) => [code, named(section, code)])],
    ...input,
  },
});
export const state = (words = { off: "manage.disabled", on: "manage.active" }) => ({
  ...plain,
  show: (isOff) => pill(t(isOff ? words.off : words.on), isOff ? "bad" : "good"),
});

export const title = (name) => t(`fields.${name}`);

/** The inputs of a form, with what `row` holds. `suggests`: [path, key] of a listing whose names are offered as one types. */
export function inputs(fields, chosen, row = {}) {
  return chosen.map((name) => {
    const {
      write,
      input: { suggests, ...how },
    } = fields[name];
    const hint = named("hints", name);
    const value = row[name] === undefined ? (how.value ?? "") : write(row[name]);
    const list = suggests ? `known-${name}` : null;
    const made = field({ name, label: title(name), hint: hint === name ? null : hint, list, ...how, value });
    return suggests ? suggesting(made, list, suggests) : made;
  });
}

function suggesting(made, list, [path, key]) {
  const known = el("datalist", { id: list });
  const look = async ({ target }) => {
    try {
      const { data } = await get(path, { q: target.value.trim(), limit: SUGGESTED });
      fill(
        known,
        data.map((row) => el("option", { value: row[key] })),
      );
    } catch {
      fill(known); // one can type the name all the same, and is told what is wrong with it
    }
  };
  const input = made.querySelector("input");
  input.addEventListener("focus", look);
  input.addEventListener("input", settled(look));
  made.append(known);
  return made;
}

/** What is sent: of a new thing all that is filled in, of `row` only what was changed. */
export function bodyOf(fields, chosen, values, row = null) {
  const body = {};
  for (const name of chosen) {
    const { read, write } = fields[name];
    const raw = values[name] ?? null;
    const isAsBefore = row ? raw === (write(row[name]) === "" ? null : write(row[name])) : raw === null;
    if (!isAsBefore) body[name] = raw === null || typeof raw === "boolean" ? raw : read(raw);
  }
  return body;
}

/** Facts of `row` that are known. */
export function factsOf(fields, chosen, row) {
  const known = chosen.filter((name) => row[name] !== null && row[name] !== undefined && row[name] !== "");
  return known.map((name) => [title(name), fields[name].show(row[name], row)]);
}

function trimmed(value) {
  return value === null || value === undefined
    ? ""
    : String(value)
        .replace(/(\.\d*?)0+$/, "$1")
        .replace(/\.$/, "");
}

/** As `datetime-local` has it: the browser's own time, without a zone. */
function local(value) {
  if (!value) return "";
  const at = new Date(value);
  return new Date(at - at.getTimezoneOffset() * 60e3).toISOString().slice(0, 16);
}

function few(all) {
  return all.slice(0, FEW).join(", ") + (all.length > FEW ? ` … (${number(all.length)})` : "");
}

function linesOf(written) {
  return written
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}

function pairsOf(written) {
  return Object.fromEntries(
    linesOf(written).map((line) => {
      const [name, ...value] = line.split("=");
      return [name.trim(), value.join("=").trim() || null];
    }),
  );
}

function entriesOf(value) {
  return Object.entries(value ?? {}).map(([name, one]) => (one === null ? name : `${name} = ${one}`));
}

function routesOf(value) {
  return Array.isArray(value) ? value : entriesOf(value).map((entry) => entry.replace(/^(.+) = \1$/, "$1"));
}

function parsed(written) {
  try {
    return JSON.parse(written);
  } catch {
    return written;
  }
}
