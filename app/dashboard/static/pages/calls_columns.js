// The columns of a row that the list of calls may show.

import { duration, moment, money, NONE, number, shortMoment } from "../format.js";
import { pill } from "../parts.js";
import { named, t } from "../words.js";

/** What the holders of keys don't see, or is the same in all of their rows. */
export const OWNER_HIDES = ["user_id", "upstream_id", "upstream_cost"];
/** Whether there is room for a few columns only. */
export const isSlim = matchMedia("(max-width: 860px)").matches;

/** All columns of a row that the table may show. */
export function columnsFor({ isOperator }, zone, upstreams) {
  const text = (name) => ({ name, title: t(`calls.${name}`), cell: (row) => row[name] ?? NONE });
  const count = (name) => ({ name, title: t(`calls.${name}`), class: "number", cell: (row) => number(row[name]) });
  const amount = (name) => ({ name, title: t(`calls.${name}`), class: "number", cell: (row) => money(row[name]) });
  const time = (name) => ({ name, title: t(`calls.${name}`), class: "number", cell: (row) => duration(row[name]) });
  const code = (name) => ({ name, title: t(`calls.${name}`), cell: (row) => (row[name] ? named(name, row[name]) : NONE) });
  const all = [
    {
      name: "created_at",
      title: t("calls.created_at"),
      class: "tight",
      cell: (row) => (isSlim ? shortMoment(row.created_at, zone) : moment(row.created_at, zone)),
    },
    text("user_id"),
    { name: "api_key_id", title: t("calls.api_key_id"), class: "number", cell: (row) => row.api_key_id ?? NONE },
    text("model_name"),
    {
      name: "status",
      title: t("calls.status"),
      cell: (row) => pill(named("status", row.status), row.status === "success" ? "good" : "bad"),
    },
    count("input_tokens"),
    count("output_tokens"),
    count("cache_read_tokens"),
    count("cache_write_tokens"),
    count("reasoning_tokens"),
    amount("bill"),
    amount("charge"),
    amount("write_off"),
    amount("upstream_cost"),
    time("latency_ms"),
    time("first_token_ms"),
    { name: "upstream_id", title: t("calls.upstream_id"), cell: (row) => upstreams.get(row.upstream_id) ?? row.upstream_id ?? NONE },
    text("upstream_model"),
    text("api"),
    code("end_reason"),
    code("usage_source"),
    { name: "http_status", title: t("calls.http_status"), class: "number", cell: (row) => row.http_status ?? NONE },
    { name: "is_stream", title: t("calls.is_stream"), cell: (row) => yesNo(row.is_stream) },
    { name: "is_local", title: t("calls.is_local"), cell: (row) => yesNo(row.is_local) },
    text("error_message"),
    text("end_user"),
    text("request_ip"),
    text("request_id"),
  ];
  return all.filter(({ name }) => isOperator || !OWNER_HIDES.includes(name));
}

const yesNo = (value) => (value === null ? NONE : t(value ? "calls.yes" : "calls.no"));
