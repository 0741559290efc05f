// What an upstream charges the operator, from which margins are counted: what holds now and later, and what held before.

import { getAll } from "../api.js";
import { el, fill } from "../dom.js";
import { moment, money, NONE, ownZone } from "../format.js";
import { button, dialog, empty, pill, problemNotice, table } from "../parts.js";
import { casesOf, caseText } from "../price_cases.js";
import { t } from "../words.js";
import { setCost } from "./price_form.js";

const METERS = ["input", "output"];
const KIND = { now: "good", later: "warn", past: "plain" };

/** In a dialog. `mayWrite`: a row opens the form that sets another. */
export function showCosts(upstream, mayWrite) {
  const place = el("div", { class: "form", id: "costs" });
  const load = async () => {
    try {
      fill(place, costs(upstream, await getAll(`/admin/upstreams/${upstream.id}/prices`), mayWrite && set));
    } catch (error) {
      fill(place, problemNotice(error));
    }
  };
  const set = (price) => setCost(upstream, price, load);
  dialog(
    t("costs.title", { name: upstream.name }),
    el(
      "div",
      { class: "form" },
      el("p", { class: "muted" }, t("costs.intro")),
      mayWrite && el("div", { class: "tools" }, button(t("costs.set"), () => set({ model: "" }), { kind: "main" })),
      place,
    ),
    { wide: true },
  );
  return load();
}

function costs(upstream, prices, set) {
  const held = states(prices, Date.now());
  const columns = [
    { title: t("fields.model"), cell: ({ model }) => model },
    ...METERS.map((meter) => ({
      title: t(`fields.${meter}`),
      class: "number",
      cell: ({ rates }) => (rates[meter] === undefined ? NONE : money(rates[meter], { exact: true })),
    })),
    { title: t("fields.others"), class: "spare", cell: (price) => rest(price) },
    { title: t("fields.effective_from"), class: "spare", cell: (price) => moment(price.effective_from, ownZone, { seconds: false }) },
    { title: t("fields.serves"), cell: (price) => pill(t(`costs.${held.get(price)}`), KIND[held.get(price)]) },
  ];
  const order = Object.keys(KIND);
  const sorted = [...prices].sort(
    (one, other) => order.indexOf(held.get(one)) - order.indexOf(held.get(other)) || one.model.localeCompare(other.model),
  );
  return table(columns, sorted, {
    onOpen: set || null,
    caption: t("costs.title", { name: upstream.name }),
    empty: empty(t("costs.empty"), t("costs.empty_hint")),
  });
}

/** Of each price `now`, `later` or `past`: of a model's, the one that began last holds. */
function states(prices, now) {
  const begun = (price) => Date.parse(price.effective_from);
  const inForce = new Map();
  for (const price of prices.filter((one) => begun(one) <= now)) {
    const other = inForce.get(price.model);
    if (!other || begun(price) > begun(other)) inForce.set(price.model, price);
  }
  return new Map(prices.map((price) => [price, begun(price) > now ? "later" : inForce.get(price.model) === price ? "now" : "past"]));
}

/** The other meters, larger inputs and service tiers, a line each. */
function rest(price) {
  const others = Object.entries(price.rates).filter(([meter]) => !METERS.includes(meter));
  const lines = [...others.map(([meter, rate]) => `${meter} ${rate}`), ...casesOf(price).map(caseText)];
  return lines.length ? lines.map((line) => el("div", {}, line)) : NONE;
}
