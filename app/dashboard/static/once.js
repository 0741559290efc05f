// Secrets that are shown once: keys, operators' tokens, redemption codes.

import { el } from "./dom.js";
import { copyButton, dialog, notice } from "./parts.js";
import { t } from "./words.js";

/** `secret`: text, of one or more lines. `more`: nodes below it. */
export function showOnce(heading, secret, ...more) {
  const lines = secret.split("\n").length;
  const shown = el("textarea", {
    class: "mono",
    readonly: true,
    rows: Math.min(lines + 1, 12),
    "aria-label": heading,
    id: "secret-once",
    value: secret,
    on: { focus: ({ target }) => target.select() },
  });
  return dialog(
    heading,
    el("div", { class: "form" }, notice("warn", t("manage.once")), shown, el("div", { class: "tools" }, copyButton(secret)), ...more),
    { wide: true },
  );
}
