// The overview's figures and tables.

import { el } from "../dom.js";
import { ago, bytes, change, duration, money, NONE, number, percent, short, signed } from "../format.js";
import { card, empty, facts, notice, pill, table } from "../parts.js";
import { t } from "../words.js";

const NOTHING = {
  bill: "0",
  calls: 0,
  failures: 0,
  input_tokens: 0,
  output_tokens: 0,
  latency_ms: { p95: null },
  first_token_ms: { p95: null },
};
const SHOWN = 8;

/** `whole`, `before`: of `/logs/stats` without groups; undefined: no call. `key`: of the owner who looks, whose balance comes first. */
export function figures(whole = NOTHING, before = undefined, key = null) {
  const share = (one) => (one.calls ? one.failures / one.calls : null);
  const tokens = (one) => one.input_tokens + one.output_tokens;
  const than = before ?? NOTHING;
  return [
    key && figure("available", money(key.account.available), el("a", { href: "/dashboard/account" }, t("pages.account"))),
    figure("spend", money(whole.bill), changed(Number(whole.bill), Number(than.bill)), whole.bill),
    figure("calls", number(whole.calls), changed(whole.calls, than.calls), whole.calls),
    figure("tokens", short(tokens(whole)), changed(tokens(whole), tokens(than)), tokens(whole)),
    figure("failures", percent(share(whole), 2), points(share(whole), share(than)), whole.failures),
    figure("latency", duration(whole.latency_ms.p95), changed(whole.latency_ms.p95, than.latency_ms.p95, true), whole.latency_ms.p95),
    figure(
      "first_token",
      duration(whole.first_token_ms.p95),
      changed(whole.first_token_ms.p95, than.first_token_ms.p95, true),
      whole.first_token_ms.p95,
    ),
  ].filter(Boolean);
}

/** `exact`: what the figure is short for. */
function figure(name, value, below, exact = null) {
  return el(
    "section",
    { class: "figure", id: `figure-${name}`, dataset: { value: exact ?? "" } },
    el("h2", {}, t(`overview.${name}`)),
    el("p", { class: "value", title: exact }, value),
    el("p", { class: "change" }, below),
  );
}

/** `isWorse`: more of it is worse; else it is neither. */
function changed(now, before, isWorse = false) {
  if (!before || now === null) return t("overview.no_before");
  return against((now - before) / before, change((now - before) / before), isWorse);
}

/** Of shares, in points of percent. */
function points(now, before) {
  if (now === null || before === null) return t("overview.no_before");
  const moved = now - before;
  return against(moved, t("overview.points", { n: signed(moved * 100) }), true);
}

function against(moved, text, isWorse) {
  const kind = !isWorse || Math.abs(moved) < 0.0005 ? null : moved > 0 ? "bad" : "good";
  const [before, after = ""] = t("overview.against", { change: "\n" }).split("\n");
  return [before, el("span", { class: kind }, text), after];
}

/** `groups`: those with the highest bills first. `link(way, id)`: to their calls. */
export function top(way, groups, whole, link) {
  const columns = [
    {
      title: t(`overview.${way}`),
      cell: ({ id, name }) => (id === null || id === undefined ? name : el("a", { href: link(way, id) }, name)),
    },
    { title: t("overview.spend"), class: "number", cell: ({ bill }) => money(bill) },
    {
      title: t("overview.share"),
      class: "number spare",
      cell: ({ bill }) => percent(Number(whole.bill) ? Number(bill) / Number(whole.bill) : null),
    },
    { title: t("overview.calls"), class: "number", cell: ({ calls }) => number(calls) },
    { title: t("overview.failures"), class: "number", cell: ({ calls, failures }) => percent(failures / calls) },
  ];
  return card(t(`overview.top_${way}`), table(columns, groups.slice(0, SHOWN), { caption: t(`overview.top_${way}`) }));
}

export function upstreamHealth(upstreams, calls) {
  const of = new Map(calls.map((one) => [one.upstream, one]));
  const state = ({ id, disabled, health }) =>
    disabled
      ? pill(t("overview.disabled"))
      : el(
          "span",
          { id: `health-${id}` },
          pill(t(`overview.health_${health}`), { closed: "good", half_open: "warn", open: "bad" }[health]),
        );
  const columns = [
    { title: t("overview.upstream"), cell: ({ id, name }) => el("a", { href: `/dashboard/calls?upstream_id=${id}` }, name) },
    { title: t("overview.health"), cell: state },
    { title: t("overview.calls"), class: "number", cell: ({ id }) => number(of.get(id)?.calls ?? 0) },
    {
      title: t("overview.failures"),
      class: "number",
      cell: ({ id }) => (of.has(id) ? percent(of.get(id).failures / of.get(id).calls) : NONE),
    },
    { title: t("overview.latency"), class: "number", cell: ({ id }) => duration(of.get(id)?.latency_ms?.p95) },
  ];
  const shown = [...upstreams].sort(
    (one, other) => one.disabled - other.disabled || (of.get(other.id)?.calls ?? 0) - (of.get(one.id)?.calls ?? 0),
  );
  return table(columns, shown.slice(0, 12), {
    caption: t("overview.upstreams"),
    empty: empty(t("overview.no_upstreams"), t("overview.no_upstreams_hint")),
  });
}

export function ledger({ in_flight: flying, held, oldest, processes, spool }) {
  return facts([
    [t("overview.in_flight"), number(flying)],
    [t("overview.held"), money(held)],
    [t("overview.oldest"), oldest ? ago(oldest) : NONE],
    [t("overview.processes"), number(processes)],
    [t("overview.unsettled"), spool.unsettled ? pill(number(spool.unsettled), "warn") : number(0)],
    [t("overview.spool"), bytes(spool.size)],
  ]);
}

/** What somebody should do something about. `ready`: what `/readyz` says is wrong. `isOpen`: the list of users is. */
export function warnings({ low, spool }, ready, upstreams, isOpen) {
  const broken = upstreams.filter(({ disabled, health }) => !disabled && health === "open");
  const told = [
    ready && notice("bad", ready.message),
    !ready && spool.trouble && notice("bad", spool.trouble),
    broken.length > 0 && notice("warn", t("overview.broken", { names: broken.map(({ name }) => name).join(", ") })),
    low.length > 0 &&
      el(
        "details",
        { class: "notice warn", open: isOpen },
        el("summary", {}, t(low.length === 1 ? "overview.low_one" : "overview.low", { n: low.length })),
        table(
          [
            {
              title: t("overview.user"),
              cell: (user) => el("a", { href: `/dashboard/calls?${new URLSearchParams({ user_id: user.user_id })}` }, user.user_id),
            },
            { title: t("overview.available"), class: "number", cell: (user) => money(user.available) },
            { title: t("overview.daily"), class: "number", cell: (user) => money(user.daily) },
            {
              title: t("overview.lasts"),
              class: "number",
              cell: (user) => t("overview.days", { n: number(Math.max(0, Math.round(user.days * 10) / 10)) }),
            },
          ],
          low,
          { caption: t("overview.low", { n: low.length }) },
        ),
      ),
  ].filter(Boolean);
  return told.length ? el("div", { class: "form", id: "warnings" }, told) : null;
}
