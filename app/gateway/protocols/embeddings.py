"""`/v1/embeddings`: https://platform.openai.com/docs/api-reference/embeddings."""

import re
from typing import Any

import msgspec

from app.gateway.protocols import attribution, openai
from app.gateway.protocols.base import NOTHING_MORE, Asked, CallRequest, StreamEvent, changed, decode, refuse_ambiguous_names
from app.gateway.protocols.texts import texts

_DECISIVE = re.compile(rb'"(model|input)"\s*:', re.IGNORECASE)


class _Embedding(msgspec.Struct):
    input: str | list[Any]
    model: str | None = None
    user: Any = None


class Embeddings:
    api = "embeddings"
    path = "/v1/embeddings"
    auth = "bearer"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        embedding = decode(body, _Embedding)
        refuse_ambiguous_names(body, _DECISIVE)
        return CallRequest(
            body=openai.naming(body, asked.model, embedding.model),
            model=openai.required_model(asked.model or embedding.model),
            input_bound=len(body),
            inputs=len(embedding.input) if isinstance(embedding.input, list) else 1,
            has_output=False,
            open_ended=not _is_text(embedding.input),
            end_user=attribution.first_text(embedding.user),
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        return changed(request.body, model=model)

    def request_texts(self, body: bytes) -> list[str]:
        return texts(decode(body, dict[str, Any]).get("input"), openai.SILENT)

    def answer_texts(self, answer: bytes) -> list[str]:
        return []

    def event_texts(self, events: bytes) -> list[str]:
        return []

    def read_event(self, event: bytes) -> StreamEvent:
        return openai.read_event(event)

    usage_of = staticmethod(openai.usage_of_answer)
    tells = staticmethod(openai.tells)
    error_body = staticmethod(openai.error_body)
    error_event = staticmethod(openai.error_event)


def _is_text(given: str | list[Any]) -> bool:
    """A text, texts, or tokens; anything else may be media that the upstream fetches."""
    return isinstance(given, str) or all(
        isinstance(item, (str, int)) or (isinstance(item, list) and all(isinstance(token, int) for token in item)) for item in given
    )
