// Reads what to do from stdin, a line of JSON each, and answers with a line. See ../driver.py.
import { createInterface } from "node:readline";

export async function serve(steps) {
  for await (const line of createInterface({ input: process.stdin })) {
    const told = JSON.parse(line);
    let answer;
    try {
      answer = { result: await steps[told.step](told) };
    } catch (error) {
      answer = { error: String(error.stack) };
    }
    console.log(JSON.stringify(answer));
  }
}

export async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}
