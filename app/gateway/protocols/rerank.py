"""`/v1/rerank`, `/v2/rerank`: Cohere's (https://docs.cohere.com/reference/rerank), as Jina, Voyage, SiliconFlow and vLLM speak it, too.

Cohere reports searches (`meta.billed_units.search_units`), a query of up to 100 documents; the others tokens, in `usage`, and
SiliconFlow in `meta.tokens`. The query is read with each document.
"""

import re
from typing import Any

import msgspec

from app.billing.usage import Usage
from app.gateway.protocols import openai
from app.gateway.protocols.base import NOTHING_MORE, Asked, CallRequest, StreamEvent, changed, decode, refuse_ambiguous_names
from app.gateway.protocols.reports import UNREADABLE, is_count, object_of
from app.gateway.protocols.texts import texts

DOCUMENTS_PER_SEARCH = 100
CHUNK_BYTES = 250
"""Of which a document has no more parts than Cohere may count it as: it splits those of more than some 500 tokens, of which the
query takes up to half."""

_DECISIVE = re.compile(rb'"(model|query|documents)"\s*:', re.IGNORECASE)
_SILENT = frozenset({"image", "image_url", "url"})


class _Request(msgspec.Struct):
    query: str | dict[str, Any]
    documents: list[str | dict[str, Any]]
    model: str | None = None


class Rerank:
    api = "rerank"
    path = "/v1/rerank"
    auth = "bearer"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        request = decode(body, _Request)
        refuse_ambiguous_names(body, _DECISIVE)
        query = len(msgspec.json.encode(request.query))
        documents = max(len(request.documents), 1)
        chunks = sum(len(msgspec.json.encode(document)) // CHUNK_BYTES + 1 for document in request.documents)
        is_text = isinstance(request.query, str) and all(isinstance(text, str) or "text" in text for text in request.documents)
        return CallRequest(
            body=openai.naming(body, asked.model, request.model),
            model=openai.required_model(asked.model or request.model),
            input_bound=len(body) + query * documents,
            inputs=documents,
            has_output=False,
            open_ended=not is_text,
            measured=Usage(units={"search": max(-(-chunks // DOCUMENTS_PER_SEARCH), 1)}),
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        return changed(request.body, model=model)

    def usage_of(self, answer: bytes) -> Usage | None:
        try:
            told = object_of(msgspec.json.decode(answer))
        except UNREADABLE:
            return None
        usage, meta = object_of(told.get("usage")), object_of(told.get("meta"))
        billed, tokens = object_of(meta.get("billed_units")), object_of(meta.get("tokens"))
        counts = (usage.get("prompt_tokens"), usage.get("total_tokens"), tokens.get("input_tokens"), billed.get("input_tokens"))
        given = next((count for count in counts if is_count(count)), None)
        searches = billed.get("search_units")
        if given is None and not is_count(searches):
            return None
        return Usage(input_tokens=given or 0, units={"search": searches} if is_count(searches) else {})

    def tells(self, events: bytes) -> bool:
        return openai.tells(events)

    def read_event(self, event: bytes) -> StreamEvent:
        return openai.read_event(event)

    def request_texts(self, body: bytes) -> list[str]:
        request = decode(body, dict[str, Any])
        return texts([request.get("query"), request.get("documents")], _SILENT)

    def answer_texts(self, answer: bytes) -> list[str]:
        return []

    def event_texts(self, events: bytes) -> list[str]:
        return []

    error_body = staticmethod(openai.error_body)
    error_event = staticmethod(openai.error_event)


class RerankV2(Rerank):
    api = "rerank.v2"
    path = "/v2/rerank"
