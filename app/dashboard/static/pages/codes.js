// Redemption codes, by batch. The codes themselves are shown once, when they are made.

import { ask, get } from "../api.js";
import { el, fill } from "../dom.js";
import { amount, count, moment, text } from "../kinds.js";
import { confirm, listing } from "../listing.js";
import { button, pill, problemNotice, table } from "../parts.js";
import { showOnce } from "../once.js";
import { moment as shown, NONE, ownZone } from "../format.js";
import { named, t } from "../words.js";

const KINDS = { open: "good", redeemed: "plain", expired: "warn", voided: "bad" };

const DECLARED = {
  name: "codes",
  path: "/admin/codes",
  key: "id",
  isListOnly: true,
  titleOf: (batch) => t("codes.title", { id: batch.id }),
  fields: {
    id: count(),
    amount: amount({ required: true }),
    count: count({ required: true, value: "10" }),
    note: text({ maxlength: 1000 }),
    expires_at: moment(),
    made: count(),
    open: count(),
    redeemed: count(),
    expired: count(),
    voided: count(),
    voided_at: moment(),
    created_at: moment(),
  },
  columns: ["created_at", "amount", "made?", "open", "redeemed?", "note?", "expires_at?"],
  facts: ["amount", "note", "expires_at", "made", "open", "redeemed", "expired", "voided", "voided_at", "created_at"],
  create: ["amount", "count", "expires_at", "note"],
  made: showCodes,
  actions: [{ name: "void", kind: "danger", when: (batch) => batch.open > 0, run: voidBatch }],
  details: codesOf,
};

export const show = (content, frame) => listing(content, frame, DECLARED);

function showCodes({ id, codes }) {
  const file = URL.createObjectURL(new Blob([`${codes.join("\n")}\n`], { type: "text/plain" }));
  showOnce(
    t("codes.created", { n: codes.length }),
    codes.join("\n"),
    el("p", {}, el("a", { href: file, download: `codes-${id}.txt` }, t("codes.download"))),
  );
}

function voidBatch(batch, page) {
  const act = async () => {
    await ask("DELETE", `/admin/codes/${batch.id}`);
    await page.changed(batch);
  };
  confirm(DECLARED.titleOf(batch), t("codes.void_hint"), act, { button: t("codes.void") });
}

function codesOf(batch) {
  const place = el("section", { class: "form" });
  const columns = [
    { title: t("codes.ending"), cell: (code) => el("code", {}, `…${code.ending}`) },
    { title: t("codes.state"), cell: (code) => pill(named("code_states", code.state), KINDS[code.state]) },
    { title: t("codes.redeemed_by"), cell: (code) => code.redeemed_by ?? NONE },
    { title: t("codes.redeemed_at"), cell: (code) => shown(code.redeemed_at, ownZone, { seconds: false }) },
  ];
  const load = async (cursor = null, before = []) => {
    try {
      const { data, next_cursor: next } = await get("/admin/codes/single", { batch_id: batch.id, limit: 100, cursor });
      const codes = [...before, ...data];
      fill(
        place,
        el("h3", {}, t("codes.single")),
        table(columns, codes, { caption: t("codes.single") }),
        next && button(t("calls.load_more"), () => load(next, codes)),
      );
    } catch (error) {
      fill(place, problemNotice(error));
    }
  };
  load();
  return place;
}
