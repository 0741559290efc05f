// What a user of the npm package `@anthropic-ai/sdk` writes.
import Anthropic from "@anthropic-ai/sdk";
import { all, serve } from "./steps.mjs";

const WEATHER = {
  name: "weather",
  description: "The weather of the days to come.",
  input_schema: { type: "object", properties: { city: { type: "string" }, days: { type: "integer" } } },
};

function client({ url, key }) {
  return new Anthropic({ apiKey: key, baseURL: url, maxRetries: 0, timeout: 20_000 });
}

function ask({ model }, content, rest = {}) {
  return { model, max_tokens: 1000, messages: [{ role: "user", content }], ...rest };
}

await serve({
  async message(told) {
    const answer = await client(told).messages.create(ask(told, "how are you"));
    return { text: answer.content[0].text, usage: answer.usage, id: answer._request_id };
  },
  async stream(told) {
    const events = await all(await client(told).messages.create(ask(told, "one two", { stream: true })));
    const deltas = events.filter((event) => event.type === "content_block_delta");
    return { text: deltas.map((event) => event.delta.text).join(""), last: events.at(-1).type };
  },
  async streamHelper(told) {
    const stream = client(told).messages.stream(ask(told, "one two"));
    const message = await stream.finalMessage();
    return { text: message.content[0].text, usage: message.usage, id: stream.request_id };
  },
  async beta(told) {
    const asked = ask(told, "one two", { betas: ["context-management-2025-06-27", "effort-2025-11-24"] });
    const message = await client(told).beta.messages.stream(asked).finalMessage();
    return { text: message.content[0].text };
  },
  async tool(told) {
    const asked = ask(told, "tomorrow", { tools: [WEATHER] });
    const calling = await client(told).messages.stream(asked).finalMessage();
    const [use] = calling.content;
    asked.messages.push(
      { role: "assistant", content: calling.content },
      { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "rain" }] },
    );
    const answer = await client(told).messages.create(asked);
    return { name: use.name, args: use.input, text: answer.content[0].text };
  },
  async countTokens(told) {
    const { max_tokens, ...asked } = ask(told, "one two three");
    return (await client(told).messages.countTokens(asked)).input_tokens;
  },
  async wrongModel(told) {
    try {
      await client(told).messages.create(ask({ model: "no-such-model" }, "hello"));
    } catch (error) {
      return { kind: error.constructor.name, status: error.status, type: error.type, id: error.requestID };
    }
  },
});
