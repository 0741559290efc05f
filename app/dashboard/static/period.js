// Which stretch of time is asked for, and in whose time zone: `range` in the address, or `from` and `to` (ISO 8601) with `custom`.

import { el } from "./dom.js";
import { ownZone, zones } from "./format.js";
import { t } from "./words.js";

const HOUR = 3600e3;
const DAY = 24 * HOUR;
export const RANGES = ["1h", "24h", "7d", "30d", "90d", "365d", "all"];

export const zoneOf = (state) => (zones.includes(state.zone) || state.zone === "UTC" ? state.zone : ownZone);

/** {from, to, before, interval}: Dates, null where nothing limits; `before`: where the period of the same length before it begins;
 *  `interval`: as `/logs/stats` takes it. A period that ends now ends a moment later, as clocks differ. */
export function periodOf(state, now = Date.now()) {
  if (state.range === "all") return { from: null, to: null, before: null, interval: "month" };
  let from, to;
  if (state.range === "custom") {
    from = state.from ? Date.parse(state.from) : null;
    to = state.to ? Date.parse(state.to) : now;
  } else {
    const length = parseInt(state.range, 10) * (state.range.endsWith("h") ? HOUR : DAY);
    to = now;
    from = to - length;
  }
  if (from === null || Number.isNaN(from) || Number.isNaN(to))
    return { from: null, to: new Date(to || now), before: null, interval: "month" };
  const length = Math.max(to - from, 60e3);
  const interval = length <= 3 * HOUR ? "minute" : length <= 3 * DAY ? "hour" : length <= 400 * DAY ? "day" : "month";
  return { from: new Date(from), to: new Date(to), before: new Date(from - length), interval };
}

/** The filters of `/logs` for a period. One that ends now isn't limited at that end: what is on its way is in it. */
export function asQuery({ from, to }, isOpen = false) {
  return { created_from: from?.toISOString(), created_to: isOpen ? null : to?.toISOString() };
}

export const endsNow = (state) => state.range !== "custom" || !state.to;

/** What a clock on the wall of `zone` shows, as an input of the type `datetime-local` takes it. */
export function wall(moment, zone) {
  const parts = new Intl.DateTimeFormat("en-CA", {
    timeZone: zone,
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  }).formatToParts(moment);
  const of = Object.fromEntries(parts.map(({ type, value }) => [type, value]));
  return `${of.year}-${of.month}-${of.day}T${of.hour}:${of.minute}`;
}

/** The instant at which that clock shows `local`. */
export function instant(local, zone) {
  const shown = Date.parse(`${local}Z`);
  const offset = (at) => Date.parse(`${wall(new Date(at), zone)}Z`) - Math.floor(at / 60e3) * 60e3;
  const guess = shown - offset(shown);
  return new Date(shown - offset(guess));
}

/** Controls that choose the period and the zone; `onChange(changes)` gets what of the state is new. */
export function periodTools(state, ranges, onChange) {
  const zone = zoneOf(state);
  const range = el(
    "select",
    { "aria-label": t("period.label") },
    [...ranges, "custom"].map((code) => el("option", { value: code, selected: code === state.range }, t(`period.${code}`))),
  );
  const ends = ["from", "to"].map((name) =>
    el("input", {
      type: "datetime-local",
      "aria-label": t(`period.${name}`),
      value: state[name] ? wall(new Date(state[name]), zone) : "",
      on: {
        change: ({ target }) => onChange({ range: "custom", [name]: target.value ? instant(target.value, zone).toISOString() : "" }),
      },
    }),
  );
  range.addEventListener("change", () => {
    if (range.value !== "custom") return onChange({ range: range.value, from: "", to: "" });
    const { from, to } = periodOf({
      ...state,
      range: ranges.includes(state.range) && state.range !== "all" && state.range ? state.range : "7d",
    });
    onChange({ range: "custom", from: from.toISOString(), to: to.toISOString() });
  });
  const places = el("input", {
    type: "text",
    list: "zones",
    class: "zone",
    "aria-label": t("period.zone"),
    title: t("period.zone"),
    value: zone,
    on: {
      change: ({ target }) =>
        target.value === "UTC" || zones.includes(target.value) ? onChange({ zone: target.value }) : (target.value = zone),
      focus: ({ target }) => target.select(),
    },
  });
  const known = el(
    "datalist",
    { id: "zones" },
    ["UTC", ...zones.filter((name) => name !== "UTC")].map((name) => el("option", { value: name })),
  );
  return [range, ...(state.range === "custom" ? ends : []), places, known];
}

/** Runs `act` every `seconds` while the page is seen, until what it returns is called. */
export function every(seconds, act) {
  const timer = setInterval(() => document.visibilityState === "visible" && act(), seconds * 1000);
  return () => clearInterval(timer);
}

/** Where the periods of a stretch of time begin, in milliseconds, as `/logs/stats` begins them: by what clocks show in `zone`. */
export function startsOf(from, to, interval, zone) {
  const local = wall(from, zone);
  if (interval === "minute" || interval === "hour") {
    const step = interval === "minute" ? 60e3 : HOUR;
    const into = interval === "minute" ? 0 : Number(local.slice(14)) * 60e3;
    const first = Math.floor(from / 60e3) * 60e3 - into;
    return Array.from({ length: Math.max(0, Math.ceil((to - first) / step)) }, (_, at) => first + at * step);
  }
  const starts = [];
  const next = new Date(`${interval === "day" ? local.slice(0, 10) : `${local.slice(0, 7)}-01`}T00:00Z`);
  for (;;) {
    const start = instant(next.toISOString().slice(0, 16), zone).getTime();
    if (start >= to) return starts;
    starts.push(start);
    if (interval === "day") next.setUTCDate(next.getUTCDate() + 1);
    else next.setUTCMonth(next.getUTCMonth() + 1);
  }
}
