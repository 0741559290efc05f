"""A protocol that no provider speaks: `/toy/say` takes `{"to": model, "say": text}`, and answers lines of text, the last of
which tells how many words came in and went out. It shows all that a new protocol needs: this file, and its line below."""

from typing import Any

import msgspec

from app.billing.usage import Usage
from app.errors import ProxyError
from app.gateway.protocols.base import NOTHING_MORE, Asked, CallRequest, StreamEvent, decode, replace_fields
from app.gateway.protocols.reports import UNREADABLE, is_count, usage_in
from app.gateway.protocols.texts import event_data, events_of, texts


class _Said(msgspec.Struct):
    to: str
    say: str
    aloud: bool = False


class Toy:
    api = "toy"
    path = "/toy/say"
    auth = "bearer"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        said = decode(body, _Said)
        return CallRequest(body=body, model=said.to, is_stream=said.aloud, wants_usage=True, input_bound=len(body), output_limit=100)

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        return replace_fields(request.body, {"to": model}) if model else request.body

    def usage_of(self, answer: bytes) -> Usage | None:
        return usage_in(answer, "words", _read)

    def tells(self, events: bytes) -> bool:
        return b'"words"' in events

    def read_event(self, event: bytes) -> StreamEvent:
        usage = self.usage_of(event_data(event))
        return StreamEvent(usage=usage, is_terminal=usage is not None)

    def request_texts(self, body: bytes) -> list[str]:
        return [decode(body, _Said).say]

    def answer_texts(self, answer: bytes) -> list[str]:
        try:
            return texts(msgspec.json.decode(answer), ("words",))
        except UNREADABLE:
            return []

    def event_texts(self, events: bytes) -> list[str]:
        return texts(list[Any](events_of(events)), ("words",))

    def error_body(self, error: ProxyError) -> bytes:
        return msgspec.json.encode({"oops": str(error)})

    def error_event(self, error: ProxyError) -> bytes:
        return b"data: " + self.error_body(error) + b"\n\n"


def _read(words: object) -> Usage | None:
    if not isinstance(words, list) or len(words) != 2 or not all(map(is_count, words)):
        return None
    return Usage(input_tokens=words[0], output_tokens=words[1])


if __name__ == "__main__":
    import app.gateway.protocols
    from app.cli.main import main

    app.gateway.protocols.PROTOCOLS += (Toy(),)  # the line
    main()
