// Rates for larger inputs and for service tiers, as rows: each says where it holds, and the meters that cost something else there.
// The REST keeps them by size (`tiers`, which may have service tiers of their own) and by service tier (`service_tiers`).

import { el } from "./dom.js";
import { number } from "./format.js";
import { pairs, title } from "./kinds.js";
import { button } from "./parts.js";
import { t } from "./words.js";

const METERS = ["input", "output", "cache_read", "cache_write"];
const OTHER = pairs();

/** [{above, service, rates}], of a price as the REST answers it; `above` null: inputs of any size, `service` null: any service tier. */
export function casesOf({ tiers, service_tiers: services }) {
  const of = (above, byService) => Object.entries(byService ?? {}).map(([service, rates]) => ({ above, service, rates }));
  const bySize = (tiers ?? []).flatMap(({ above_input_tokens: above, rates, service_tiers: own }) => [
    ...(Object.keys(rates ?? {}).length ? [{ above, service: null, rates }] : []),
    ...of(above, own),
  ]);
  return [...bySize, ...of(null, services)];
}

/** {tiers, service_tiers}, as the REST takes them; null where there are none. */
export function termsOf(cases) {
  const tiers = new Map();
  const services = {};
  for (const { above, service, rates } of cases) {
    if (above === null) services[service] = rates;
    else {
      const tier = tiers.get(above) ?? { above_input_tokens: above };
      tiers.set(above, service === null ? { ...tier, rates } : { ...tier, service_tiers: { ...tier.service_tiers, [service]: rates } });
    }
  }
  return { tiers: tiers.size ? [...tiers.values()] : null, service_tiers: Object.keys(services).length ? services : null };
}

/** Where a case holds, and its rates, as text. */
export function caseText({ above, service, rates }) {
  const where = [above !== null && t("prices.above", { n: number(above) }), service].filter(Boolean).join(", ");
  return `${where}: ${Object.entries(rates)
    .map(([meter, rate]) => `${meter} ${rate}`)
    .join(", ")}`;
}

/** Rows to add, fill in and remove. What they come to is in the two hidden inputs `tiers` and `service_tiers`, as JSON. */
export function caseInputs(price) {
  const rows = el("div", { class: "form" });
  const hidden = { tiers: el("input", { type: "hidden", name: "tiers" }), service_tiers: el("input", { type: "hidden", name: "service_tiers" }) };
  const write = () => {
    const all = [...rows.children].map(readRow);
    for (const [at, one] of all.entries()) one.where.setCustomValidity(faultOf(one, all.slice(0, at)));
    const terms = termsOf(all.filter(({ filled }) => filled).map(({ found }) => found));
    for (const [name, input] of Object.entries(hidden)) input.value = terms[name] ? JSON.stringify(terms[name]) : "";
  };
  const add = (one = { above: null, service: null, rates: {} }) => rows.append(row(one, write));
  casesOf(price).forEach(add);
  rows.addEventListener("input", write);
  write();
  const another = () => {
    add();
    rows.lastElementChild.querySelector("input").focus();
  };
  const place = el(
    "div",
    { class: "field" },
    el("span", {}, t("fields.cases")),
    rows,
    el("p", { class: "hint" }, t("hints.cases")),
    Object.values(hidden),
  );
  place.querySelector(".hint").after(el("div", { class: "tools" }, button(t("prices.add_case"), another)));
  return place;
}

function row({ above, service, rates }, write) {
  const others = Object.fromEntries(Object.entries(rates).filter(([meter]) => !METERS.includes(meter)));
  const input = (name, value, label, more = {}) =>
    el("label", { class: "field" }, el("span", {}, label), el("input", { "data-case": name, autocomplete: "off", value, ...more }));
  const made = el(
    "fieldset",
    { class: "case" },
    el("legend", { class: "hidden" }, t("fields.cases")),
    el(
      "div",
      { class: "grid" },
      input("above", above ?? "", t("prices.case_above"), { inputmode: "numeric", placeholder: t("prices.case_any") }),
      input("service", service ?? "", t("prices.case_service"), { placeholder: t("prices.case_any"), spellcheck: "false" }),
      METERS.map((meter) => input(meter, rates[meter] ?? "", title(meter), { inputmode: "decimal" })),
      input("others", OTHER.write(others).replaceAll("\n", ", "), title("other_rates"), { placeholder: "image = 0.04", spellcheck: "false" }),
    ),
    button(t("manage.remove"), () => {
      made.remove();
      write();
    }),
  );
  return made;
}

/** `found`: the case; `filled`: whether anything is written in its row; `where`: the input that says where it holds. */
function readRow(made) {
  const written = Object.fromEntries([...made.querySelectorAll("[data-case]")].map((input) => [input.dataset.case, input.value.trim()]));
  const { above, service, others } = written;
  const own = METERS.filter((meter) => written[meter]).map((meter) => [meter, written[meter]]);
  const rates = { ...Object.fromEntries(own), ...OTHER.read(others.replaceAll(",", "\n")) };
  const size = /^\d+$/.test(above) ? Number(above) : above || null; // what is no number goes as it is, so that the server says so
  return {
    found: { above: size, service: service || null, rates },
    filled: Object.values(written).some(Boolean),
    where: made.querySelector('[data-case="above"]'),
  };
}

/** What is wrong with where a row holds, which the browser tells before anything is sent; empty: nothing. */
function faultOf({ found, filled }, before) {
  if (filled && found.above === null && found.service === null) return t("prices.case_needed");
  const isTwice = before.some((one) => one.filled && one.found.above === found.above && one.found.service === found.service);
  return filled && isTwice ? t("prices.case_twice") : "";
}
