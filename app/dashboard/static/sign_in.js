import { ask } from "./api.js";
import { wireSettings } from "./settings.js";

const form = document.getElementById("sign-in");
const problem = document.getElementById("problem");

/** Where to go on: within the dashboard only. */
function next() {
  const asked = new URL(new URLSearchParams(location.search).get("next") ?? "/dashboard", location.origin);
  const isOurs = asked.origin === location.origin && asked.pathname.startsWith("/dashboard/") && asked.pathname !== location.pathname;
  return isOurs ? asked.pathname + asked.search : "/dashboard";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  problem.hidden = true;
  try {
    await ask("POST", "/dashboard/session", { body: { secret: form.secret.value } });
    location.replace(next());
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    form.secret.focus();
    form.secret.select();
  } finally {
    button.disabled = false;
  }
});

wireSettings();
// who follows a link from elsewhere comes without their cookie, which this request has
if (await ask("GET", "/dashboard/session")) location.replace(next());
