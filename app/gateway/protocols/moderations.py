"""`/v1/moderations`: https://platform.openai.com/docs/api-reference/moderations. It costs nothing."""

import re
from typing import Any

import msgspec

from app.billing.usage import Usage
from app.gateway.protocols import openai
from app.gateway.protocols.base import NOTHING_MORE, Asked, CallRequest, StreamEvent, changed, decode, refuse_ambiguous_names

USUAL_MODEL = "omni-moderation-latest"
"""What a request that names none is for."""

_DECISIVE = re.compile(rb'"(model)"\s*:', re.IGNORECASE)


class _Request(msgspec.Struct):
    input: str | list[Any]
    model: str | None = None


class Moderations:
    api = "moderations"
    path = "/v1/moderations"
    auth = "bearer"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        request = decode(body, _Request)
        refuse_ambiguous_names(body, _DECISIVE)
        model = asked.model or request.model or USUAL_MODEL
        return CallRequest(body=body, model=model, has_output=False, is_free=True)

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        return changed(request.body, model=model)

    def usage_of(self, answer: bytes) -> Usage | None:
        return None

    def tells(self, events: bytes) -> bool:
        return openai.tells(events)

    def read_event(self, event: bytes) -> StreamEvent:
        return openai.read_event(event)

    def request_texts(self, body: bytes) -> list[str]:
        return []

    def answer_texts(self, answer: bytes) -> list[str]:
        return []

    def event_texts(self, events: bytes) -> list[str]:
        return []

    error_body = staticmethod(openai.error_body)
    error_event = staticmethod(openai.error_event)
