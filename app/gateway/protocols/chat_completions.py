"""`/v1/chat/completions`: https://platform.openai.com/docs/api-reference/chat.

A spoken answer stays at the provider for a while, and a later request may name it in place of its sound:
https://platform.openai.com/docs/guides/audio.
"""

import re
from dataclasses import replace
from typing import Annotated, Any

import msgspec

from app.billing.service_tier import tier_asked
from app.gateway.protocols import attribution, openai, references
from app.gateway.protocols.base import NOTHING_MORE, Asked, CallRequest, StreamEvent, changed, decode, refuse_ambiguous_names
from app.gateway.protocols.chat_bound import bound_input
from app.gateway.protocols.kept import NO_REFERENCES, kept_of
from app.gateway.protocols.reports import object_of
from app.gateway.protocols.texts import texts

OVERHEAD = 64
"""Tokens that a provider's chat template may add beyond the bytes of the request."""

_DECISIVE = re.compile(
    rb'"(model|messages|n|stream|stream_options|tools|modalities|max_tokens|max_completion_tokens|prediction|service_tier)"\s*:',
    re.IGNORECASE,
)
_NEEDS_COMPLETION_LIMIT = re.compile(r"^(openai/)?(o\d|gpt-5)")
"""Models that refuse `max_tokens` and want `max_completion_tokens` (OpenAI's reasoning models)."""
_ABSENT = msgspec.Raw()

_Limit = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
_Choices = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Chat(msgspec.Struct):
    messages: list[dict[str, msgspec.Raw]]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Limit | None = None
    max_completion_tokens: _Limit | None = None
    n: _Choices | None = None
    user: Any = None
    safety_identifier: Any = None
    session_id: Any = None
    metadata: Any = None
    prompt_cache_key: Any = None
    modalities: Any = None
    service_tier: Any = None
    prediction: msgspec.Raw = _ABSENT


class ChatCompletions:
    api = "chat.completions"
    path = "/v1/chat/completions"
    auth = "bearer"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        chat = decode(body, _Chat)
        refuse_ambiguous_names(body, _DECISIVE)
        bound = bound_input(body, chat.modalities)
        is_spoken = "audio_output" in bound.kinds
        limits = [limit for limit in (chat.max_tokens, chat.max_completion_tokens) if limit is not None]
        return CallRequest(
            body=openai.naming(body, asked.model, chat.model),
            model=openai.required_model(asked.model or chat.model),
            is_stream=bool(chat.stream),
            wants_usage=bool(chat.stream_options and chat.stream_options.include_usage),
            input_bound=bound.tokens + OVERHEAD,
            media_tokens=bound.media_tokens,
            output_limit=max(limits, default=None),
            extra_output=len(bytes(chat.prediction)),
            choices=chat.n or 1,
            open_ended=bound.open_ended,
            kinds=bound.kinds,
            service_tier=tier_asked(chat.service_tier),
            end_user=attribution.first_text(chat.safety_identifier, chat.user),
            affinity=attribution.first_text(chat.prompt_cache_key),
            tags=attribution.told(session=chat.session_id, metadata=chat.metadata),
            references=references.of_chat(body, decode(body, dict[str, Any])) if bound.may_refer else NO_REFERENCES,
            is_kept=is_spoken,
            reader=_SPOKEN if is_spoken else None,
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        limit = "max_completion_tokens" if _NEEDS_COMPLETION_LIMIT.match(model or request.model) else "max_tokens"
        asking = openai.asking_usage(request.body) if ask_usage else None
        return changed(request.body, model=model, stream_options=asking, **{limit: output_limit})

    def request_texts(self, body: bytes) -> list[str]:
        chat = decode(body, dict[str, Any])
        return texts([chat.get(name) for name in ("messages", "tools", "functions", "response_format")], openai.SILENT)

    def answer_texts(self, answer: bytes) -> list[str]:
        return texts([choice.get("message") for choice in openai.choices(answer)], openai.SILENT_IN_ANSWERS)

    def event_texts(self, events: bytes) -> list[str]:
        return texts([choice.get("delta") for choice in openai.choices_of_events(events)], openai.SILENT_IN_ANSWERS)

    usage_of = staticmethod(openai.usage_of_answer)
    tells = staticmethod(openai.tells)
    read_event = staticmethod(openai.read_event)
    error_body = staticmethod(openai.error_body)
    error_event = staticmethod(openai.error_event)


class _Spoken(ChatCompletions):
    """Reads of a stream also by which id its sound can be referred to."""

    def tells(self, events: bytes) -> bool:
        return events.find(b'"audio"') >= 0 or openai.tells(events)

    def read_event(self, event: bytes) -> StreamEvent:
        told = openai.read_event(event)
        heard = [object_of(object_of(choice.get("delta")).get("audio")) for choice in openai.choices_of_events(event)]
        kept = next((kept_of(audio) for audio in heard if "id" in audio), None)
        return told if kept is None else replace(told, kept=kept)


_SPOKEN = _Spoken()
