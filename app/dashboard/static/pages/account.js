// What the holder of a platform key has: balance, limits, bills by month, and redeeming codes.

import * as address from "../address.js";
import { ask, get, withQuery } from "../api.js";
import { el, fill } from "../dom.js";
import { moment, money, NONE, number, ownZone, shortMoment } from "../format.js";
import { card, empty, facts, field, form, notice, pill, problemNotice, table, tell } from "../parts.js";
import { locale, t } from "../words.js";

export async function show(content, frame) {
  const balance = el("div");
  const redeem = card(
    t("account.redeem"),
    redeemForm(() => showKey(balance)),
  );
  const statement = el("div");
  fill(content, balance, redeem, statement);
  await showKey(balance);
  if (frame.scope !== "account") {
    fill(statement, card(t("account.statement"), notice("plain", t("account.no_statement"))));
    return;
  }
  const again = () => showStatement(statement);
  address.onReturn(again);
  await again();
}

async function showKey(place) {
  const key = await get("/v1/key");
  const { account } = key;
  const isLow = Number(account.available) <= 0;
  fill(
    place,
    card(
      t("account.balance"),
      el("p", { class: "value big" }, money(account.available)),
      isLow &&
        notice(
          "warn",
          t("account.used_up"),
          key.topup_url && [" ", el("a", { href: key.topup_url, rel: "noreferrer" }, t("account.topup"))],
        ),
      facts([
        [t("account.credit"), money(account.credit)],
        [t("account.billed"), money(account.billed)],
        [t("account.held"), money(account.held)],
        [t("account.credit_limit"), money(account.credit_limit)],
        [t("account.key"), el("span", {}, `${key.name ?? ""} `, el("code", {}, key.key_prefix ? `${key.key_prefix}…` : `#${key.id}`))],
        [t("account.key_spent"), key.spend_limit ? `${money(key.spent)} / ${money(key.spend_limit)}` : money(key.spent)],
        [t("account.in_flight"), number(key.in_flight)],
        [t("account.limits"), limitsOf(key)],
        [t("account.models"), key.models ? key.models.join(", ") : t("account.all_models")],
        [t("account.expires"), key.expires_at ? moment(key.expires_at, ownZone) : t("account.never")],
      ]),
    ),
  );
}

function limitsOf({ rpm, tpm, max_concurrency: most }) {
  const told = [
    rpm && t("account.rpm", { n: number(rpm) }),
    tpm && t("account.tpm", { n: number(tpm) }),
    most && t("account.at_once", { n: number(most) }),
  ];
  return told.filter(Boolean).join(", ") || NONE;
}

function redeemForm(onRedeemed) {
  const code = field({ name: "code", label: t("account.code"), placeholder: "XXXX-XXXX-XXXX-XXXX-XXXX", required: true, maxlength: 100 });
  return form([code], {
    button: t("account.redeem"),
    submit: async ({ code }, made) => {
      const { amount } = await ask("POST", "/v1/redeem", { body: { code } });
      made.reset();
      tell(t("account.redeemed", { amount: money(amount) }));
      await onRedeemed();
    },
  });
}

async function showStatement(place) {
  const { month, zone } = address.read({ month: thisMonth(), zone: ownZone });
  const choose = el(
    "select",
    {
      "aria-label": t("account.month"),
      on: {
        change: ({ target }) => {
          address.write({ ...address.read(), month: target.value });
          showStatement(place);
        },
      },
    },
    lastMonths().map((one) => el("option", { value: one, selected: one === month }, nameOf(one))),
  );
  const query = { month, time_zone: zone };
  const csv = el(
    "a",
    { href: withQuery("/v1/statement", { ...query, format: "csv" }), download: `statement-${month}.csv` },
    t("account.csv"),
  );
  const head = el("div", { class: "head" }, el("h2", {}, t("account.statement")), el("div", { class: "tools" }, choose, csv));
  try {
    const found = await get("/v1/statement", query);
    fill(place, el("section", { class: "card" }, head, bill(found)));
  } catch (error) {
    fill(place, el("section", { class: "card" }, head, problemNotice(error)));
  }
}

export function bill(found) {
  const isOver = new Date(found.made_at) >= new Date(found.end);
  const movements = [...found.credits.map((entry) => [entry, "credit_entry"]), ...found.refunds.map((entry) => [entry, "refund"])];
  return el(
    "div",
    { class: "form" },
    !isOver && pill(t("account.not_over"), "warn"),
    facts([
      [t("account.opening"), money(found.opening_balance)],
      [t("account.credited"), money(found.credited)],
      [t("account.refunded"), money(found.refunded)],
      [t("account.billed"), money(found.billed)],
      [t("account.closing"), money(found.closing_balance)],
    ]),
    movements.length > 0 &&
      table(
        [
          { title: t("account.time"), cell: ([entry]) => shortMoment(entry.created_at, found.time_zone), class: "tight" },
          { title: t("account.kind"), cell: ([, kind]) => t(`account.${kind}`) },
          { title: t("account.note"), cell: ([entry]) => entry.note ?? NONE },
          { title: t("account.amount"), cell: ([entry]) => money(entry.amount), class: "number" },
        ],
        movements,
        { caption: t("account.movements") },
      ),
    table(
      [
        { title: t("calls.model_name"), cell: (row) => row.model_name },
        { title: t("account.key"), cell: (row) => row.api_key_name ?? (row.api_key_id ? `#${row.api_key_id}` : NONE) },
        { title: t("account.calls"), cell: (row) => number(row.calls), class: "number" },
        { title: t("calls.input_tokens"), cell: (row) => number(row.input_tokens), class: "number spare" },
        { title: t("calls.output_tokens"), cell: (row) => number(row.output_tokens), class: "number spare" },
        { title: t("calls.bill"), cell: (row) => money(row.bill), class: "number" },
      ],
      found.usage,
      { caption: t("account.usage"), empty: empty(t("account.no_usage"), t("account.no_usage_hint")) },
    ),
  );
}

export function thisMonth() {
  return new Date().toISOString().slice(0, 7);
}

export function lastMonths() {
  const [year, month] = thisMonth().split("-").map(Number);
  return Array.from({ length: 24 }, (_, back) => new Date(Date.UTC(year, month - 1 - back, 1)).toISOString().slice(0, 7));
}

export function nameOf(month) {
  return new Intl.DateTimeFormat(locale, { year: "numeric", month: "long", timeZone: "UTC" }).format(new Date(`${month}-01T00:00:00Z`));
}
