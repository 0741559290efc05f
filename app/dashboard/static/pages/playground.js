// A real, billed call with a key and a model of one's choice: its answer as it comes, then its tokens, its bill and its row.

import { ask, get, Problem } from "../api.js";
import { el, fill } from "../dom.js";
import { duration, money, number, ownZone } from "../format.js";
import { amount, inputs, text } from "../kinds.js";
import { button, card, facts, field, formDialog, notice, problemNotice } from "../parts.js";
import { t } from "../words.js";
import { showCall } from "./call.js";

const FOR_AN_HOUR = { user_id: text({ required: true, suggests: ["/admin/users", "id"] }), spend_limit: amount({ value: "1" }) };
const TRIES = 40;
/** Milliseconds between them: the row follows the call within moments. */
const PAUSE = 250;

export async function show(content, frame) {
  const answer = el("div", { class: "answer", id: "answer", "aria-live": "polite" });
  const result = el("div", { id: "result" });
  const form = callForm(frame, answer, result);
  fill(content, el("div", { class: "columns" }, card(t("playground.call"), form), card(t("playground.answer"), answer, result)));
}

function callForm(frame, answer, result) {
  const known = el("datalist", { id: "callable" });
  const key = field({
    name: "key",
    label: t("playground.key"),
    type: "password",
    required: true,
    autocomplete: "off",
    hint: t("playground.key_hint"),
  });
  const model = field({ name: "model", label: t("fields.model"), required: true, list: "callable" });
  const system = field({ name: "system", label: t("playground.system"), type: "textarea", rows: 2 });
  const message = field({
    name: "message",
    label: t("playground.message"),
    type: "textarea",
    rows: 5,
    required: true,
    value: t("playground.hello"),
  });
  const most = field({ name: "max_tokens", label: t("playground.max_tokens"), inputmode: "numeric", value: "256" });
  const send = el("button", { type: "submit", class: "main" }, t("playground.send"));
  const stop = button(t("playground.stop"), () => running.abort());
  stop.disabled = true;
  let running;
  const listModels = async () => {
    try {
      const { data } = await ask("GET", "/v1/models", { headers: { Authorization: `Bearer ${form.elements.key.value.trim()}` } });
      fill(
        known,
        data.map(({ id }) => el("option", { value: id })),
      );
      if (!form.elements.model.value && data.length) form.elements.model.value = data[0].id;
    } catch (error) {
      fill(result, problemNotice(error));
    }
  };
  const call = async (event) => {
    event.preventDefault();
    running = new AbortController();
    send.disabled = true;
    stop.disabled = false;
    fill(answer);
    fill(result);
    try {
      await stream(form.elements, answer, result, frame, running.signal);
    } catch (error) {
      fill(result, error.name === "AbortError" ? notice("plain", t("playground.stopped")) : problemNotice(error));
      if (error.name !== "AbortError" && !(error instanceof Problem)) throw error;
    } finally {
      send.disabled = false;
      stop.disabled = true;
    }
  };
  const form = el(
    "form",
    { class: "form", on: { submit: call } },
    key,
    frame.mayWrite &&
      el(
        "div",
        { class: "tools" },
        button(t("playground.make_key"), () => makeKey(form.elements.key, listModels)),
      ),
    model,
    known,
    system,
    message,
    most,
    el("div", { class: "actions" }, stop, send),
  );
  form.elements.key.addEventListener("change", listModels);
  return form;
}

/** Secrets of keys aren't kept here, so that none can be chosen from a list; one for this purpose can be made. */
function makeKey(place, made) {
  const submit = async (values) => {
    const until = new Date(Date.now() + 3600e3).toISOString();
    const { key } = await ask("POST", "/admin/keys", {
      body: { user_id: values.user_id, name: "playground", spend_limit: values.spend_limit, expires_at: until },
    });
    place.value = key;
    await made();
  };
  formDialog(t("playground.make_key"), inputs(FOR_AN_HOUR, ["user_id", "spend_limit"]), {
    submit,
    button: t("manage.create"),
    intro: t("playground.make_key_hint"),
  });
}

async function stream({ key, model, system, message, max_tokens: most }, answer, result, frame, signal) {
  const messages = [system.value.trim() && { role: "system", content: system.value }, { role: "user", content: message.value }].filter(
    Boolean,
  );
  const limit = most.value.trim() ? { max_tokens: Number(most.value) } : {};
  const said = await fetch("/v1/chat/completions", {
    method: "POST",
    signal,
    credentials: "omit",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${key.value.trim()}` },
    body: JSON.stringify({ model: model.value.trim(), messages, stream: true, ...limit }),
  });
  const id = said.headers.get("X-Request-ID");
  if (!said.ok) {
    const { error } = await said.json();
    throw new Problem(said.status, error?.message ?? t("frame.odd_answer", { status: said.status }), error?.code ?? "");
  }
  for await (const event of events(said.body)) {
    if (event.error) throw new Problem(said.status, event.error.message, event.error.code ?? "");
    const delta = event.choices?.[0]?.delta;
    answer.append(delta?.content ?? "");
  }
  if (!answer.textContent) fill(answer, el("p", { class: "muted" }, t("playground.no_text")));
  await showRow(id, result, frame, signal);
}

/** The JSON of a stream's events: https://html.spec.whatwg.org/multipage/server-sent-events.html */
async function* events(body) {
  let kept = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (kept + value).split(/\r?\n/);
    kept = lines.pop();
    for (const line of lines) {
      const data = /^data: ?(.*)$/.exec(line)?.[1];
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

async function showRow(id, result, frame, signal) {
  fill(result, el("p", { class: "muted" }, t("playground.billing")));
  for (let tries = 0; tries < TRIES; tries++) {
    const { data } = await get("/logs", { request_id: id, total: "none" }, signal);
    if (data.length) return fill(result, rowOf(data[0], frame));
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  fill(result, notice("warn", t("playground.no_row", { id })));
}

function rowOf(row, { isOperator }) {
  const open = () => showCall(row.request_id, { zone: ownZone, upstreams: new Map(), isOperator, onClose: null });
  return el(
    "div",
    { class: "form" },
    facts([
      [t("calls.bill"), money(row.bill, { exact: true })],
      [t("calls.input_tokens"), number(row.input_tokens)],
      [t("calls.output_tokens"), number(row.output_tokens)],
      [t("calls.first_token_ms"), duration(row.first_token_ms)],
      [t("calls.latency_ms"), duration(row.latency_ms)],
    ]),
    el("div", { class: "tools" }, button(t("playground.open_row"), open)),
  );
}
