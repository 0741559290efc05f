// Prices: what is in force, what was before, and changing it with a preview of what it would have made of the last days.

import { get, part } from "../api.js";
import { el } from "../dom.js";
import { money, NONE } from "../format.js";
import { moment, pairs, text } from "../kinds.js";
import { listing } from "../listing.js";
import { button, dialog, problemNotice, table } from "../parts.js";
import { casesOf, caseText } from "../price_cases.js";
import { t } from "../words.js";
import { importPrices } from "./price_import.js";
import { setPrice } from "./price_form.js";

const rate = (meter) => ({
  ...text(),
  class: "number",
  show: (_, price) => (price.rates[meter] === undefined ? NONE : money(price.rates[meter], { exact: true })),
});
/** Of larger inputs and service tiers, a line each. */
const casesLines = (price) => {
  const lines = casesOf(price).map((one) => el("li", {}, caseText(one)));
  return lines.length ? el("ul", {}, lines) : NONE;
};
const OWN = ["input", "output", "cache_read"];

const DECLARED = {
  name: "prices",
  path: "/admin/prices",
  key: "model",
  isListOnly: true,
  fields: {
    q: text(),
    model: text(),
    input: rate("input"),
    output: rate("output"),
    cache_read: rate("cache_read"),
    rates: pairs(),
    cases: { ...text(), show: (_, price) => casesLines(price) },
    others: {
      ...text(),
      show: (_, price) =>
        Object.entries(price.rates)
          .filter(([meter]) => !OWN.includes(meter))
          .map(([meter, each]) => `${meter} ${each}`)
          .join(", ") || NONE,
    },
    source: text(),
    effective_from: moment(),
    created_at: moment(),
  },
  filters: ["q"],
  columns: ["model", "input", "output", "cache_read?", "others?", "effective_from?"],
  facts: ["rates", "source", "effective_from", "created_at"],
  create: (page, given) => setPrice(page, { model: given.new ?? "" }),
  details: (price) => casesOf(price).length > 0 && el("div", {}, el("h3", {}, t("fields.cases")), casesLines(price)),
  actions: [{ name: "change", kind: "main", run: (price, page) => setPrice(page, price) }],
  looks: [{ name: "history", run: showHistory }],
  tools: (page) => [
    el("a", { href: "/admin/prices/export?bom=true", download: "prices.csv" }, t("prices.export")),
    page.frame.mayWrite && button(t("prices.import"), () => importPrices(page)),
  ],
};

export const show = (content, frame) => listing(content, frame, DECLARED);

async function showHistory({ model }) {
  const place = el("div", { class: "form" });
  dialog(t("prices.history_title", { name: model }), place, { wide: true });
  const { fields } = DECLARED;
  const columns = ["effective_from", "rates", "cases", "source", "created_at"].map((name) => ({
    title: t(`fields.${name}`),
    cell: (price) => fields[name].show(price[name], price),
  }));
  try {
    const { data } = await get(`/admin/prices/${part(model)}/history`, { limit: 500 });
    place.append(table(columns, data, { caption: t("prices.history") }));
  } catch (error) {
    place.append(problemNotice(error));
  }
}
