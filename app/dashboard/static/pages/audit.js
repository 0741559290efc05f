// Audit entries: who changed what, and how it was before.

import { count, moment, text } from "../kinds.js";
import { el } from "../dom.js";
import { listing } from "../listing.js";
import { table } from "../parts.js";
import { t } from "../words.js";

const said = (value) => (value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value));

export const show = (content, frame) =>
  listing(content, frame, {
    name: "audit",
    path: "/admin/audit",
    key: "id",
    isListOnly: true,
    titleOf: (entry) => `${entry.action} #${entry.id}`,
    fields: { at: moment(), actor: text(), action: text(), object_kind: text(), object_id: text(), id: count() },
    filters: ["actor", "action", "object_kind", "object_id"],
    columns: ["at", "actor?", "action", "object_id"],
    facts: ["at", "actor", "action", "object_kind", "object_id"],
    details: ({ before, after }) => {
      const changed = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
      const columns = [
        { title: t("audit.field"), cell: (name) => el("code", {}, name) },
        { title: t("fields.before"), cell: (name) => said(before?.[name]) },
        { title: t("fields.after"), cell: (name) => said(after?.[name]) },
      ];
      return table(columns, changed, { caption: t("audit.changes"), empty: el("p", { class: "muted" }, t("audit.nothing")) });
    },
  });
