"""Which routes of a model speak the protocol of a call: an upstream may be told to speak some only (`protocols`)."""

from urllib.parse import quote

from app.catalog.routing import Route
from app.errors import NotFound
from app.gateway.protocols import Protocol

_FAMILIES = {"x-api-key": "anthropic", "x-goog-api-key": "gemini"}
"""By the header in which a protocol's clients send their keys; all others are OpenAI's, or made after them."""
_PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:generateContent",
}


def spoken(routes: tuple[Route, ...], protocol: Protocol, model: str) -> tuple[Route, ...]:
    """Raises `NotFound`, with the paths that work, where none is left."""
    if all(route.target.protocols is None for route in routes):
        return routes
    family = _FAMILIES.get(protocol.auth, "openai")
    left = tuple(route for route in routes if route.target.protocols is None or family in route.target.protocols)
    if not left:
        known = {name for route in routes for name in route.target.protocols or ()}
        paths = " and ".join(f"POST {path.format(model=quote(model))}" for name, path in _PATHS.items() if name in known)
        raise NotFound(f"The model {model!r} is not served at this path. It is served at {paths} here.", code="other_protocol")
    return left
