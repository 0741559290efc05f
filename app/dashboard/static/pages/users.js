// Users: their accounts, credit and statements.

import { ask, get, part, withQuery } from "../api.js";
import { el, fill } from "../dom.js";
import { moment as shown, money, NONE, ownZone } from "../format.js";
import { amount, count, inputs, moment, state, text } from "../kinds.js";
import { listing } from "../listing.js";
import { button, dialog, formDialog, problemNotice, table, tell } from "../parts.js";
import { t } from "../words.js";
import { bill, lastMonths, nameOf, thisMonth } from "./account.js";

const LIMITS = ["rpm", "tpm", "max_concurrency", "daily_limit", "monthly_limit"];
const LAST = 20;
/** Of a credit entry. */
const CREDIT = { amount: amount({ required: true }), note: text({ maxlength: 1000 }) };

const DECLARED = {
  name: "users",
  path: "/admin/users",
  key: "id",
  fields: {
    q: text(),
    id: text({ required: true, maxlength: 50 }),
    name: text(),
    group: text({ suggests: ["/admin/groups", "name"] }),
    credit_limit: amount({ placeholder: "0" }),
    available: amount(),
    credit: amount(),
    billed: amount(),
    held: amount(),
    written_off: amount(),
    rpm: count(),
    tpm: count(),
    max_concurrency: count(),
    daily_limit: amount(),
    monthly_limit: amount(),
    disabled: state(),
    account_opened_at: moment(),
  },
  filters: ["q"],
  columns: ["id", "name?", "group?", "available", "billed?", "disabled"],
  facts: [
    "name",
    "group",
    "available",
    "credit",
    "billed",
    "held",
    "credit_limit",
    "written_off",
    ...LIMITS,
    "account_opened_at",
    "disabled",
  ],
  create: ["id", "name", "group", "credit_limit"],
  change: ["name", "group", "credit_limit"],
  more: LIMITS,
  made: (user, page) => {
    tell(t("users.created"));
    topUp(user, page);
  },
  disables: true,
  actions: [{ name: "top_up", kind: "main", run: topUp }],
  looks: [{ name: "statement", run: showStatement }],
  details: (user) => [
    el(
      "p",
      { class: "tools" },
      el("a", { href: withQuery("/dashboard/keys", { user_id: user.id }) }, t("users.keys")),
      el("a", { href: withQuery("/dashboard/calls", { user_id: user.id }) }, t("users.calls")),
      el("a", { href: withQuery("/dashboard/audit", { object_kind: "user", object_id: user.id }) }, t("users.audit")),
    ),
    credits(user),
  ],
};

export const show = (content, frame) => listing(content, frame, DECLARED);

/** The same form sent twice adds once. */
function topUp(user, page) {
  const headers = {
    "Idempotency-Key": Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join(""),
  };
  const submit = async (values) => {
    const { amount: added } = await ask("POST", `/admin/users/${part(user.id)}/credits`, {
      body: { amount: values.amount, note: values.note },
      headers,
    });
    tell(t("users.topped_up", { amount: money(added), name: user.id }));
    await page.changed(user);
  };
  formDialog(t("users.top_up_title", { name: user.id }), inputs(CREDIT, ["amount", "note"]), {
    submit,
    button: t("users.top_up"),
    intro: t("users.top_up_hint", { available: money(user.available) }),
  });
}

/** The newest entries, and all when asked for. */
function credits(user) {
  const place = el("section", { class: "form", id: "credits" });
  const columns = [
    { title: t("fields.created_at"), class: "tight", cell: (entry) => shown(entry.created_at, ownZone, { seconds: false }) },
    { title: t("fields.amount"), class: "number", cell: (entry) => money(entry.amount) },
    {
      title: t("fields.note"),
      cell: (entry) =>
        entry.note ?? (entry.code_id ? t("users.by_code", { id: entry.code_id }) : entry.request_id ? t("account.refund") : NONE),
    },
  ];
  const load = async (cursor = null, before = []) => {
    try {
      const { data, next_cursor: next } = await get(`/admin/users/${part(user.id)}/credits`, { limit: LAST, cursor });
      const entries = [...before, ...data];
      const none = el("p", { class: "muted" }, t("users.no_credits"));
      fill(
        place,
        el("h3", {}, t("users.credits")),
        table(columns, entries, { empty: none, caption: t("users.credits") }),
        next && button(t("calls.load_more"), () => load(next, entries)),
      );
    } catch (error) {
      fill(place, problemNotice(error));
    }
  };
  load();
  return place;
}

function showStatement(user) {
  const place = el("div");
  const csv = el("a", {}, t("account.csv"));
  const load = async (month) => {
    const path = `/admin/users/${part(user.id)}/statement`;
    csv.href = withQuery(path, { month, time_zone: ownZone, format: "csv" });
    csv.download = `statement-${month}.csv`;
    try {
      fill(place, bill(await get(path, { month, time_zone: ownZone })));
    } catch (error) {
      fill(place, problemNotice(error));
    }
  };
  const choose = el(
    "select",
    { "aria-label": t("account.month"), on: { change: ({ target }) => load(target.value) } },
    lastMonths().map((month) => el("option", { value: month }, nameOf(month))),
  );
  dialog(t("users.statement_title", { name: user.id }), el("div", { class: "form" }, el("div", { class: "tools" }, choose, csv), place), {
    wide: true,
  });
  load(thisMonth());
}
