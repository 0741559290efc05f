// Routes: which upstream serves which model, in what order.

import { getAll } from "../api.js";
import { choice, count, state, text } from "../kinds.js";
import { listing } from "../listing.js";

export async function show(content, frame) {
  const upstreams = await getAll("/admin/upstreams");
  const options = upstreams.map(({ id, name }) => [String(id), name]);
  const pick = choice("fields", [], { options, required: true });
  await listing(content, frame, {
    name: "routes",
    path: "/admin/routes",
    key: "id",
    titleOf: (route) => `${route.model} → ${route.upstream}`,
    fields: {
      q: text(),
      model: text({ required: true, maxlength: 255, suggests: ["/admin/prices", "model"] }),
      upstream_id: { ...pick, read: Number },
      upstream: text(),
      upstream_model: text(),
      priority: count({ placeholder: "0" }),
      weight: count({ placeholder: "1" }),
      serves: { ...text(), show: (serves) => state({ off: "routes.off", on: "routes.on" }).show(!serves) },
    },
    filters: ["q"],
    columns: ["model", "upstream", "upstream_model?", "priority?", "weight?", "serves"],
    facts: ["model", "upstream", "upstream_model", "priority", "weight", "serves"],
    create: ["upstream_id", "model", "upstream_model", "priority", "weight"],
    change: ["upstream_model", "priority", "weight"],
    removes: true,
  });
}
