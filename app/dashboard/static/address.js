// The query string holds the state of a page, so that an address can be kept, shared and gone back to.

/** The parameters as an object; `defaults` where one is missing. */
export function read(defaults = {}) {
  return { ...defaults, ...Object.fromEntries(new URLSearchParams(location.search)) };
}

/** Puts `state` into the address, without what is empty or as in `defaults`. `isStep`: the way back leads here. */
export function write(state, defaults = {}, { isStep = true } = {}) {
  const kept = Object.entries(state).filter(
    ([name, value]) => value !== "" && value !== null && value !== undefined && value !== defaults[name],
  );
  const query = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  const url = location.pathname + (query ? `?${query}` : "");
  if (url === location.pathname + location.search) return;
  history[isStep ? "pushState" : "replaceState"](null, "", url);
}

/** When somebody goes back or forward. */
export function onReturn(act) {
  addEventListener("popstate", act);
}
