// What calls came to: figures against the period before, spend over time, who and what it goes to, and how the proxy itself is.
// All figures are what `/logs/stats` answers; nothing is summed up here but what the charts leave out as "others".

import * as address from "../address.js";
import { get, getAll } from "../api.js";
import { el, fill } from "../dom.js";
import { button, empty, problemNotice } from "../parts.js";
import { asQuery, endsNow, every, periodOf, periodTools, startsOf, zoneOf } from "../period.js";
import { t } from "../words.js";
import { figures, ledger, top, upstreamHealth, warnings } from "./overview_cards.js";
import { drawHeat, drawLive, drawSpend, SHOWN } from "./overview_charts.js";

const RANGES = ["1h", "24h", "7d", "30d", "90d", "365d"];
const REFRESH = ["0", "10", "30", "300"];
const DEFAULTS = { range: "24h", by: "model", refresh: "30" };
const LIVE_EVERY = 5;
const WEEK = 7 * 24 * 3600e3;
const GROUPS = 200;
/** That the chart of minutes is made of, about. */
const ROWS = 200e3;
/** The filter of `/logs` for each way to group. */
export const FILTER = { model: "model_name", user: "user_id", key: "api_key_id", upstream: "upstream_id" };

export async function show(content, frame) {
  const page = {
    content,
    frame,
    state: address.read(DEFAULTS),
    charts: {},
    names: { key: new Map(), upstream: new Map() },
    places: places(),
  };
  page.ways = frame.isOperator ? ["model", "user", "key", "upstream"] : frame.scope === "account" ? ["model", "key"] : ["model"];
  lay(page);
  address.onReturn(() => {
    page.state = address.read(DEFAULTS);
    begin(page);
  });
  every(LIVE_EVERY, () => loadLive(page));
  await begin(page);
}

const places = () =>
  Object.fromEntries(
    ["problem", "figures", "warnings", "spend", "ways", "tops", "heat", "live", "now", "upstreams", "ledger"].map((name) => [
      name,
      el("div"),
    ]),
  );

function lay({ content, places, frame }) {
  places.figures.className = "figures";
  places.figures.id = "figures";
  for (const [name, height] of [
    ["spend", "chart"],
    ["heat", "chart low"],
    ["live", "chart low"],
  ])
    places[name].className = height;
  places.ways.className = "tools";
  places.tops.className = "columns";
  const section = (title, aside, place) =>
    el("section", { class: "card" }, el("div", { class: "head" }, el("h2", {}, title), aside), place);
  fill(
    content,
    places.problem,
    places.figures,
    places.warnings,
    section(t("overview.spend_over_time"), places.ways, places.spend),
    places.tops,
    el("div", { class: "columns" }, section(t("overview.week"), null, places.heat), section(t("overview.live"), places.now, places.live)),
    frame.isOperator &&
      el(
        "div",
        { class: "columns" },
        section(t("overview.upstreams"), null, places.upstreams),
        section(t("overview.ledger"), null, places.ledger),
      ),
  );
}

function go(page, changes) {
  page.state = { ...page.state, ...changes };
  address.write(page.state, DEFAULTS);
  begin(page);
}

/** The tools, the first answers, and new ones as often as is wished. */
async function begin(page) {
  const { state, frame } = page;
  const refresh = el(
    "select",
    { "aria-label": t("overview.refresh"), on: { change: ({ target }) => go(page, { refresh: target.value }) } },
    REFRESH.map((code) => el("option", { value: code, selected: code === state.refresh }, t(`overview.refresh_${code}`))),
  );
  fill(
    frame.tools,
    periodTools(state, RANGES, (changes) => go(page, changes)),
    refresh,
    button(t("overview.reload"), () => load(page)),
  );
  fill(
    page.places.ways,
    page.ways.length > 1 &&
      page.ways.map((way) =>
        el(
          "button",
          { type: "button", "aria-pressed": String(way === state.by), on: { click: () => go(page, { by: way }) } },
          t(`overview.by_${way}`),
        ),
      ),
  );
  page.stop?.();
  const seconds = Number(state.refresh);
  page.stop = seconds > 0 && endsNow(state) ? every(seconds, () => load(page)) : () => {};
  await load(page);
}

async function load(page) {
  page.loading?.abort();
  page.loading = new AbortController();
  const { signal } = page.loading;
  try {
    page.known = loadNames(page, signal);
    await Promise.all([
      page.known,
      loadFigures(page, signal),
      loadLive(page, signal),
      loadWeek(page, signal),
      page.frame.isOperator && loadHealth(page, signal),
    ]);
    fill(page.places.problem);
  } catch (error) {
    if (error.name !== "AbortError") fill(page.places.problem, problemNotice(error));
  }
}

async function loadFigures(page, signal) {
  const { state, frame, places } = page;
  const period = periodOf(state);
  const now = asQuery(period, endsNow(state));
  const ask = (query) => get("/logs/stats", query, signal);
  const before = period.before && asQuery({ from: period.before, to: period.from });
  const [whole, earlier] = await Promise.all([ask(now), before && ask(before)]);
  const isEmpty = !whole.data.length;
  const key = frame.isOperator ? null : await get("/v1/key", {}, signal);
  fill(places.figures, figures(whole.data[0], earlier?.data[0], key));
  if (isEmpty) {
    fill(
      places.tops,
      el(
        "section",
        { class: "card" },
        empty(t("overview.empty"), t(frame.isOperator ? "overview.empty_operator" : "overview.empty_owner")),
      ),
    );
  }
  const ways = frame.isOperator ? ["model", "user"] : ["model"];
  await page.known;
  const groups = Object.fromEntries(
    await Promise.all([...new Set([state.by, ...ways])].map(async (way) => [way, await topGroups(page, way, now, signal)])),
  );
  if (!isEmpty)
    fill(
      places.tops,
      ways.map((way) => top(way, groups[way], whole.data[0], linkTo(page, period))),
    );
  await loadSpend(page, period, now, groups[state.by], ask);
}

