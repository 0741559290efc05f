// Prices out of a CSV: checked first, which shows what would change, then written.

import { ask } from "../api.js";
import { el, fill } from "../dom.js";
import { moment, ownZone } from "../format.js";
import { field, form, dialog, notice, pill, problemNotice, table, tell } from "../parts.js";
import { named, t } from "../words.js";

export function importPrices(page) {
  const result = el("div", { id: "import-result" });
  const send = (sheet, dryRun) =>
    ask("POST", "/admin/prices/import", { query: { dry_run: dryRun }, body: sheet, headers: { "Content-Type": "text/csv" } });
  const file = el("input", {
    type: "file",
    id: "sheet-file",
    accept: ".csv,text/csv",
    on: {
      change: async ({ target }) => {
        if (target.files[0]) made.elements.sheet.value = await target.files[0].text();
        checked = null;
      },
    },
  });
  let checked = null;
  const submit = async ({ sheet }) => {
    fill(result);
    try {
      if (sheet !== checked) {
        fill(result, changes(await send(sheet, true)));
        checked = sheet;
        made.querySelector("button[type=submit]").textContent = t("prices.write");
        return;
      }
      const { data } = await send(sheet, false);
      opened.close();
      tell(t("prices.written", { n: data.length }));
      await page.reload();
    } catch (error) {
      if (!error.errors?.length) throw error;
      fill(
        result,
        problemNotice(error),
        el(
          "ul",
          {},
          error.errors.map((fault) => el("li", {}, `${fault.field}: ${fault.message}`)),
        ),
      );
    }
  };
  const made = form(
    [
      el("div", { class: "field" }, el("label", { for: "sheet-file" }, t("prices.file")), file),
      field({
        name: "sheet",
        label: t("prices.sheet"),
        type: "textarea",
        rows: 8,
        required: true,
        class: "mono",
        hint: t("prices.sheet_hint"),
        placeholder: "model,meter,rate\ngpt-4o-mini,input,0.15\ngpt-4o-mini,output,0.60",
      }),
      result,
    ],
    { submit, button: t("prices.check") },
  );
  made.elements.sheet.addEventListener("input", () => {
    checked = null;
    made.querySelector("button[type=submit]").textContent = t("prices.check");
  });
  const opened = dialog(t("prices.import"), made, { wide: true });
}

function changes({ data, same }) {
  const columns = [
    { title: t("fields.model"), cell: (change) => change.model },
    {
      title: t("fields.effective_from"),
      cell: (change) => (change.effective_from ? moment(change.effective_from, ownZone) : t("prices.now")),
    },
    { title: t("prices.becomes"), cell: (change) => pill(named("price_states", change.state), "warn") },
  ];
  return el(
    "div",
    { class: "form" },
    notice("plain", t("prices.would_change", { n: data.length, same })),
    data.length > 0 && table(columns, data, { caption: t("prices.becomes") }),
  );
}
