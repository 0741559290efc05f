// What pages are built of: tables, dialogs, forms, notices.

import { Problem } from "./api.js";
import { el, fill } from "./dom.js";
import { wordedFault } from "./refusals.js";
import { t } from "./words.js";

/** `columns`: [{title, cell(row) -> text or node, class?}]; `class: "number"` aligns to the right. `onOpen(row)`: rows open by click and
 *  Enter. `empty`: a node that says what to do where there are no rows. */
export function table(columns, rows, { onOpen = null, empty = null, caption = null } = {}) {
  if (!rows.length && empty) return empty;
  const head = el(
    "tr",
    {},
    columns.map((column) => el("th", { scope: "col", class: column.class }, column.title)),
  );
  const body = el(
    "tbody",
    {},
    rows.map((row) => line(columns, row, onOpen)),
  );
  return el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption ?? t("frame.table") },
    el("table", {}, caption && el("caption", { class: "hidden" }, caption), el("thead", {}, head), body),
  );
}

export function line(columns, row, onOpen = null) {
  const cells = columns.map((column) => el("td", { class: column.class }, column.cell(row)));
  if (!onOpen) return el("tr", {}, cells);
  const open = () => getSelection().isCollapsed && onOpen(row);
  const enter = (event) => {
    if (event.key !== "Enter" || event.target !== event.currentTarget) return;
    event.preventDefault(); // or the button that a dialog focuses gets the key too, which closes it
    onOpen(row);
  };
  const on = {
    click: ({ target }) => target.closest("a, button, input") || open(),
    keydown: enter,
  };
  return el("tr", { class: "opens", tabindex: 0, on }, cells);
}

/** `kind`: `bad`, `warn`, `good`, `plain`. */
export function notice(kind, ...children) {
  return el("p", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, ...children);
}

/** What a `Problem` says; a fault of our own is thrown on by whoever shows it. */
export function problemNotice(error) {
  return notice("bad", error instanceof Problem ? error.message : t("frame.fault"));
}

/** What is shown where there is nothing yet, with what to do next. */
export function empty(title, ...what) {
  return el("div", { class: "empty" }, el("h2", {}, title), el("p", { class: "muted" }, ...what));
}

export function button(text, act, { kind = "", title = null } = {}) {
  return el("button", { type: "button", class: kind || null, title, on: { click: act } }, text);
}

export function pill(text, kind = "plain") {
  return el("span", { class: `pill ${kind}` }, text);
}

export function card(title, ...children) {
  return el("section", { class: "card" }, title && el("h2", {}, title), ...children);
}

/** Terms and what they are: [[term, text or node], ...]. */
export function facts(pairs) {
  return el(
    "dl",
    { class: "facts" },
    pairs.map(([term, what]) => el("div", {}, el("dt", {}, term), el("dd", {}, what))),
  );
}

/** A message in the corner, for some seconds. */
export function tell(text) {
  const place = document.getElementById("told");
  const message = el("p", {}, text);
  place.append(message);
  setTimeout(() => message.remove(), 6000);
}

/** Copies `text`, which it does not show. */
export function copyButton(text) {
  const act = async ({ target }) => {
    try {
      await navigator.clipboard.writeText(text);
      target.textContent = t("frame.copied");
    } catch {
      tell(t("frame.not_copied"));
    }
  };
  return button(t("frame.copy"), act);
}

/** A dialog that Escape and its button close; `wide` for much to show. `onClose` runs once. */
export function dialog(title, content, { wide = false, onClose = null } = {}) {
  const close = el("button", { type: "button", class: "quiet", "aria-label": t("frame.close"), on: { click: () => shown.close() } }, "✕");
  const shown = el(
    "dialog",
    { class: wide ? "wide" : null, "aria-label": title },
    el("div", { class: "head" }, el("h2", {}, title), close),
    content,
  );
  shown.addEventListener("click", ({ target }) => target === shown && shown.close());
  shown.addEventListener("close", () => {
    shown.remove();
    onClose?.();
  });
  document.body.append(shown);
  shown.showModal();
  return shown;
}

/** `field`: {name, label, type?, value?, hint?, required?, options?: [[value, text], ...], placeholder?}. `type`: of an input, or `select`,
 *  `textarea`, `checkbox`. */
export function field({
  name,
  label,
  type = "text",
  value = "",
  hint = null,
  required = false,
  options = [],
  placeholder = null,
  ...more
}) {
  const common = { name, id: `field-${name}`, required, placeholder, "aria-describedby": `hint-${name}`, ...more };
  const input =
    type === "select"
      ? el(
          "select",
          common,
          options.map(([code, text]) => el("option", { value: code, selected: String(code) === String(value) }, text)),
        )
      : type === "textarea"
        ? el("textarea", { rows: 4, ...common, value })
        : type === "checkbox"
          ? el("input", { type, ...common, checked: Boolean(value) })
          : el("input", { type, autocomplete: "off", ...common, value });
  return el(
    "div",
    { class: `field ${type}` },
    el("label", { for: `field-${name}` }, label),
    input,
    el("p", { class: "hint", id: `hint-${name}` }, hint),
  );
}

/** A form of `fields` whose `submit(values)` may throw a `Problem`, told beside the fields at fault. What is left empty is null. */
export function form(fields, { submit, button: text, kind = "main" }) {
  const said = el("div");
  const send = el("button", { type: "submit", class: kind }, text);
  const made = el(
    "form",
    { class: "form" },
    fields.map((one) => (one instanceof Node ? one : field(one))),
    said,
    el("div", { class: "actions" }, send),
  );
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    fill(said);
    made.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
    made.querySelectorAll(".fault").forEach((told) => told.remove());
    try {
      await submit(valuesOf(made), made);
    } catch (error) {
      fill(said, problemNotice(error));
      for (const [name, what] of faultsOf(error)) tellAt(made.elements[name], what);
      if (!(error instanceof Problem)) throw error;
    } finally {
      send.disabled = false;
    }
  });
  return made;
}

/** [[field, what is wrong with it], ...]: each of a malformed request, or the one by which a refusal begins, as in "models: …". */
function faultsOf({ errors, detail }) {
  if (errors?.length) return errors.map((fault) => [fault.field.split(".")[1], fault.message]);
  const [, name, what] = /^(\w+): (.+)$/s.exec(detail ?? "") ?? [];
  return name ? [[name, what]] : [];
}

function tellAt(input, what) {
  if (!input?.closest) return;
  input.setAttribute("aria-invalid", "true");
  input.closest("details")?.setAttribute("open", "");
  input.closest(".field")?.append(el("p", { class: "hint fault" }, wordedFault(what)));
}

export function valuesOf(made) {
  const inputs = [...made.elements].filter((input) => input.name);
  return Object.fromEntries(inputs.map((input) => [input.name, input.type === "checkbox" ? input.checked : input.value.trim() || null]));
}

/** A form in a dialog, which closes when `submit` has worked. */
export function formDialog(title, fields, { submit, button: text, kind, intro = null }) {
  const made = form(fields, {
    button: text,
    kind,
    submit: async (values) => {
      await submit(values);
      shown.close();
    },
  });
  const shown = dialog(title, el("div", { class: "form" }, intro && el("p", { class: "muted" }, intro), made));
  return shown;
}
