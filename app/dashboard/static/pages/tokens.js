// Operators' tokens: who may manage, and who may only look.

import { choice, moment, state, text } from "../kinds.js";
import { el } from "../dom.js";
import { listing } from "../listing.js";
import { showOnce } from "../once.js";
import { t } from "../words.js";

export const show = (content, frame) =>
  listing(content, frame, {
    name: "tokens",
    path: "/admin/tokens",
    key: "id",
    titleOf: (token) => token.name,
    fields: {
      name: text({ required: true, maxlength: 100 }),
      role: choice("roles", ["viewer", "admin"]),
      token_prefix: { ...text(), show: (value) => el("code", {}, `${value}…`) },
      expires_at: moment(),
      last_used_at: moment(),
      created_at: moment(),
      disabled: state(),
    },
    columns: ["name", "role", "token_prefix?", "last_used_at?", "expires_at?", "disabled"],
    facts: ["role", "token_prefix", "expires_at", "last_used_at", "created_at", "disabled"],
    create: ["name", "role", "expires_at"],
    change: ["role", "expires_at"],
    made: (token) => showOnce(t("tokens.created"), token.token),
    disables: true,
  });
