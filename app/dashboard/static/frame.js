// Starts a page: the navigation, the switches, signing out, and the module that fills `#content`.

import { ask } from "./api.js";
import { problemNotice } from "./parts.js";
import { wireSettings } from "./settings.js";

const { page, role, scope, user } = document.documentElement.dataset;

/** What a page's `show(content, frame)` is given: where its tools go, and who looks at it. `mayWrite`: changes are taken from them. */
const frame = {
  tools: document.getElementById("tools"),
  role,
  isOperator: role !== "owner",
  mayWrite: role === "admin",
  scope,
  user,
};

const menu = document.getElementById("menu");
menu.addEventListener("click", () => menu.setAttribute("aria-expanded", String(menu.getAttribute("aria-expanded") !== "true")));
document.addEventListener("keydown", ({ key }) => key === "Escape" && menu.setAttribute("aria-expanded", "false"));
document.getElementById("sign-out").addEventListener("click", async () => {
  await ask("DELETE", "/dashboard/session");
  location.assign("/dashboard/sign-in");
});
wireSettings();

const content = document.getElementById("content");
try {
  const module = await import(`./pages/${page}.js`);
  await module.show(content, frame);
} catch (error) {
  content.prepend(problemNotice(error));
  throw error;
}