/** Those with the highest bills first, of those with the most calls. */
async function topGroups(page, way, query, signal) {
  const { data } = await get("/logs/stats", { ...query, group_by: way, percentiles: false, limit: GROUPS }, signal);
  return data
    .map((group) => ({ ...group, id: group[way], name: nameOf(page, way, group[way]) }))
    .sort((one, other) => Number(other.bill) - Number(one.bill) || other.calls - one.calls);
}

function nameOf({ names }, way, id) {
  if (id === null || id === undefined) return t("overview.none");
  return way === "key" || way === "upstream" ? (names[way].get(id) ?? `#${id}`) : id;
}

/** The series of those with the highest bills, one by one, as all together would be thousands of rows; the rest is what is left. */
async function loadSpend(page, period, now, groups, ask) {
  const { state } = page;
  const zone = zoneOf(state);
  const series = { ...now, interval: period.interval, time_zone: zone, percentiles: false };
  const shown = groups.filter(({ id, bill }) => id !== null && id !== undefined && Number(bill) > 0).slice(0, SHOWN);
  const [whole, ...each] = await Promise.all([ask(series), ...shown.map(({ id }) => ask({ ...series, [FILTER[state.by]]: id }))]);
  const since = period.from ?? new Date(whole.created_from);
  const starts = startsOf(since, period.to ?? new Date(), period.interval, zone);
  const byStart = ({ data }) => new Map(data.map((one) => [Date.parse(one.start), Number(one.bill)]));
  const open = (group, from, to) => location.assign(callsAt(page, { from, to, filter: group && { [FILTER[state.by]]: group.id } }));
  await drawSpend(page, {
    starts,
    interval: period.interval,
    zone,
    whole: byStart(whole),
    groups: shown.map((group, at) => ({ ...group, values: byStart(each[at]) })),
    open,
  });
}

const callsAt = ({ state }, { from, to, filter }) => {
  const query = new URLSearchParams({
    range: "custom",
    from: from.toISOString(),
    ...(to ? { to: to.toISOString() } : {}),
    ...(state.zone ? { zone: state.zone } : {}),
    ...filter,
  });
  return `/dashboard/calls?${query}`;
};

const linkTo = (page, period) => (way, id) =>
  callsAt(page, { from: period.from ?? new Date(0), to: endsNow(page.state) ? null : period.to, filter: { [FILTER[way]]: id } });

async function loadWeek(page, signal) {
  const zone = zoneOf(page.state);
  const to = periodOf(page.state).to ?? new Date();
  const week = { from: new Date(to - WEEK), to };
  const { data } = await get(
    "/logs/stats",
    { ...asQuery(week, endsNow(page.state)), interval: "hour", time_zone: zone, percentiles: false },
    signal,
  );
  await drawHeat(page, { week, zone, data, open: (from, to) => location.assign(callsAt(page, { from, to })) });
}

/** The counts of now, and at each load the minutes before: fewer of them where calls are many, as sums by minute are of rows. */
async function loadLive(page, signal) {
  const zone = zoneOf(page.state);
  try {
    const now = await get("/logs/live", {}, signal);
    fill(page.places.now, t("overview.live_now", { calls: now.calls_per_minute, flying: now.in_flight }));
    if (!signal) return;
    const minutes = Math.min(60, Math.max(5, Math.floor(ROWS / Math.max(1, now.calls_per_minute))));
    const since = new Date(Date.now() - minutes * 60e3);
    const { data } = await get("/logs/stats", { created_from: since.toISOString(), interval: "minute", percentiles: false }, signal);
    await drawLive(page, { since, zone, data });
  } catch (error) {
    if (signal) throw error;
    fill(page.places.now, error.message);
  }
}

/** What keys and upstreams are called, as sums have their ids alone. */
async function loadNames({ frame, names, state }, signal) {
  if (!frame.isOperator) return [];
  const [upstreams, keys] = await Promise.all([
    getAll("/admin/upstreams", {}, signal),
    state.by === "key" && !names.key.size ? getAll("/admin/keys", {}, signal) : [],
  ]);
  for (const { id, name } of upstreams) names.upstream.set(id, name);
  for (const { id, name, user_id: user } of keys) names.key.set(id, `${name ?? `#${id}`} (${user})`);
  return upstreams;
}

async function loadHealth(page, signal) {
  const { places, state } = page;
  const period = asQuery(periodOf(state), endsNow(state));
  const [upstreams, calls, found, ready] = await Promise.all([
    page.known,
    get("/logs/stats", { ...period, group_by: "upstream" }, signal),
    get("/admin/state", {}, signal),
    get("/readyz", {}, signal).then(
      () => null,
      (error) => error,
    ),
  ]);
  fill(places.upstreams, upstreamHealth(upstreams, calls.data));
  fill(places.ledger, ledger(found));
  const isOpen = Boolean(places.warnings.querySelector("details[open]"));
  fill(places.warnings, warnings(found, ready, upstreams, isOpen));
}
