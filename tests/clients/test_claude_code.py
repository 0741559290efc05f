"""A session of Claude Code: a probe, a title, a count, and turns with tools, whose cache grows. Each call is a row, and
what it sends and gets goes through unaltered."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.gateway.protocols.messages import Messages
from tests.clients.claude_code import HEADERS, METADATA, OF_THE_MACHINE, ClaudeCode, result, stream, thinking, use
from tests.clients.ledger import assert_rows
from tests.harness.answers import Usage
from tests.harness.honest_anthropic import counts
from tests.harness.scene import UPSTREAM_SECRET, Scene

RATES = {"input": "3", "output": "15", "cache_read": "0.3", "cache_write": "3.75"}
SMALL_RATES = {"input": "1", "output": "5", "cache_read": "0.1", "cache_write": "1.25"}
TURNS = [
    (
        [{"type": "text", "text": "<system-reminder>"}, {"type": "text", "text": "Why does the build fail?"}],
        [
            thinking("let me look"),
            {"type": "text", "text": "I look at it."},
            use(1, "Bash", command="make"),
            use(2, "Read", file_path="Makefile"),
        ],
        {"input": 4, "read": 0, "written": 5210, "output": 96},
    ),
    (
        [result(1, "make: *** No rule to make target 'x'.\n" * 30), result(2, "all: x\n")],
        [thinking("there is no x"), use(3, "Bash", command="touch x && make")],
        {"input": 6, "read": 5210, "written": 811, "output": 61},
    ),
    (
        [result(3, "done")],
        [{"type": "text", "text": "It was a missing file."}],
        {"input": 5, "read": 6021, "written": 120, "output": 9},
    ),
]
TITLE = [{"type": "text", "text": '{"title": "Why the build fails"}'}]
PROBED, TITLED = Usage(input=8, output=1), Usage(input=190, output=12)


@pytest.fixture
def scene(new_scene: Callable[..., Scene]) -> Scene:
    """The models have the upstream's own names, so that bodies go on as they are."""
    made = new_scene(rates=RATES)
    small = small_of(made)
    made.admin.set_price(small, SMALL_RATES)
    made.admin.add_upstream(f"of-{made.model}", made.upstream.url, [f"claude-{made.model}", small], api_key=UPSTREAM_SECRET)
    made.admin.set_price(f"claude-{made.model}", RATES)
    return made


def small_of(scene: Scene) -> str:
    return f"claude-small-{scene.model}"


@pytest.fixture
def claude_code(scene: Scene) -> Iterator[ClaudeCode]:
    session = ClaudeCode(scene.proxy.url, scene.key, model=f"claude-{scene.model}", small=small_of(scene))
    yield session
    session.close()


def told(*, input: int, read: int, written: int, output: int) -> dict[str, Any]:
    return counts(Usage(input=input + read + written, output=output, cached=read), written=written)


def play(scene: Scene, session: ClaudeCode) -> None:
    """Every answer is checked against what the upstream sent."""
    model, upstream = f"claude-{scene.model}", scene.upstream
    probed = {"id": "msg_0", "type": "message", "role": "assistant", "model": model, "content": [{"type": "text", "text": "#"}]}
    upstream.answer(json=probed | {"stop_reason": "max_tokens", "stop_sequence": None, "usage": counts(PROBED)})
    assert session.probe().json()["content"] == probed["content"]
    titled = stream(model, TITLE, counts(TITLED))
    upstream.stream([*titled])
    assert session.title("Why does the build fail?").content == b"".join(titled)
    upstream.answer(json={"input_tokens": 812})
    assert session.count().json() == {"input_tokens": 812}
    for asked, answered, usage in TURNS:
        events = stream(model, answered, told(**usage))
        upstream.stream([*events], headers={"request-id": "req_upstream", "anthropic-ratelimit-unified-status": "allowed"})
        answer = session.turn(asked)
        assert answer.content == b"".join(events)
        assert answer.headers["request-id"] == answer.headers["x-request-id"] != "req_upstream"
        assert not [name for name in answer.headers if name.startswith("anthropic-ratelimit")]
        session.hears(answered)


def test_each_call_of_a_session_is_a_row_with_its_cache_and_its_bill(scene: Scene, claude_code: ClaudeCode) -> None:
    play(scene, claude_code)

    turns = [
        {
            "input_tokens": usage["input"] + usage["read"] + usage["written"],
            "output_tokens": usage["output"],
            "cache_read_tokens": usage["read"],
            "cache_write_tokens": usage["written"],
        }
        for _, _, usage in TURNS
    ]
    small = [{"input_tokens": usage.input, "output_tokens": usage.output} for usage in (PROBED, TITLED)]
    rows = assert_rows(scene, [*small, None, *turns], prices={small_of(scene): SMALL_RATES, f"claude-{scene.model}": RATES})
    assert [row["is_stream"] for row in rows] == [False, True, False, True, True, True]
    assert [row["api"] for row in rows] == ["messages"] * 2 + ["messages.count_tokens"] + ["messages"] * 3
    assert {row["end_user"] for row in rows if row["api"] == "messages"} == {json.loads(METADATA["user_id"])["device_id"]}


def test_what_it_sends_reaches_the_upstream_unaltered(scene: Scene, claude_code: ClaudeCode) -> None:
    play(scene, claude_code)

    received = scene.upstream.requests
    assert [one.body for one in received] == claude_code.sent
    assert {one.path for one in received} == {"/v1/messages", "/v1/messages/count_tokens"}
    for one in received:
        assert one.query == {"beta": "true"}
        assert {name: one.header(name) for name in HEADERS} == HEADERS
        assert {name: one.header(name) for name in OF_THE_MACHINE} == dict.fromkeys(OF_THE_MACHINE)
        assert (one.header("x-api-key"), scene.key in str(one.headers)) == (UPSTREAM_SECRET, False)


def test_nothing_that_it_sends_makes_its_input_unbounded(scene: Scene, claude_code: ClaudeCode) -> None:
    play(scene, claude_code)

    assert [Messages().read(body).open_ended for body in claude_code.sent] == [False] * len(claude_code.sent)
