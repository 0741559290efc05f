// A page that manages one kind of thing: a list with search, a dialog for one of them, and forms that create and change it. Pages
// declare what is theirs; the REST of /admin does the rest, and says in its own words what it refuses.

import * as address from "./address.js";
import { ask, get, part, Problem } from "./api.js";
import { el, fill, settled } from "./dom.js";
import { bodyOf, factsOf, inputs, title } from "./kinds.js";
import { button, dialog, empty, facts, formDialog, notice, problemNotice, table, tell } from "./parts.js";
import { named, t } from "./words.js";

const PAGE = 100;

/** `declared`:
 *  name      of the page, under which its words are: `create`, `created`, `empty`, `empty_hint`, and one of each action
 *  path      of the REST; `key`: the field that names a row in it; `isListOnly`: rows can't be asked for one by one
 *  fields    {name: kind}, see `kinds.js`
 *  columns   names of the table's; those that end in `?` are left out on a phone
 *  facts     names, shown of one row
 *  filters   names of those that the REST takes
 *  create    names in the form of a new row, `change` in that of an old one, `more` in both, folded away; or (page, given) that shows
 *            a form of its own
 *  creating  (form): adds to the form of a new row
 *  made      (answer, page): what is shown after creating
 *  disables, removes: whether rows can be
 *  actions   [{name, kind?, when?(row), run(row, page)}], for who may write; `looks`: those for everybody
 *  details   (row, page) -> nodes under the facts
 *  tools     (page) -> nodes beside the button that creates
 *  titleOf   (row) -> text */
export async function listing(content, frame, declared) {
  const state = address.read();
  const page = { frame, declared, state, rows: [], place: el("div", { class: "card list" }) };
  page.changed = (row) => changed(page, row);
  page.reload = () => load(page);
  fill(
    frame.tools,
    declared.tools?.(page),
    frame.mayWrite && declared.create && button(t(`${declared.name}.create`), () => create(page, {}), { kind: "main" }),
  );
  const search =
    declared.filters &&
    el(
      "div",
      { class: "tools search", role: "search" },
      declared.filters.map((name) => filter(page, name)),
    );
  fill(content, search, page.place);
  await load(page);
  if (state.open) await openByKey(page, state.open);
  if (state.new !== undefined) {
    page.state = { ...page.state, new: "" };
    address.write(page.state, {}, { isStep: false });
    if (frame.mayWrite && declared.create) create(page, state);
  }
}

/** The page's own word for an action, or that of all pages. */
function word({ name }, action) {
  const own = named(name, action);
  return own === action ? t(`manage.${action}`) : own;
}

const pathOf = ({ declared }, row) => `${declared.path}/${part(row[declared.key])}`;
const titleOf = ({ declared }, row) => declared.titleOf?.(row) ?? String(row[declared.key]);

function filter(page, name) {
  const act = settled(({ target }) => {
    page.state = { ...page.state, [name]: target.value.trim() };
    address.write(page.state, {}, { isStep: false });
    load(page);
  }, 250);
  const value = page.state[name] ?? "";
  const words = { placeholder: title(name), "aria-label": title(name) };
  return el("input", { type: "search", name, value, autocomplete: "off", ...words, on: { input: act } });
}

function queryOf({ declared, state }) {
  return Object.fromEntries((declared.filters ?? []).map((name) => [name, state[name]]));
}

/** The first page, or with `cursor` one more. */
async function load(page, cursor = null) {
  page.loading?.abort();
  const loading = (page.loading = new AbortController());
  page.place.setAttribute("aria-busy", "true");
  try {
    const answer = await get(page.declared.path, { ...queryOf(page), limit: PAGE, cursor }, loading.signal);
    page.rows = cursor ? [...page.rows, ...answer.data] : answer.data;
    page.cursor = answer.next_cursor;
    draw(page);
  } catch (error) {
    if (error.name !== "AbortError") fill(page.place, problemNotice(error));
  } finally {
    if (page.loading === loading) page.place.removeAttribute("aria-busy");
  }
}

function draw(page) {
  const { name, fields, columns } = page.declared;
  const shown = columns.map((column) => {
    const own = column.replace("?", "");
    const classes = [fields[own].class, column.endsWith("?") && "spare"].filter(Boolean).join(" ");
    const show = fields[own].brief ?? fields[own].show;
    return { title: title(own), class: classes || null, cell: (row) => show(row[own], row) };
  });
  const isFiltered = Object.values(queryOf(page)).some(Boolean);
  const none = isFiltered
    ? empty(t("manage.nothing_found"), t("manage.nothing_found_hint"))
    : empty(t(`${name}.empty`), t(`${name}.empty_hint`));
  const more =
    page.cursor &&
    el(
      "div",
      { class: "end" },
      button(t("calls.load_more"), () => load(page, page.cursor)),
    );
  fill(page.place, table(shown, page.rows, { onOpen: (row) => open(page, row), empty: none, caption: t(`pages.${name}`) }), more);
}

