// The form of a model's price: what users pay, or what an upstream takes. What is sent for the preview is what is sent to change it.

import { ask, part } from "../api.js";
import { el, fill } from "../dom.js";
import { moment as shown, money, number, ownZone } from "../format.js";
import { amount, inputs, json, moment, pairs, text } from "../kinds.js";
import { button, facts, form, dialog, notice, problemNotice, tell, valuesOf } from "../parts.js";
import { caseInputs, casesOf } from "../price_cases.js";
import { t } from "../words.js";

const METERS = ["input", "output", "cache_read", "cache_write"];
const FIELDS = {
  model: text({ required: true, maxlength: 255 }),
  ...Object.fromEntries(METERS.map((meter) => [meter, amount()])),
  other_rates: pairs(),
  tiers: json(),
  service_tiers: json(),
  effective_from: moment(),
};
const DAYS = ["7", "30", "90"];

/** `price`: the one in force, or {model} for a new one. */
export function setPrice(page, price) {
  show(price, {
    path: "/admin/prices",
    title: price.rates ? t("prices.change_title", { name: price.model }) : t("prices.create"),
    hint: t("prices.hint"),
    preview,
    done: (model) => page.changed({ model }),
  });
}

/** What `upstream` takes for a model. */
export function setCost(upstream, price, done) {
  show(price, {
    path: `/admin/upstreams/${upstream.id}/prices`,
    title: t("costs.change_title", { name: upstream.name }),
    hint: t("costs.hint"),
    suggests: Array.isArray(upstream.models) ? upstream.models : Object.keys(upstream.models),
    done,
  });
}

function show(price, { path, title, hint, suggests = [], preview: addPreview, done }) {
  const rates = price.rates ?? {};
  const others = Object.fromEntries(Object.entries(rates).filter(([meter]) => !METERS.includes(meter)));
  const row = { model: price.model, ...rates, other_rates: others };
  const submit = async (values) => {
    const when = values.effective_from && { effective_from: FIELDS.effective_from.read(values.effective_from) };
    await ask("PUT", `${path}/${part(values.model)}`, { body: { ...termsOf(values), ...when } });
    opened.close();
    tell(t("manage.saved"));
    await done(values.model);
  };
  const more = el(
    "details",
    { open: Object.keys(others).length > 0 || casesOf(price).length > 0 },
    el("summary", {}, t("manage.more")),
    el("div", { class: "form" }, inputs(FIELDS, ["other_rates"], row), caseInputs(price), inputs(FIELDS, ["effective_from"], row)),
  );
  const known = el(
    "datalist",
    { id: "models-served" },
    suggests.filter((name) => !name.endsWith("*")).map((name) => el("option", { value: name })),
  );
  const looked = el("div", { class: "form" });
  const made = form(
    [...inputs(FIELDS, ["model"], row), known, el("div", { class: "grid" }, inputs(FIELDS, METERS, row)), more, looked],
    { submit, button: t(price.rates ? "manage.save" : "manage.create") },
  );
  made.elements.model.readOnly = Boolean(price.rates);
  made.elements.model.setAttribute("list", known.id);
  addPreview?.(made, looked);
  const opened = dialog(title, el("div", { class: "form" }, el("p", { class: "muted" }, hint), made), { wide: true });
  made.elements[price.model ? "input" : "model"].focus();
}

/** What the price that is filled in would have made of the last days. */
function preview(made, place) {
  const result = el("div", { id: "preview" });
  const days = el(
    "select",
    { "aria-label": t("prices.days") },
    DAYS.map((n) => el("option", { value: n, selected: n === "30" }, t("prices.last_days", { n }))),
  );
  const look = async () => {
    if (!made.reportValidity()) return;
    const values = valuesOf(made);
    fill(result, el("p", { class: "muted" }, t("prices.counting")));
    try {
      const { data } = await ask("POST", "/admin/prices/preview", {
        body: { prices: [{ model: values.model ?? "", ...termsOf(values) }], days: Number(days.value) },
      });
      fill(result, previewed(data[0]));
    } catch (error) {
      fill(result, problemNotice(error));
    }
  };
  fill(place, el("div", { class: "tools" }, button(t("prices.preview"), look), days), result);
}

function termsOf(values) {
  const own = METERS.filter((meter) => values[meter]).map((meter) => [meter, values[meter]]);
  const read = (name) => (values[name] ? FIELDS[name].read(values[name]) : null);
  return { rates: { ...Object.fromEntries(own), ...read("other_rates") }, tiers: read("tiers"), service_tiers: read("service_tiers") };
}

function previewed({ calls, charged, would_be: wouldBe, difference, counted_from: from, is_complete: isComplete }) {
  if (!calls) return notice("plain", t("prices.no_calls"));
  return el(
    "div",
    { class: "form" },
    facts([
      [t("prices.calls"), number(calls)],
      [t("prices.charged"), money(charged)],
      [t("prices.would_be"), money(wouldBe)],
      [t("prices.difference"), money(difference)],
    ]),
    !isComplete && notice("warn", t("prices.part", { from: shown(from, ownZone) })),
  );
}
