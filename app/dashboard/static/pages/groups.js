// Groups: multipliers, models, limits and tags of upstreams for the users and keys that are in them.

import { amount, count, factor, moment, names, pairs, text } from "../kinds.js";
import { listing } from "../listing.js";

const LIMITS = ["rpm", "tpm", "max_concurrency", "daily_limit", "monthly_limit"];

export const show = (content, frame) =>
  listing(content, frame, {
    name: "groups",
    path: "/admin/groups",
    key: "name",
    fields: {
      name: text({ required: true, maxlength: 100 }),
      multiplier: factor({ placeholder: "1" }),
      model_multipliers: pairs(),
      models: names(),
      upstream_tags: names(),
      rpm: count(),
      tpm: count(),
      max_concurrency: count(),
      daily_limit: amount(),
      monthly_limit: amount(),
      created_at: moment(),
    },
    columns: ["name", "multiplier", "models?", "upstream_tags?", "rpm?", "tpm?"],
    facts: ["multiplier", "model_multipliers", "models", "upstream_tags", ...LIMITS, "created_at"],
    create: ["name", "multiplier", "model_multipliers", "models"],
    change: ["name", "multiplier", "model_multipliers", "models"],
    more: ["upstream_tags", ...LIMITS],
    removes: true,
  });
