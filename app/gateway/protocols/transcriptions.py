"""`/v1/audio/transcriptions`, `/translations`: https://platform.openai.com/docs/api-reference/audio/createTranscription.

Usage comes in tokens or in seconds; where there is none, `verbose_json` still tells how long the sound was, and of other
formats, such as plain text and subtitles, the file itself is asked. It may say what it likes, so such calls are open-ended.
"""

from typing import Any

import msgspec

from app.billing.rates import TEXT_KINDS
from app.billing.usage import Usage
from app.errors import InvalidRequest
from app.gateway.forms.form import Form, FormBody
from app.gateway.protocols import openai
from app.gateway.protocols.base import NOTHING_MORE, Asked, CallRequest, StreamEvent, TakesForms, decode, decode_fields
from app.gateway.protocols.openai_audio import read_usage, whole_seconds
from app.gateway.protocols.reports import UNREADABLE, object_of
from app.gateway.protocols.texts import event_data, events_of

TOKENS_PER_SECOND = 13
"""Of sound: OpenAI counts 10, Mistral 12.5."""
MOST_WORDS_PER_SECOND = 10
"""Tokens of the text, held for a second of sound."""

_FIELDS = ("model", "stream", "response_format", "prompt", "language")


class _Request(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    user: str | None = None


class Transcriptions(TakesForms):
    api = "audio.transcriptions"
    path = "/v1/audio/transcriptions"
    auth = "bearer"
    sound = "file"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        raise InvalidRequest("Send the sound as a form: `multipart/form-data` with the fields `model` and `file`.", code="invalid_form")

    def read_form(self, form: Form, asked: Asked = NOTHING_MORE) -> CallRequest:
        form.refuse_ambiguous(_FIELDS, ("file",))
        request = decode_fields(form, _Request)
        if not form.files(("file",)):
            raise InvalidRequest("Send the sound in the form's `file`.", code="missing_file")
        body = form.as_json()
        tokens = form.sound.seconds * TOKENS_PER_SECOND
        return CallRequest(
            body=body,
            form=form,
            model=openai.required_model(asked.model or request.model),
            is_stream=bool(request.stream),
            wants_usage=True,
            input_bound=len(body) + tokens,
            open_ended=True,
            kinds=TEXT_KINDS | {"audio_input"},
            end_user=request.user,
            measured=Usage(input_tokens=tokens, audio_input_tokens=tokens, units={"second": form.sound.seconds}),
            doubts=("sound_length",) if form.sound.is_disbelieved else (),
            output_allowance=(form.sound.seconds + 1) * MOST_WORDS_PER_SECOND,
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> FormBody:
        assert request.form is not None
        return request.form.with_model(model or openai.missing_in(request))

    def usage_of(self, answer: bytes) -> Usage | None:
        try:
            told = object_of(msgspec.json.decode(answer))
        except UNREADABLE:
            return None
        seconds = whole_seconds(told.get("duration"))
        return read_usage(told.get("usage")) or (Usage(units={"second": seconds}) if seconds is not None else None)

    def tells(self, events: bytes) -> bool:
        return events.find(b"transcript.text.done") >= 0 or openai.tells(events)

    def read_event(self, event: bytes) -> StreamEvent:
        try:
            told = object_of(msgspec.json.decode(event_data(event)))
        except UNREADABLE:
            return openai.read_event(event)
        if told.get("type") != "transcript.text.done":
            return openai.read_event(event)
        return StreamEvent(usage=read_usage(told.get("usage")), is_terminal=True)

    def request_texts(self, body: bytes) -> list[str]:
        prompt = decode(body, dict[str, Any]).get("prompt")
        return [prompt] if isinstance(prompt, str) else []

    def answer_texts(self, answer: bytes) -> list[str]:
        """Of silence it is an empty one; JSON without one is no answer."""
        try:
            told = object_of(msgspec.json.decode(answer))
        except UNREADABLE:
            return [answer.decode("utf-8", "replace")] if answer else []
        return [told["text"]] if isinstance(told.get("text"), str) else []

    def event_texts(self, events: bytes) -> list[str]:
        """vLLM's events are those of a chat."""
        found = [told.get("delta") for told in events_of(events) if told.get("type") == "transcript.text.delta"]
        found += [object_of(choice.get("delta")).get("content") for choice in openai.choices_of_events(events)]
        return [text for text in found if isinstance(text, str)]

    error_body = staticmethod(openai.error_body)
    error_event = staticmethod(openai.error_event)


class Translations(Transcriptions):
    api = "audio.translations"
    path = "/v1/audio/translations"
