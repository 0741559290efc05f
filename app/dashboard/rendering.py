"""Pages as HTML: what every page is given, and the headers that go with it."""

from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.dashboard.assets import Assets
from app.dashboard.languages import COOKIE, LANGUAGES, language_for

THEME_COOKIE = "billing-proxy-theme"
THEMES = ("light", "dark")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Renderer:
    def __init__(self, assets: Assets) -> None:
        places = FileSystemLoader(Path(__file__).parent / "templates")
        self._templates = Environment(loader=places, autoescape=True, undefined=StrictUndefined, auto_reload=False)
        self._assets = assets
        self._needed_by = cache(assets.needed_by)

    def page(self, request: Request, template: str, **values: Any) -> HTMLResponse:
        theme = request.cookies.get(THEME_COOKIE)
        language = language_for(request.cookies.get(COOKIE), request.headers.get("accept-language", ""))
        html = self._templates.get_template(template).render(
            t=language,
            language=language.code,
            languages=tuple(LANGUAGES),
            theme=theme if theme in THEMES else None,
            asset=self._assets.url,
            needed_by=self._needed_by,
            settings=request.app.state.services.settings,
            **values,
        )
        return HTMLResponse(html, headers=HEADERS | {"Content-Language": language.code})


def renderer_of(request: Request) -> Renderer:
    renderer = request.app.state.dashboard
    assert isinstance(renderer, Renderer)
    return renderer
