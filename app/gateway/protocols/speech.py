"""`/v1/audio/speech`: https://platform.openai.com/docs/api-reference/audio/createSpeech.

The answer is sound, or a stream of it (`stream_format` `sse`), whose last event reports tokens. Characters are counted in the
request: those of `input`, as Unicode counts them. Sound that nobody counted in tokens is estimated by the characters, too.
"""

import math
import re
from typing import Any

import msgspec

from app.billing.rates import TEXT_KINDS
from app.billing.usage import Usage
from app.gateway.protocols import openai
from app.gateway.protocols.base import NOTHING_MORE, Asked, CallRequest, StreamEvent, changed, decode, refuse_ambiguous_names
from app.gateway.protocols.openai_audio import read_usage
from app.gateway.protocols.reports import UNREADABLE, object_of
from app.gateway.protocols.texts import event_data

TOKENS_PER_CHARACTER = 1.5
"""Of sound, as gpt-4o-mini-tts speaks English: 20 a second, at 14 characters a second."""
MOST_TOKENS_PER_CHARACTER = 5
"""Held for a character: Chinese takes as long for one as English for three."""

_DECISIVE = re.compile(rb'"(model|input|instructions|stream_format)"\s*:', re.IGNORECASE)
_JSON = re.compile(rb'\s*\{\s*"')


class _Request(msgspec.Struct):
    input: str
    model: str | None = None
    stream_format: str | None = None


class Speech:
    api = "audio.speech"
    path = "/v1/audio/speech"
    auth = "bearer"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        request = decode(body, _Request)
        refuse_ambiguous_names(body, _DECISIVE)
        characters = len(request.input)
        tokens = math.ceil(characters * TOKENS_PER_CHARACTER)
        return CallRequest(
            body=openai.naming(body, asked.model, request.model),
            model=openai.required_model(asked.model or request.model),
            is_stream=request.stream_format == "sse",
            wants_usage=True,
            input_bound=len(body),
            kinds=TEXT_KINDS | {"audio_output"},
            measured=Usage(output_tokens=tokens, audio_output_tokens=tokens, units={"character": characters}),
            output_allowance=characters * MOST_TOKENS_PER_CHARACTER,
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        return changed(request.body, model=model)

    def usage_of(self, answer: bytes) -> Usage | None:
        return None

    def tells(self, events: bytes) -> bool:
        return events.find(b"speech.audio.done") >= 0 or openai.tells(events)

    def read_event(self, event: bytes) -> StreamEvent:
        try:
            told = object_of(msgspec.json.decode(event_data(event)))
        except UNREADABLE:
            return openai.read_event(event)
        if told.get("type") != "speech.audio.done":
            return openai.read_event(event)
        return StreamEvent(usage=read_usage(told.get("usage"), is_speech=True), is_terminal=True)

    def request_texts(self, body: bytes) -> list[str]:
        request = decode(body, dict[str, Any])
        return [text for text in (request.get("input"), request.get("instructions")) if isinstance(text, str)]

    def answer_texts(self, answer: bytes) -> list[str]:
        """Sound has none, and is an answer all the same; JSON isn't."""
        return [] if not answer or _JSON.match(answer) else [""]

    def event_texts(self, events: bytes) -> list[str]:
        return []

    error_body = staticmethod(openai.error_body)
    error_event = staticmethod(openai.error_event)