async function openByKey(page, key) {
  const known = page.rows.find((row) => String(row[page.declared.key]) === key);
  try {
    const row = known ?? (page.declared.isListOnly ? null : await get(`${page.declared.path}/${part(key)}`));
    if (row) open(page, row);
  } catch (error) {
    page.place.prepend(problemNotice(error));
  }
}

function open(page, row) {
  const place = el("div", { class: "form" });
  const key = String(row[page.declared.key]);
  const keep = (opened) => {
    page.state = { ...page.state, open: opened };
    address.write(page.state, {}, { isStep: false });
  };
  page.opened = place;
  drawOne(page, place, row);
  dialog(titleOf(page, row), place, { wide: true, onClose: () => page.opened === place && keep((page.opened = null)) });
  keep(key);
}

function drawOne(page, place, row) {
  const { fields, facts: names, details } = page.declared;
  const problem = el("div");
  const acts = actionsOf(page, row).map(({ name, kind, run }) => {
    const act = async () => {
      try {
        await run(row, page);
      } catch (error) {
        fill(problem, problemNotice(error));
        if (!(error instanceof Problem)) throw error;
      }
    };
    return button(word(page.declared, name), act, { kind });
  });
  fill(place, acts.length > 0 && el("div", { class: "tools" }, acts), problem, facts(factsOf(fields, names, row)), details?.(row, page));
}

/** Those that change something for who may write; what is dangerous comes last. */
function actionsOf({ declared, frame }, row) {
  const { disables, removes, change, actions = [], looks = [] } = declared;
  const writes = [...actions, change && { name: "edit", run: edit }].filter(Boolean);
  const ends = [
    disables && (row.disabled ? { name: "enable", run: enable } : { name: "disable", kind: "danger", run: disable }),
    removes && { name: "remove", kind: "danger", run: remove },
  ].filter(Boolean);
  return [...(frame.mayWrite ? writes : []), ...looks, ...(frame.mayWrite ? ends : [])].filter(({ when }) => !when || when(row));
}

/** After a change: the list anew, and the row in its dialog as it is now. */
async function changed(page, row) {
  await load(page);
  if (!page.opened) return;
  const { key, isListOnly } = page.declared;
  const now = isListOnly ? page.rows.find((other) => other[key] === row[key]) : await get(pathOf(page, row));
  if (now) drawOne(page, page.opened, now);
}

function create(page, given) {
  const { name, path, fields, create: chosen, more = [], made } = page.declared;
  if (typeof chosen === "function") return chosen(page, given);
  const send = async (values) => {
    const answer = await ask("POST", path, { body: bodyOf(fields, [...chosen, ...more], values) });
    shown.close();
    if (made) made(answer, page);
    else tell(t(`${name}.created`));
    await page.reload();
  };
  const shown = formDialog(t(`${name}.create`), formOf(fields, chosen, more, {}), { submit: send, button: t("manage.create") });
  page.declared.creating?.(shown.querySelector("form"));
}

function formOf(fields, chosen, more, row) {
  const folded =
    more.length > 0 && el("details", {}, el("summary", {}, t("manage.more")), el("div", { class: "form" }, inputs(fields, more, row)));
  return [...inputs(fields, chosen, row), folded].filter(Boolean);
}

function edit(row, page) {
  const { fields, change, more = [] } = page.declared;
  const chosen = [...change, ...more];
  const submit = async (values) => {
    await ask("PATCH", pathOf(page, row), { body: bodyOf(fields, chosen, values, row) });
    tell(t("manage.saved"));
    const renamed = page.declared.key === "name" && values.name ? { ...row, name: values.name } : row;
    await page.changed(renamed);
  };
  formDialog(t("manage.edit_title", { name: titleOf(page, row) }), formOf(fields, change, more, row), { submit, button: t("manage.save") });
}

/** Asks before `act`; what it refuses is told in the dialog. */
export function confirm(heading, text, act, { button: label, kind = "danger" }) {
  return formDialog(heading, [notice("warn", text)], { button: label, kind, submit: act });
}

function disable(row, page) {
  const act = async () => {
    await ask("PATCH", pathOf(page, row), { body: { disabled: true } });
    await page.changed(row);
  };
  confirm(titleOf(page, row), t(`${page.declared.name}.disable_hint`), act, { button: word(page.declared, "disable") });
}

async function enable(row, page) {
  await ask("PATCH", pathOf(page, row), { body: { disabled: false } });
  await page.changed(row);
}

function remove(row, page) {
  const act = async () => {
    await ask("DELETE", pathOf(page, row));
    page.opened?.closest("dialog").close();
    await page.reload();
  };
  confirm(titleOf(page, row), t(`${page.declared.name}.remove_hint`), act, { button: t("manage.remove") });
}
