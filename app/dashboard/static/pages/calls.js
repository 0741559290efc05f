// The log explorer: all filters of `/logs`, columns to choose, pages that follow as one scrolls, and one call in full.

import * as address from "../address.js";
import { get, getAll, withQuery } from "../api.js";
import { el, fill, settled } from "../dom.js";
import { number } from "../format.js";
import { button, empty, line, problemNotice } from "../parts.js";
import { asQuery, endsNow, periodOf, periodTools, zoneOf } from "../period.js";
import { named, t } from "../words.js";
import { showCall } from "./call.js";
import { columnsFor, isSlim, OWNER_HIDES } from "./calls_columns.js";
import { ALL_FILTERS, CHOICES, FILTERS, NUMBERS, OPEN } from "./calls_filters.js";

const PAGE = 100;
const RANGES = ["all", "1h", "24h", "7d", "30d", "90d"];
const DEFAULTS = {
  range: "all",
  columns: isSlim
    ? "created_at,model_name,bill,status"
    : "created_at,user_id,model_name,status,input_tokens,output_tokens,bill,latency_ms,first_token_ms",
};

export async function show(content, frame) {
  const upstreams = new Map();
  const page = { content, frame, upstreams, state: address.read(DEFAULTS) };
  if (frame.isOperator) {
    for (const upstream of await getAll("/admin/upstreams")) upstreams.set(upstream.id, upstream.name);
  }
  page.filters = el("form", { class: "card filters", role: "search", on: { submit: (event) => event.preventDefault() } });
  page.summary = el("div", { class: "head summary" });
  page.list = el("div", { class: "card list" });
  fill(content, page.filters, page.summary, page.list);
  address.onReturn(() => {
    page.state = address.read(DEFAULTS);
    document.querySelector("dialog")?.close();
    drawAll(page);
  });
  drawAll(page);
}

function drawAll(page) {
  drawTools(page);
  drawFilters(page);
  load(page);
  if (page.state.call) openCall(page, page.state.call);
}

/** What changes the state: the address keeps it, and the list begins anew. */
function go(page, changes) {
  page.state = { ...page.state, ...changes };
  address.write(page.state, DEFAULTS);
  drawTools(page);
  load(page);
}

function drawTools(page) {
  const range = periodTools(page.state, RANGES, (changes) => go(page, changes));
  fill(
    page.frame.tools,
    range,
    button(t("calls.reload"), () => load(page)),
  );
}

function drawFilters(page) {
  const shown = (names) =>
    names.filter((name) => page.frame.isOperator || !OWNER_HIDES.includes(name)).map((name) => filterField(page, name));
  const isMore = FILTERS.more.some((name) => page.state[name]);
  const more = el(
    "details",
    { open: isMore },
    el("summary", {}, t("calls.more_filters")),
    el("div", { class: "grid" }, shown(FILTERS.more)),
  );
  const clear = button(
    t("calls.clear"),
    () => {
      go(page, Object.fromEntries(ALL_FILTERS.map((name) => [name, ""])));
      drawFilters(page);
    },
    { kind: "quiet" },
  );
  fill(page.filters, el("div", { class: "grid" }, shown(FILTERS.plain)), el("div", { class: "head" }, more, clear));
}

function filterField(page, name) {
  const value = page.state[name] ?? "";
  const changed = settled(({ target }) => go(page, { [name]: target.value.trim() }), 300);
  const choices =
    name === "upstream_id"
      ? [...page.upstreams]
      : CHOICES[name]?.map((code) => [code, name === "is_local" ? t(code === "true" ? "calls.yes" : "calls.no") : named(name, code)]);
  if (choices && !OPEN.includes(name)) {
    const options = [["", t("calls.any")], ...choices].map(([code, text]) =>
      el("option", { value: code, selected: String(code) === value }, text),
    );
    return labelled(name, el("select", { name, on: { change: changed } }, options));
  }
  const known =
    choices &&
    el(
      "datalist",
      { id: `known-${name}` },
      choices.map(([code, text]) => el("option", { value: code }, text)),
    );
  const input = el("input", {
    name,
    type: "text",
    autocomplete: "off",
    inputmode: NUMBERS.includes(name) ? "decimal" : null,
    list: known ? known.id : null,
    value,
    on: { input: changed },
  });
  return labelled(name, input, known);
}

function labelled(name, ...inputs) {
  return el("label", { class: "field" }, el("span", {}, t(`calls.${name}`)), ...inputs);
}

