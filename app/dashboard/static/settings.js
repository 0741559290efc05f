// The switches of theme and language, which every page has. The server reads both cookies, so that a page comes as it is to stay.

const YEAR = 365 * 24 * 3600;

function keep(name, value) {
  document.cookie = `billing-proxy-${name}=${value}; path=/; max-age=${value ? YEAR : 0}; samesite=strict`;
}

export function wireSettings() {
  document.getElementById("theme").addEventListener("change", ({ target }) => {
    const theme = target.value === "system" ? "" : target.value;
    keep("theme", theme);
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    dispatchEvent(new Event("themechange"));
  });
  document.getElementById("language").addEventListener("change", ({ target }) => {
    keep("language", target.value);
    location.reload();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("themechange")));
}
