// Limits of models: what bounds the hold of a call that sets no bound of its own.

import { ask, part } from "../api.js";
import { bodyOf, count, inputs, moment, text } from "../kinds.js";
import { listing } from "../listing.js";
import { formDialog, tell } from "../parts.js";
import { t } from "../words.js";

const LIMITS = ["context_tokens", "max_output_tokens"];
const FIELDS = {
  q: text(),
  name: text({ required: true, maxlength: 255, suggests: ["/admin/prices", "model"] }),
  context_tokens: count(),
  max_output_tokens: count(),
  created_at: moment(),
};

export const show = (content, frame) =>
  listing(content, frame, {
    name: "models",
    path: "/admin/models",
    key: "name",
    fields: FIELDS,
    filters: ["q"],
    columns: ["name", ...LIMITS, "created_at?"],
    facts: [...LIMITS, "created_at"],
    create: setLimits,
    change: LIMITS,
  });

/** A model's name is part of the address that takes its limits. */
function setLimits(page) {
  const submit = async (values) => {
    await ask("PUT", `/admin/models/${part(values.name)}`, { body: bodyOf(FIELDS, LIMITS, values) });
    tell(t("manage.saved"));
    await page.reload();
  };
  formDialog(t("models.create"), inputs(FIELDS, ["name", ...LIMITS]), { submit, button: t("manage.save"), intro: t("models.hint") });
}
