// The same REST that programs use. The session's cookie goes along by itself; what changes something carries a header besides,
// which no other site can send.

import { worded } from "./refusals.js";
import { t } from "./words.js";

/** What went wrong: `detail` in the server's own words, `message` in the page's language. `errors`: the fields at fault, as {field, message}. */
export class Problem extends Error {
  constructor(status, detail, code = "", errors = []) {
    super(worded({ code, detail, errors }));
    this.status = status;
    this.detail = detail;
    this.code = code;
    this.errors = errors;
  }
}

/** The path with its query; what is null, undefined or empty is left out, an array repeats its name. */
export function withQuery(path, query = {}) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") found.append(name, one);
    }
  }
  return found.size ? `${path}?${found}` : path;
}

/** A part of a path, where ids and names may hold slashes. */
export function part(text) {
  return encodeURIComponent(text);
}

/** The answer's JSON, or null where it has none. `body`: what becomes JSON, or text as it is. Throws `Problem`; one who isn't signed in any more is led to do so. */
export async function ask(method, path, { query, body, headers = {}, signal } = {}) {
  let answer;
  try {
    answer = await fetch(withQuery(path, query), {
      method,
      signal,
      headers: {
        Accept: "application/json",
        "X-Dashboard": "1",
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, t("frame.unreachable"));
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await told(answer);
  if (answer.status === 401 && document.documentElement.dataset.page) {
    location.assign(withQuery("/dashboard/sign-in", { next: location.pathname + location.search }));
  }
  throw problem;
}

const AT_ONCE = 3;
let underWay = 0;
const waiting = [];

/** A few at a time: whoever looks at the dashboard shares the proxy's connections to the database with the calls. */
export async function get(path, query, signal) {
  if (underWay >= AT_ONCE) await new Promise((turn) => waiting.push(turn));
  else underWay += 1;
  try {
    return await ask("GET", path, { query, signal });
  } finally {
    if (waiting.length) waiting.shift()();
    else underWay -= 1;
  }
}

/** All rows of a listing, page by page. */
export async function getAll(path, query = {}, signal) {
  const rows = [];
  for (let cursor = null; ;) {
    const page = await get(path, { limit: 500, ...query, cursor }, signal);
    rows.push(...page.data);
    cursor = page.next_cursor;
    if (!cursor) return rows;
  }
}

/** RFC 9457 problem details; the protocol's own envelope for paths that clients call models by. */
async function told(answer) {
  try {
    const said = await answer.json();
    const { detail, message, code, errors } = said.error ?? said;
    return new Problem(answer.status, detail ?? message ?? answer.statusText, code ?? "", errors ?? []);
  } catch {
    return new Problem(answer.status, t("frame.odd_answer", { status: answer.status }));
  }
}
