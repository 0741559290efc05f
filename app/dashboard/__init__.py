"""The dashboard, at `/dashboard`: pages for operators and for the holders of platform keys. No build step.

Pages are thin. The server renders a shell (`templates/page.html`: navigation, title, one `<main>`), and an ES module fills it from the
same REST that programs use, with the session's cookie in place of a token: one set of checks, one audit trail. To add a page:

1. a line in `pages.PAGES`: its name, who sees it, and its section of the navigation;
2. its module, `static/pages/<name>.js`, which exports `async function show(main, frame)`: see `static/pages/calls.js`. What is there
   to build with: `dom.js` (elements; text only as text), `api.js` (requests; a failed one throws its problem details), `format.js`
   (money, numbers, dates by locale), `address.js` (the query string holds the state), `parts.js` (tables, dialogs, forms, notices),
   `chart.js`. A page that manages one kind of thing declares its fields (`kinds.js`) to `listing.js`: see `static/pages/groups.js`.
   All modules of `static/` can be imported by their relative paths;
3. its words, in `strings/en.json` and `strings/zh.json`, under its own name, and its title under `pages`: `t("calls.empty")` in modules
   and templates. A test holds that both have the same. What the server says is English; `problems` and `faults` in the other
   dictionaries say it in their language (`refusals.js`);
4. a template of its own, `templates/<name>.html`, only where the shell won't do: it extends `page.html`.

Styles are in `static/app.css`, by design tokens; `style` attributes and inline scripts are refused by the Content-Security-Policy, so set
`element.style.x` where a value must be computed. Everything is served under a name made of its content, and kept by browsers for
good. Raises `StartupError` where the charts' file isn't installed.
"""

from fastapi import FastAPI

from app.dashboard import assets, pages, sign_in
from app.dashboard.assets import Assets
from app.dashboard.rendering import Renderer


def include_dashboard(app: FastAPI) -> None:
    files = Assets.load()
    app.state.dashboard = Renderer(files)
    app.include_router(assets.router_of(files))
    app.include_router(sign_in.router)
    app.include_router(pages.router_of())