/** What `/logs` is asked for, and the export. */
function queryOf({ state }) {
  const filters = Object.fromEntries(ALL_FILTERS.map((name) => [name, state[name]]));
  return { ...filters, ...asQuery(periodOf(state), endsNow(state)) };
}

/** The first page; the next ones follow as the list's end comes into sight. */
async function load(page) {
  page.loading?.abort();
  page.loading = new AbortController();
  page.watching?.disconnect();
  const { signal } = page.loading;
  const query = queryOf(page);
  const zone = zoneOf(page.state);
  const columns = columnsFor(page.frame, zone, page.upstreams);
  const chosen = columns.filter(({ name }) => page.state.columns.split(",").includes(name));
  page.list.setAttribute("aria-busy", "true");
  try {
    const first = await get("/logs", { ...query, limit: PAGE }, signal);
    drawSummary(page, query, first, columns);
    if (first.data.length) drawRows(page, query, first, chosen, signal);
    else fill(page.list, empty(t("calls.empty"), isNarrow(page.state) ? t("calls.empty_filtered") : t("calls.empty_hint")));
  } catch (error) {
    if (error.name === "AbortError") return;
    fill(page.summary);
    fill(page.list, problemNotice(error));
  } finally {
    page.list.removeAttribute("aria-busy");
  }
}

const isNarrow = (state) => state.range !== "all" || ALL_FILTERS.some((name) => state[name]);

function drawSummary(page, query, { total, total_is_exact: isExact }, columns) {
  const links = ["csv", "ndjson"].map((format) =>
    el(
      "a",
      { href: withQuery("/logs/export", { ...query, format, bom: format === "csv" ? true : null }), download: `calls.${format}` },
      format.toUpperCase(),
    ),
  );
  const choose = el(
    "details",
    { class: "menu" },
    el("summary", {}, t("calls.columns")),
    el(
      "div",
      { class: "card popover" },
      columns.map((column) => columnBox(page, column, columns)),
    ),
  );
  const count = t(isExact ? (total === 1 ? "calls.total_one" : "calls.total") : "calls.about", { n: number(total) });
  const was = page.summary.querySelector("details[open]");
  if (was) choose.open = true;
  fill(
    page.summary,
    el("p", { id: "total" }, count),
    el("div", { class: "tools" }, choose, el("span", { class: "muted" }, t("calls.export")), links),
  );
}

function columnBox(page, { name, title }, columns) {
  const chosen = () => page.state.columns.split(",");
  const change = ({ target }) => {
    const kept = columns.map((column) => column.name).filter((other) => (other === name ? target.checked : chosen().includes(other)));
    go(page, { columns: kept.join(",") || "created_at" });
  };
  return el("label", { class: "choice" }, el("input", { type: "checkbox", checked: chosen().includes(name), on: { change } }), title);
}

function drawRows(page, query, first, columns, signal) {
  const open = (row) => {
    page.state = { ...page.state, call: row.request_id ?? String(row.id) };
    address.write(page.state, DEFAULTS);
    openCall(page, page.state.call);
  };
  const body = el("tbody");
  const head = el(
    "tr",
    {},
    columns.map((column) => el("th", { scope: "col", class: column.class }, column.title)),
  );
  const end = el("div", { class: "end" });
  const scroll = el(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": t("pages.calls") },
    el("table", { id: "calls" }, el("thead", {}, head), body),
  );
  fill(page.list, scroll, end);
  let cursor = null;
  const add = (answer) => {
    body.append(...answer.data.map((row) => line(columns, row, open)));
    cursor = answer.next_cursor;
    fill(end, cursor ? button(t("calls.load_more"), follow) : el("p", { class: "muted small" }, t("calls.end")));
  };
  const follow = async () => {
    const from = cursor;
    cursor = null;
    if (!from) return;
    try {
      add(await get("/logs", { ...query, limit: PAGE, cursor: from, total: "none" }, signal));
    } catch (error) {
      if (error.name === "AbortError") return;
      cursor = from;
      fill(end, problemNotice(error), button(t("calls.load_more"), follow));
    }
  };
  page.watching = new IntersectionObserver(([entry]) => entry.isIntersecting && follow(), { rootMargin: "600px" });
  add(first);
  page.watching.observe(end);
}

function openCall(page, id) {
  const onClose = () => {
    if (page.state.call !== id) return;
    page.state = { ...page.state, call: "" };
    address.write(page.state, DEFAULTS);
  };
  showCall(id, { zone: zoneOf(page.state), upstreams: page.upstreams, isOperator: page.frame.isOperator, onClose });
}
