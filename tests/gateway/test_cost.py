"""The cost goes into the usage of an answer, and nowhere else, whatever stands around it and however a stream is cut."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateway.answering.cost import LARGEST_BODY, CostInBody, CostInStream, wants_cost, with_cost
from app.gateway.protocols.base import Protocol
from app.gateway.protocols.chat_completions import ChatCompletions
from app.gateway.protocols.gemini import StreamGenerateContent
from app.gateway.protocols.messages import Messages
from app.gateway.protocols.responses import Responses
from tests.gateway.sse import cut

COST = Decimal("0.0001234500")
names = st.sampled_from(["usage", "cost", "a", '"usage":', "\\"])
anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"usage":{"a":1}}', '{"usage":{"a":1,"cost":0.00012345}}'),
        ('{ "usage" : {"a": 1\n} , "x":1.0e2}', '{ "usage" : {"a": 1\n,"cost":0.00012345} , "x":1.0e2}'),
        ('{"usage":{}}', '{"usage":{"cost":0.00012345}}'),
        ('{"usage":{ }}', '{"usage":{ "cost":0.00012345}}'),
        ('{"usage":{"cost":0.5,"b":2}}', '{"usage":{"cost":0.00012345,"b":2}}'),
        ('{"usage":{"cost": null, "d":{"cost":7}}}', '{"usage":{"cost": 0.00012345, "d":{"cost":7}}}'),
        ('{"a":[{"usage":{"a":1}}],"usage":{"a":1}}', '{"a":[{"usage":{"a":1}}],"usage":{"a":1,"cost":0.00012345}}'),
        ('{"usage":{"a":1},"z":{"usage":{"a":1}}}', '{"usage":{"a":1,"cost":0.00012345},"z":{"usage":{"a":1}}}'),
        (r'{"t":"say \"usage\":{} \\","usage":{"a":1}}', r'{"t":"say \"usage\":{} \\","usage":{"a":1,"cost":0.00012345}}'),
        ('{"k":"usage","usage":{"a":1}}', '{"k":"usage","usage":{"a":1,"cost":0.00012345}}'),
        ('{"usageMetadata":{"totalTokenCount":3}}', '{"usageMetadata":{"totalTokenCount":3,"cost":0.00012345}}'),
        ('{"type":"x","response":{"usage":{"a":1},"b":2}}', '{"type":"x","response":{"usage":{"a":1,"cost":0.00012345},"b":2}}'),
    ],
)
def test_only_the_usage_changes(answer: str, expected: str) -> None:
    changed = with_cost(answer.encode(), COST)

    assert changed == expected.encode()
    assert msgspec.json.decode(changed) == json.loads(expected)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        '[{"usage":{}}]',
        '{"usage":null}',
        '{"usage":[1]}',
        '{"data":{"usage":{}}}',
        '{"message":{"usage":{}}}',
        '{"usage":{"a":1},"usage":{"a":2}}',
        r'{"us\u0061ge":{"a":1}}',
        '{"usage":{"a":1}',
        "\x1f\x8b compressed",
    ],
)
def test_what_tells_no_usage_stays_as_it_is(answer: str) -> None:
    assert with_cost(answer.encode("latin-1"), COST) is None


@given(anything, st.dictionaries(st.text(max_size=5), st.integers(0, 9)))
def test_any_answer_keeps_all_else(around: object, usage: dict[str, int]) -> None:
    answer = {"before": around, "usage": usage, "after": around}

    changed = with_cost(json.dumps(answer).encode(), COST)

    assert changed is not None
    assert json.loads(changed, parse_float=Decimal) == answer | {"usage": usage | {"cost": COST}}


@pytest.mark.parametrize(
    ("cost", "written"), [("0", b"0"), ("10.0000000000", b"10"), ("1E-10", b"0.0000000001"), ("99999999", b"99999999")]
)
def test_each_digit_of_the_amount_is_written(cost: str, written: bytes) -> None:
    assert with_cost(b'{"usage":{}}', Decimal(cost)) == b'{"usage":{"cost":%s}}' % written


def _chat(**fields: object) -> bytes:
    return b"data: " + json.dumps({"id": "c", "choices": []} | fields).encode() + b"\n\n"


WORD = _chat(choices=[{"delta": {"content": "hi"}}])
USAGE = _chat(usage={"prompt_tokens": 3, "completion_tokens": 1})
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
CLAUDE = [
    b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":1}}}\n\n',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}\n\n',
    b'event: ping\ndata: {"type": "ping"}\n\n',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
]
GOOGLE = [
    b'data: {"candidates":[{"content":{"parts":[{"text":"a"}]}}],"usageMetadata":{"promptTokenCount":1,"totalTokenCount":2}}\r\n\r\n',
    b'data: {"candidates":[{"content":{"parts":[{"text":"b"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}\r\n\r\n',
]
ANSWERED = b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}\n\n'
STREAMS: dict[str, tuple[Protocol, list[bytes], int]] = {
    "chat": (ChatCompletions(), [WORD, USAGE, DONE], 1),
    "chat, a comment before the end": (ChatCompletions(), [WORD, USAGE, PING, DONE], 1),
    "usage in every event": (
        ChatCompletions(),
        [_chat(usage={"prompt_tokens": 1, "completion_tokens": at}) for at in range(4)] + [DONE],
        3,
    ),
    "usage before text": (ChatCompletions(), [USAGE, WORD, USAGE, DONE], 2),
    "messages": (Messages(), CLAUDE, 2),
    "gemini": (StreamGenerateContent(), GOOGLE, 1),
    "responses": (Responses(), [b'event: x\ndata: {"type":"response.created","response":{"usage":null}}\n\n', ANSWERED], 1),
}


@pytest.mark.parametrize("kind", STREAMS)
@given(offsets=st.lists(st.integers(1, 700), max_size=6), held=st.integers(0, 80))
def test_of_a_stream_the_last_usage_alone_tells_it(kind: str, offsets: list[int], held: int) -> None:
    protocol, events, last = STREAMS[kind]
    whole = b"".join(events)
    cost = CostInStream(protocol)

    given_out = b"".join(cost.feed(piece) for piece in cut(whole[: len(whole) - held], offsets))
    given_out += cost.finish(whole[len(whole) - held :], COST)

    told = events[last].rstrip()
    ending = b"}}}" if b'"response"' in told else b"}}"
    assert told.endswith(ending)
    events = [*events[:last], events[last].replace(ending, b',"cost":0.00012345' + ending), *events[last + 1 :]]
    assert given_out == b"".join(events)


@pytest.mark.parametrize("kind", STREAMS)
def test_events_leave_at_once_until_the_last_usage(kind: str) -> None:
    protocol, events, last = STREAMS[kind]
    cost = CostInStream(protocol)
    passed = [cost.feed(event) for event in events]

    assert b"".join(passed[: last + 1]) == b"".join(events[:last])
    assert passed[0] == events[0] or kind in ("usage in every event", "usage before text")


def test_without_an_amount_all_stays_as_it_is() -> None:
    stream, body = CostInStream(ChatCompletions()), CostInBody()

    assert stream.feed(WORD + USAGE) + stream.finish(DONE, None) == WORD + USAGE + DONE
    assert body.feed(b'{"usage":') + body.finish(b"{}}", None) == b'{"usage":{}}'


def test_what_is_too_large_to_wait_passes_unchanged() -> None:
    body, stream = CostInBody(), CostInStream(ChatCompletions())
    large = b'{"data":"' + b"x" * LARGEST_BODY

    assert body.feed(large) == large
    assert body.feed(b'","usage":') + body.finish(b"{}}", COST) == b'","usage":{}}'
    assert stream.feed(b"data: " + large) == b"data: " + large
    assert stream.feed(b'"}\n\n' + USAGE) + stream.finish(DONE, COST) == b'"}\n\n' + USAGE + DONE


@pytest.mark.parametrize(("value", "asks"), [(b"1", True), (b" True", True), (b"0", False), (b"", False), (b"false", False)])
def test_who_asks(value: bytes, asks: bool) -> None:
    assert wants_cost({b"x-include-cost": value}) is asks
