// How clients are connected with a key: what to paste where. Names and keys are quoted as each language has it.

import { get } from "../api.js";
import { el, fill } from "../dom.js";
import { copyButton } from "../parts.js";
import { t } from "../words.js";

const quoted = JSON.stringify;
const inShell = (value) => `'${value.replaceAll("'", "'\\''")}'`;

/** By client: ({root, key, model}) -> what to paste. `root`: the proxy's address, whose `/v1` is OpenAI's base URL and which is Anthropic's. */
const CLIENTS = {
  curl: ({ root, key, model }) => `curl ${root}/v1/chat/completions \\
  -H ${inShell(`Authorization: Bearer ${key}`)} \\
  -H 'Content-Type: application/json' \\
  -d ${inShell(`{"model": ${quoted(model)}, "messages": [{"role": "user", "content": "Hello"}]}`)}`,
  Python: ({ root, key, model }) => `from openai import OpenAI

client = OpenAI(base_url=${quoted(`${root}/v1`)}, api_key=${quoted(key)})
answer = client.chat.completions.create(
    model=${quoted(model)},
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.choices[0].message.content)`,
  JavaScript: ({ root, key, model }) => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: ${quoted(`${root}/v1`)}, apiKey: ${quoted(key)} });
const answer = await client.chat.completions.create({
  model: ${quoted(model)},
  messages: [{ role: "user", content: "Hello" }],
});
console.log(answer.choices[0].message.content);`,
  "Claude Code": ({ root, key, model }) => `export ANTHROPIC_BASE_URL=${root}
export ANTHROPIC_AUTH_TOKEN=${inShell(key)}
export ANTHROPIC_MODEL=${inShell(model)}
claude`,
  Codex: ({ root, key, model }) => `# ~/.codex/config.toml
model = ${quoted(model)}
model_provider = "billing"

[model_providers.billing]
name = "Billing proxy"
base_url = ${quoted(`${root}/v1`)}
env_key = "BILLING_API_KEY"
wire_api = "responses"

# then, in the shell:
#   export BILLING_API_KEY=${inShell(key)}
#   codex`,
  NextChat: ({ root, key, model }) => `docker run -p 3000:3000 \\
  -e BASE_URL=${root} \\
  -e OPENAI_API_KEY=${inShell(key)} \\
  -e CUSTOM_MODELS=${inShell(`-all,+${model}`)} \\
  -e DEFAULT_MODEL=${inShell(model)} \\
  yidadaa/chatgpt-next-web`,
};

/** Choose a client and a model, and copy. The models offered are those that have a price. */
export function connect(key) {
  const chosen = { client: "curl", model: "MODEL" };
  const pasted = el("pre", { id: "snippet", tabindex: 0 });
  const hint = el("p", { class: "hint" });
  const copy = el("span");
  const draw = () => {
    const snippet = CLIENTS[chosen.client]({ root: location.origin, key, model: chosen.model || "MODEL" });
    fill(pasted, snippet);
    fill(hint, { "Claude Code": t("snippets.claude_hint"), Codex: t("snippets.codex_hint") }[chosen.client] ?? "");
    fill(copy, copyButton(snippet));
    for (const button of clients.children) button.setAttribute("aria-pressed", String(button.textContent === chosen.client));
  };
  const choose = (client) => {
    chosen.client = client;
    draw();
  };
  const clients = el(
    "div",
    { class: "tools", role: "group", "aria-label": t("snippets.client") },
    Object.keys(CLIENTS).map((client) => el("button", { type: "button", on: { click: () => choose(client) } }, client)),
  );
  const known = el("datalist", { id: "snippet-models" });
  const model = el("input", {
    list: "snippet-models",
    "aria-label": t("fields.model"),
    placeholder: t("fields.model"),
    on: {
      input: ({ target }) => {
        chosen.model = target.value.trim();
        draw();
      },
    },
  });
  get("/admin/prices", { limit: 500 }).then(
    ({ data }) => {
      fill(
        known,
        data.map((price) => el("option", { value: price.model })),
      );
      if (data.length && !model.value) chosen.model = model.value = data[0].model;
      draw();
    },
    () => draw(),
  ); // without the list, one types the model's name
  draw();
  return el(
    "section",
    { class: "form" },
    el("h3", {}, t("snippets.title")),
    el("div", { class: "head" }, clients, el("span", { class: "tools" }, model, known, copy)),
    pasted,
    hint,
  );
}
