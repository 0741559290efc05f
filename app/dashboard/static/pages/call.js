// One call in full: what it was, how its bill adds up, and the upstreams that were tried.

import { get, part } from "../api.js";
import { el, fill } from "../dom.js";
import { duration, moment, money, NONE, number } from "../format.js";
import { copyButton, dialog, facts, notice, pill, problemNotice, table } from "../parts.js";
import { named, t } from "../words.js";

/** `id`: a row's `request_id`, or its `id`. `upstreams`: names by id. */
export async function showCall(id, { zone, upstreams, isOperator, onClose }) {
  const place = el("div", { class: "form call", "aria-busy": "true" });
  dialog(t("calls.call"), place, { wide: true, onClose });
  try {
    const call = await get(`/logs/${part(id)}`);
    fill(place, whatItWas(call, zone, upstreams, isOperator), bill(call), attempts(call, upstreams), technical(call));
  } catch (error) {
    fill(place, problemNotice(error));
  } finally {
    place.removeAttribute("aria-busy");
  }
}

function whatItWas(call, zone, upstreams, isOperator) {
  const state = el(
    "p",
    { class: "tools" },
    pill(named("status", call.status), call.status === "success" ? "good" : "bad"),
    call.end_reason && pill(named("end_reason", call.end_reason)),
    (call.flags ?? []).map((flag) => pill(flag, "warn")),
  );
  const known = facts(
    [
      [t("calls.created_at"), moment(call.created_at, zone)],
      [t("calls.user_id"), call.user_id],
      [t("calls.api_key_id"), call.api_key_id === null ? NONE : `#${call.api_key_id}`],
      [t("calls.model_name"), call.model_name],
      [
        t("calls.upstream_id"),
        isOperator && call.upstream_id !== null ? `${upstreams.get(call.upstream_id) ?? ""} #${call.upstream_id}` : null,
      ],
      [t("calls.upstream_model"), call.upstream_model],
      [t("calls.api"), call.api],
      [t("calls.is_stream"), call.is_stream === null ? null : t(call.is_stream ? "calls.yes" : "calls.no")],
      [t("calls.http_status"), call.http_status],
      [t("calls.latency_ms"), duration(call.latency_ms)],
      [t("calls.first_token_ms"), duration(call.first_token_ms)],
      [t("calls.usage_source"), call.usage_source && named("usage_source", call.usage_source)],
      [t("calls.end_user"), call.end_user],
      [t("calls.request_ip"), call.request_ip],
      [t("calls.max_tokens_applied"), call.max_tokens_applied],
      [t("calls.amended_at"), call.amended_at && moment(call.amended_at, zone)],
    ].filter(([, what]) => what !== null && what !== undefined && what !== ""),
  );
  const id = call.request_id && el("p", { class: "tools" }, el("code", {}, call.request_id), copyButton(call.request_id));
  return el("div", { class: "form" }, state, call.error_message && notice("bad", call.error_message), known, id);
}

/** Lines, their sum, the group's multiplier, the charge, what it was cut to, what was given back. */
function bill(call) {
  const lines = (call.line_items ?? []).map((item) => ({
    what: named("meters", item.meter),
    model: item.model,
    quantity: number(item.quantity),
    rate:
      item.unit_price === undefined ? NONE : `${money(item.unit_price, { exact: true })} ${item.per === 1 ? "" : t("calls.per_million")}`,
    amount: money(item.amount, { exact: true }),
  }));
  const multiplier = call.price?.multiplier;
  const sums = [
    multiplier && [t("calls.multiplier", { group: call.price.group ?? "" }), `× ${multiplier}`],
    call.charge !== null && [t("calls.charge"), money(call.charge, { exact: true })],
    Number(call.write_off) > 0 && [t("calls.write_off"), money(call.write_off, { exact: true })],
    [t("calls.bill"), money(call.bill, { exact: true })],
    Number(call.refunded) > 0 && [t("calls.refunded"), money(call.refunded, { exact: true })],
    call.upstream_cost && [t("calls.upstream_cost"), money(call.upstream_cost, { exact: true })],
  ].filter(Boolean);
  const columns = [
    { title: t("calls.meter"), cell: (item) => el("span", {}, item.what, item.model && el("span", { class: "muted" }, ` ${item.model}`)) },
    { title: t("calls.quantity"), class: "number", cell: (item) => item.quantity },
    { title: t("calls.rate"), class: "number", cell: (item) => item.rate },
    { title: t("calls.amount"), class: "number", cell: (item) => item.amount },
  ];
  const shown = lines.length
    ? table(columns, lines, { caption: t("calls.how_billed") })
    : el("p", { class: "muted" }, t(call.status === "failed" ? "calls.not_billed" : "calls.no_lines"));
  shown.querySelector?.("table")?.append(
    el(
      "tfoot",
      {},
      sums.map(([term, amount]) => el("tr", {}, el("td", { colspan: 3 }, term), el("td", { class: "number" }, amount))),
    ),
  );
  const total = lines.length ? null : facts(sums);
  return el(
    "section",
    { class: "form", id: "bill" },
    el("h3", {}, t("calls.how_billed")),
    shown,
    total,
    el("p", { class: "muted small" }, t("calls.rounding")),
  );
}

/** One bar an attempt, as long as it took, after those before it. */
function attempts(call, upstreams) {
  const tried = call.attempts ?? [];
  if (!tried.length) return null;
  const whole = Math.max(
    tried.reduce((sum, attempt) => sum + (attempt.ms ?? 0), 0),
    call.latency_ms ?? 0,
    1,
  );
  let before = 0;
  const lines = tried.map((attempt) => {
    const failed = attempt.error || attempt.status >= 400;
    const bar = el("span", { class: `span ${failed ? "bad" : "good"}` });
    bar.style.marginInlineStart = `${(before / whole) * 100}%`;
    bar.style.width = `max(3px, ${((attempt.ms ?? 0) / whole) * 100}%)`;
    before += attempt.ms ?? 0;
    const said = [attempt.status, attempt.error, attempt.cost && t("calls.attempt_cost", { amount: money(attempt.cost, { exact: true }) })]
      .filter(Boolean)
      .join(" · ");
    return el(
      "li",
      {},
      el("span", { class: "name" }, upstreams.get(attempt.upstream_id) ?? `#${attempt.upstream_id}`),
      el("span", { class: "track" }, bar),
      el("span", { class: "number" }, duration(attempt.ms)),
      el("span", { class: "said muted" }, said),
    );
  });
  return el("section", { class: "form" }, el("h3", {}, t("calls.attempts")), el("ol", { class: "timeline" }, lines));
}

function technical(call) {
  const rest = { tags: call.tags, price: call.price, line_items: call.line_items, attempts: call.attempts };
  return el("details", {}, el("summary", {}, t("calls.raw")), el("pre", {}, JSON.stringify(rest, null, 2)));
}
