"""In whose words an error is told, where no call was read: by the path that was asked for, and by headers that only
Anthropic's and Google's clients send."""

from collections.abc import Callable, Container

from app.errors import ProxyError
from app.gateway.protocols import openai
from app.gateway.protocols.gemini import GenerateContent
from app.gateway.protocols.messages import Messages
from app.gateway.protocols.unsupported import OPENAI as UNSUPPORTED

Envelope = Callable[[ProxyError], bytes]

_OPENAI = (
    "/v1", "/openai", "/chat", "/completions", "/embeddings", "/responses", "/conversations", "/images", "/audio", "/moderations",
    "/models", "/rerank", "/v2/rerank", "/dashboard/billing", *(f"/{name}" for name in UNSUPPORTED),
)  # fmt: skip
_gemini, _messages = GenerateContent(), Messages()


def envelope_of(path: str, headers: Container[str]) -> Envelope | None:
    """None: the path is none of the data plane's."""
    if _is_under(path, "/v1/messages", "/messages") or (_is_under(path, "/v1") and "anthropic-version" in headers):
        return _messages.error_body
    if _is_under(path, "/v1beta/openai"):
        return openai.error_body
    if _is_under(path, "/v1beta", "/v1alpha", "/upload") or (_is_under(path, "/v1") and "x-goog-api-key" in headers):
        return _gemini.error_body
    return openai.error_body if _is_under(path, *_OPENAI) else None


def _is_under(path: str, *places: str) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)
