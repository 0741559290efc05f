"""Streams as providers send them, in any of the three line ends of server-sent events, cut anywhere."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from app.gateway.metering.meter import StreamMeter
from app.gateway.protocols.chat_completions import ChatCompletions

LINE_ENDS = (b"\n", b"\r\n", b"\r")
DONE = b"[DONE]"
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def chunk(text: str | None, **fields: Any) -> bytes:
    """The data of one event; None: without a choice, as where only usage is told."""
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": choices} | fields, ensure_ascii=False).encode()


def framed(data: Iterable[bytes], line_end: bytes = b"\n") -> list[bytes]:
    return [b"data: " + one + line_end * 2 for one in data]


def meter(*, strips: bool = False) -> StreamMeter:
    return StreamMeter(ChatCompletions(), strips=strips)


def cut(whole: bytes, offsets: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted({at for at in offsets if 0 < at < len(whole)}), len(whole)]
    return [whole[start:end] for start, end in pairwise(edges)]


def every(whole: bytes, size: int) -> list[bytes]:
    return cut(whole, range(size, len(whole), size))


def passed(tap: StreamMeter, pieces: Sequence[bytes]) -> bytes:
    """What a client gets before the end of the stream, and at it."""
    first = b"".join(tap.feed(piece) for piece in pieces)
    tap.finish()
    return first + tap.release()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
usages = st.sampled_from([None, USAGE, {"prompt_tokens": 1, "completion_tokens": 2}])
events = st.one_of(
    texts.map(chunk),
    st.builds(lambda text, usage: chunk(text, usage=usage), texts, usages),
    st.builds(lambda usage: chunk(None, usage=usage), usages),
    st.sampled_from([b"{", b"", b'{"error":{"message":"x"}}', b'"usage":{'.ljust(40)]),
)


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    """The pieces of a stream; with or without a terminal event, comments, and a blank line at its end."""
    line_end = draw(st.sampled_from(LINE_ENDS))
    data = draw(st.lists(events, max_size=6)) + draw(st.sampled_from([[], [DONE]]))
    blocks = framed(data, line_end)
    for at in draw(st.sets(st.integers(0, len(blocks)), max_size=2)):
        blocks.insert(at, b": keep-alive" + line_end * draw(st.integers(1, 2)))
    whole = b"".join(blocks)
    whole = whole[: len(whole) - draw(st.integers(0, 3))]
    return cut(whole, draw(st.lists(st.integers(0, max(len(whole), 1)), max_size=8)))
