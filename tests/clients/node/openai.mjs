// What a user of the npm package `openai` writes.
import OpenAI from "openai";
import { all, serve } from "./steps.mjs";

const WEATHER = {
  name: "weather",
  parameters: { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } },
};

function client({ url, key }) {
  return new OpenAI({ apiKey: key, baseURL: `${url}/v1`, maxRetries: 0, timeout: 20_000 });
}

function chat({ model }, content, rest = {}) {
  return { model, messages: [{ role: "user", content }], ...rest };
}

const textOf = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

await serve({
  async chat(told) {
    const { data, request_id } = await client(told).chat.completions.create(chat(told, "how are you")).withResponse();
    return { text: data.choices[0].message.content, usage: data.usage, id: request_id };
  },
  async stream(told) {
    const chunks = await all(await client(told).chat.completions.create(chat(told, "one two", { stream: true })));
    return { text: textOf(chunks), usage: chunks.map((chunk) => chunk.usage ?? null), choices: chunks.map((chunk) => chunk.choices.length) };
  },
  async streamWithUsage(told) {
    const asked = chat(told, "one two", { stream: true, stream_options: { include_usage: true } });
    const chunks = await all(await client(told).chat.completions.create(asked));
    return { text: textOf(chunks), usage: chunks.at(-1).usage };
  },
  async streamHelper(told) {
    const stream = client(told).chat.completions.stream(chat(told, "tomorrow", { tools: [{ type: "function", function: WEATHER }] }));
    const message = (await stream.finalChatCompletion()).choices[0].message;
    return message.tool_calls.map((call) => call.function);
  },
  async responses(told) {
    const answer = await client(told).responses.create({ model: told.model, input: "how are you" });
    return { text: answer.output_text, usage: answer.usage };
  },
  async responsesStream(told) {
    const events = await all(await client(told).responses.create({ model: told.model, input: "one two", stream: true }));
    const deltas = events.filter((event) => event.type === "response.output_text.delta");
    return { text: deltas.map((event) => event.delta).join(""), usage: events.at(-1).response.usage, last: events.at(-1).type };
  },
  async responsesTool(told) {
    const tools = [{ type: "function", strict: false, ...WEATHER }];
    const input = [{ role: "user", content: "tomorrow" }];
    const calling = await client(told).responses.create({ model: told.model, input, tools });
    const [call] = calling.output;
    input.push(call, { type: "function_call_output", call_id: call.call_id, output: "rain" });
    const answer = await client(told).responses.create({ model: told.model, input, tools });
    return { name: call.name, args: JSON.parse(call.arguments), text: answer.output_text };
  },
  async embeddings(told) {
    const answer = await client(told).embeddings.create({ model: told.model, input: ["red green", "blue"] });
    return answer.data.map((one) => one.embedding);
  },
  async wrongModel(told) {
    try {
      await client(told).chat.completions.create(chat({ model: "no-such-model" }, "hello"));
    } catch (error) {
      return { kind: error.constructor.name, status: error.status, code: error.code, id: error.requestID };
    }
  },
});
