// Upstreams: added from presets, tried with a small call, and asked which models they offer.

import { ask, get, withQuery } from "../api.js";
import { el, fill } from "../dom.js";
import { duration, NONE, number } from "../format.js";
import { choice, count, flag, moment, names, routes, secret, state, text } from "../kinds.js";
import { listing } from "../listing.js";
import { button, dialog, empty, notice, pill, problemNotice, table } from "../parts.js";
import { t } from "../words.js";
import { showCosts } from "./costs.js";

const PRESET_FIELDS = ["name", "base_url", "models", "auth", "protocols", "is_local"];
const HEALTH = { closed: "good", half_open: "warn", open: "bad" };
const SHOWN = 300;

const DECLARED = {
  name: "upstreams",
  path: "/admin/upstreams",
  key: "id",
  titleOf: (upstream) => upstream.name,
  fields: {
    name: text({ required: true, maxlength: 100 }),
    base_url: text({ required: true, inputmode: "url", spellcheck: "false" }),
    models: routes({ required: true, hint: t("upstreams.models_hint") }),
    api_key: secret(),
    api_key_hints: { ...text(), show: (hints) => hints.map((hint) => `…${hint ?? ""}`).join(", ") || NONE },
    auth: choice("auths", ["auto", "bearer", "x-api-key", "api-key", "none"]),
    protocols: {
      ...choice("protocols", ["openai", "anthropic", "gemini"], { any: t("upstreams.any_protocol") }),
      show: (value) => value?.join(", ") ?? NONE,
      write: (value) => value?.[0] ?? "",
      read: (written) => [written],
    },
    is_local: flag(),
    stream_usage: choice("stream_usages", ["inject", "native", "off"]),
    client_gone: choice("client_gones", ["cancel", "drain"]),
    tags: names(),
    first_byte_within: count(),
    priority: count({ placeholder: "0" }),
    weight: count({ placeholder: "1" }),
    created_at: moment(),
    disabled: state(),
    health: {
      ...text(),
      show: (value, upstream) =>
        upstream.disabled ? pill(t("manage.disabled"), "bad") : pill(t(`overview.health_${value}`), HEALTH[value]),
    },
  },
  columns: ["name", "base_url?", "models?", "priority?", "health"],
  facts: [
    "base_url",
    "models",
    "auth",
    "api_key_hints",
    "protocols",
    "is_local",
    "stream_usage",
    "client_gone",
    "tags",
    "first_byte_within",
    "priority",
    "weight",
    "created_at",
    "health",
  ],
  create: ["name", "base_url", "api_key", "models"],
  change: ["name", "base_url", "api_key", "models"],
  more: ["auth", "protocols", "is_local", "priority", "weight", "tags", "stream_usage", "client_gone", "first_byte_within"],
  creating: offerPresets,
  made: (upstream) => check(upstream),
  disables: true,
  actions: [{ name: "check", kind: "main", run: check }],
  looks: [
    { name: "models_offered", run: showOffered },
    { name: "costs", run: (upstream, page) => showCosts(upstream, page.frame.mayWrite) },
  ],
  details: (upstream) =>
    el("p", { class: "tools" }, el("a", { href: withQuery("/dashboard/calls", { upstream_id: upstream.id }) }, t("users.calls"))),
};
let preset = null;

export const show = (content, frame) => listing(content, frame, DECLARED);

/** Choosing one fills the form in, which can be changed as one likes. */
async function offerPresets(form) {
  preset = null;
  let presets;
  try {
    presets = (await get("/admin/upstreams/presets")).data;
  } catch (error) {
    form.prepend(problemNotice(error)); // it can be filled in without them
    return;
  }
  const take = ({ target }) => {
    preset = presets.find(({ name }) => name === target.value) ?? null;
    const { fields } = DECLARED;
    const given = preset ?? { name: "", base_url: "", models: [], auth: "auto", is_local: false, protocols: null };
    for (const name of PRESET_FIELDS) {
      const input = form.elements[name];
      if (input.type === "checkbox") input.checked = given[name];
      else input.value = fields[name].write(given[name]);
    }
    form.elements[preset && !given.is_local ? "api_key" : "base_url"].focus();
  };
  const options = [["", t("upstreams.no_preset")], ...presets.map(({ name, title }) => [name, title])].map(
    ([name, title]) => el("option", { value: name }, title),
  );
  form.prepend(
    el(
      "div",
      { class: "field" },
      el("label", { for: "preset" }, t("upstreams.preset")),
      el("select", { id: "preset", on: { change: take } }, options),
    ),
  );
}

