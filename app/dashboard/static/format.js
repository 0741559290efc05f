// Money, numbers and dates, by locale. Money is a decimal string, and is never made a float where its digits are shown.

import { locale } from "./words.js";

export const currency = document.documentElement.dataset.currency;
export const NONE = "–";

const memo = new Map();
function formatter(Kind, options) {
  const key = Kind.name + JSON.stringify(options);
  if (!memo.has(key)) memo.set(key, new Kind(locale, options));
  return memo.get(key);
}

/** `amount`: a decimal string. All digits with `exact`; else as many as tell something. */
export function money(amount, { exact = false } = {}) {
  if (amount === null || amount === undefined) return NONE;
  const size = Math.abs(Number(amount));
  const digits = exact ? 10 : size >= 100 || size === 0 ? 2 : size >= 0.01 ? 4 : 6;
  const least = exact || size === 0 || size >= 100 ? 2 : 4;
  const options = {
    style: "currency",
    currency,
    currencyDisplay: "narrowSymbol",
    minimumFractionDigits: least,
    maximumFractionDigits: digits,
  };
  return formatter(Intl.NumberFormat, options).format(amount);
}

export function shortMoney(amount) {
  const options = { style: "currency", currency, currencyDisplay: "narrowSymbol", notation: "compact", maximumSignificantDigits: 3 };
  return formatter(Intl.NumberFormat, options).format(amount);
}

export function number(value) {
  return value === null || value === undefined ? NONE : formatter(Intl.NumberFormat, { maximumFractionDigits: 10 }).format(value);
}

export function short(value) {
  return value === null || value === undefined
    ? NONE
    : formatter(Intl.NumberFormat, { notation: "compact", maximumSignificantDigits: 3 }).format(value);
}

/** `share`: of one. */
export function percent(share, digits = 1) {
  return share === null || !Number.isFinite(share)
    ? NONE
    : formatter(Intl.NumberFormat, { style: "percent", maximumFractionDigits: digits }).format(share);
}

export function change(share) {
  const options = { style: "percent", maximumFractionDigits: Math.abs(share) < 0.1 ? 1 : 0, signDisplay: "exceptZero" };
  return formatter(Intl.NumberFormat, options).format(share);
}

export function signed(value) {
  return formatter(Intl.NumberFormat, { maximumFractionDigits: 2, signDisplay: "exceptZero" }).format(value);
}

/** Of milliseconds. */
export function duration(ms) {
  if (ms === null || ms === undefined) return NONE;
  const unit = ms < 1000 ? "millisecond" : "second";
  const value = ms < 1000 ? ms : ms / 1000;
  return formatter(Intl.NumberFormat, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: value < 10 ? 2 : 1 }).format(
    value,
  );
}

export function bytes(size) {
  const step = size >= 1e9 ? [1e9, "gigabyte"] : size >= 1e6 ? [1e6, "megabyte"] : size >= 1e3 ? [1e3, "kilobyte"] : [1, "byte"];
  return formatter(Intl.NumberFormat, { style: "unit", unit: step[1], unitDisplay: "narrow", maximumFractionDigits: 1 }).format(
    size / step[0],
  );
}

/** `moment`: ISO 8601 or a Date; `timeZone`: of the IANA database. */
export function moment(moment, timeZone, { seconds = true } = {}) {
  if (!moment) return NONE;
  const options = { dateStyle: "medium", timeStyle: seconds ? "medium" : "short", timeZone };
  return formatter(Intl.DateTimeFormat, options).format(new Date(moment));
}

export function shortMoment(moment, timeZone) {
  const options = { month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone };
  return formatter(Intl.DateTimeFormat, options).format(new Date(moment));
}

export function day(moment, timeZone) {
  return formatter(Intl.DateTimeFormat, { month: "short", day: "numeric", timeZone }).format(new Date(moment));
}

export function clock(moment, timeZone) {
  return formatter(Intl.DateTimeFormat, { hour: "numeric", minute: "2-digit", timeZone }).format(new Date(moment));
}

export function month(moment, timeZone) {
  return formatter(Intl.DateTimeFormat, { year: "numeric", month: "short", timeZone }).format(new Date(moment));
}

/** How long ago, roughly. */
export function ago(moment) {
  const seconds = (new Date(moment) - Date.now()) / 1000;
  const [size, unit] = [
    [86400, "day"],
    [3600, "hour"],
    [60, "minute"],
  ].find(([least]) => Math.abs(seconds) >= least) ?? [1, "second"];
  return formatter(Intl.RelativeTimeFormat, { numeric: "auto" }).format(Math.round(seconds / size), unit);
}

export const zones = Intl.supportedValuesOf("timeZone");
export const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone;
