// Platform keys: what they may do and spend, their secrets, and how clients are set up with a new one.

import { ask, withQuery } from "../api.js";
import { el } from "../dom.js";
import { amount, choice, count, moment, names, state, text } from "../kinds.js";
import { listing } from "../listing.js";
import { formDialog } from "../parts.js";
import { showOnce } from "../once.js";
import { named, t } from "../words.js";
import { connect } from "./snippets.js";

const LIMITS = ["spend_limit", "daily_limit", "monthly_limit", "rpm", "tpm", "max_concurrency", "allowed_ips", "group"];
const OVERLAPS = ["0", "3600", "86400", "604800"];

const DECLARED = {
  name: "keys",
  path: "/admin/keys",
  key: "id",
  titleOf: (key) => `${key.name ?? ""} #${key.id}`.trim(),
  fields: {
    q: text(),
    user_id: text({ required: true, maxlength: 50, suggests: ["/admin/users", "id"] }),
    name: text(),
    id: text(),
    key_prefix: { ...text(), show: (value) => (value ? el("code", {}, `${value}…`) : "–") },
    models: names(),
    expires_at: moment(),
    group: text({ suggests: ["/admin/groups", "name"] }),
    spend_limit: amount(),
    daily_limit: amount(),
    monthly_limit: amount(),
    rpm: count(),
    tpm: count(),
    max_concurrency: count(),
    allowed_ips: names(),
    scope: choice("scopes", ["key", "account"]),
    spent: amount(),
    held: amount(),
    in_flight: count(),
    disabled: state({ off: "keys.revoked", on: "manage.active" }),
    created_at: moment(),
    old_secret_until: moment(),
  },
  filters: ["q", "user_id"],
  columns: ["user_id", "name", "key_prefix?", "spent", "spend_limit?", "expires_at?", "disabled"],
  facts: [
    "user_id",
    "name",
    "key_prefix",
    "scope",
    "models",
    "expires_at",
    "spent",
    "held",
    "in_flight",
    ...LIMITS,
    "created_at",
    "old_secret_until",
    "disabled",
  ],
  create: ["user_id", "name", "models", "expires_at", "scope"],
  change: ["name", "models", "expires_at", "scope"],
  more: LIMITS,
  made: (key) => showOnce(t("keys.created"), key.key, connect(key.key)),
  disables: true,
  actions: [{ name: "rotate", run: rotate, when: (key) => !key.disabled }],
  details: (key) =>
    el(
      "p",
      { class: "tools" },
      el("a", { href: withQuery("/dashboard/calls", { api_key_id: key.id }) }, t("users.calls")),
      key.user_id && el("a", { href: withQuery("/dashboard/users", { open: key.user_id }) }, t("keys.user")),
    ),
};

export const show = (content, frame) => listing(content, frame, DECLARED);

function rotate(key, page) {
  const overlap = {
    name: "overlap",
    label: t("keys.overlap"),
    type: "select",
    value: "0",
    options: OVERLAPS.map((seconds) => [seconds, named("overlaps", seconds)]),
  };
  const submit = async (values) => {
    const { key: secret } = await ask("POST", `/admin/keys/${key.id}/rotate`, { body: { overlap_seconds: Number(values.overlap) } });
    opened.close();
    showOnce(t("keys.rotated"), secret, connect(secret));
    await page.changed(key);
  };
  const opened = formDialog(t("keys.rotate_title", { name: DECLARED.titleOf(key) }), [overlap], {
    submit,
    button: t("keys.rotate"),
    intro: t("keys.rotate_hint"),
  });
}