/** Which models it offers, and a small call to one of them. */
function check(upstream) {
  const tried = el("section", { class: "form", id: "tried" });
  const offered = el("section", { class: "form", id: "offered" });
  dialog(t("upstreams.check_title", { name: upstream.name }), el("div", { class: "form" }, tried, offered), { wide: true });
  const listed = list(upstream, offered);
  if (upstream.protocols?.[0] === "gemini") fill(tried, notice("plain", t("upstreams.not_tried")));
  else listed.then((models) => offerTest(upstream, models, tried));
}

function showOffered(upstream) {
  const offered = el("section", { class: "form", id: "offered" });
  dialog(t("upstreams.offered_title", { name: upstream.name }), offered, { wide: true });
  list(upstream, offered);
}

/** Those that are served here and have no price come first, as they need something. Returns the models; none where it gives no list. */
async function list(upstream, place) {
  fill(place, el("p", { class: "muted" }, t("upstreams.asking")));
  try {
    const { data } = await get(`/admin/upstreams/${upstream.id}/models`);
    const rank = ({ name, has_price: hasPrice }) => (name === null ? 2 : hasPrice ? 1 : 0);
    const models = [...data].sort((one, other) => rank(one) - rank(other));
    const unpriced = models.filter((model) => rank(model) === 0).length;
    const columns = [
      { title: t("fields.upstream_model"), cell: ({ id }) => el("code", {}, id) },
      { title: t("upstreams.served_as"), cell: ({ name }) => name ?? el("span", { class: "muted" }, t("upstreams.not_served")) },
      {
        title: t("fields.price"),
        class: "tight",
        cell: (model) =>
          model.has_price
            ? pill(t("upstreams.has_price"), "good")
            : model.name
              ? el("a", { href: withQuery("/dashboard/prices", { new: model.name }) }, t("upstreams.set_price"))
              : NONE,
      },
    ];
    fill(
      place,
      el("h3", {}, t("upstreams.models_offered")),
      unpriced > 0 && notice("warn", t("upstreams.without_price", { n: number(unpriced) })),
      table(columns, models.slice(0, SHOWN), {
        caption: t("upstreams.models_offered"),
        empty: empty(t("upstreams.none_offered"), t("upstreams.none_offered_hint")),
      }),
      models.length > SHOWN && el("p", { class: "muted small" }, t("upstreams.cut", { n: number(models.length), shown: SHOWN })),
    );
    return data;
  } catch (error) {
    fill(place, el("h3", {}, t("upstreams.models_offered")), problemNotice(error));
    return [];
  }
}

/** By name where the upstream serves any by name, else a small one, else the first that it offers. */
function firstModel({ models }, offered) {
  const served = (Array.isArray(models) ? models : Object.keys(models)).find((name) => !name.endsWith("*"));
  const small = offered.find(({ id }) => id === preset?.probe);
  return served ?? small?.id ?? offered.find(({ name }) => name)?.name ?? preset?.probe ?? "";
}

function offerTest(upstream, offered, place) {
  const result = el("div", { id: "test-result" });
  const known = el(
    "datalist",
    { id: "offered-models" },
    offered.filter(({ name }) => name).map(({ name }) => el("option", { value: name })),
  );
  const model = el("input", {
    list: "offered-models",
    value: firstModel(upstream, offered),
    "aria-label": t("fields.model"),
    placeholder: t("fields.model"),
  });
  const test = async () => {
    fill(result, el("p", { class: "muted" }, t("upstreams.asking")));
    try {
      const said = await ask("POST", `/admin/upstreams/${upstream.id}/test`, { body: { model: model.value.trim() || null } });
      fill(
        result,
        said.ok
          ? notice("good", t("upstreams.works", { model: said.model, time: duration(said.latency_ms) }))
          : notice("bad", t("upstreams.fails", { model: said.model, status: said.status ?? NONE, error: said.error })),
      );
    } catch (error) {
      fill(result, problemNotice(error));
    }
  };
  fill(
    place,
    el("h3", {}, t("upstreams.test")),
    el("p", { class: "hint" }, t("upstreams.test_hint")),
    el("div", { class: "tools" }, model, known, button(t("upstreams.test_again"), test)),
    result,
  );
  if (model.value) return test();
}
