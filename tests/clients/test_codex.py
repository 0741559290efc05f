"""A session of Codex: turns with commands, a patch and encrypted reasoning, whose cache grows. Each call is a row, and what
it sends and gets goes through unaltered."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.gateway.protocols.responses import Responses
from tests.clients.codex import HEADERS, OF_THE_MACHINE, TURN_STATE, Codex, call, message, patch, reasoning, stream
from tests.clients.ledger import assert_rows
from tests.harness.answers import Usage
from tests.harness.honest_responses import counts
from tests.harness.scene import UPSTREAM_SECRET, Scene

COMPACTED = Usage(input=3920, output=310, cached=3840)
RATES = {"input": "1.25", "output": "10", "cache_read": "0.125"}
Item = dict[str, Any]
TURNS: list[tuple[Item, list[Item], Usage]] = [
    (
        message("user", "Why does the build fail?"),
        [reasoning(1), call(1, "make")],
        Usage(input=3310, output=96, cached=0, reasoning=64),
    ),
    (
        {"type": "function_call_output", "call_id": "call_1", "output": "make: *** No rule to make target 'x'.\n" * 20},
        [reasoning(2), patch(2, "*** Begin Patch\n*** Add File: x\n+\n*** End Patch")],
        Usage(input=3702, output=150, cached=3200, reasoning=64),
    ),
    (
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Success. Updated x"},
        [message("assistant", "It was a missing file.")],
        Usage(input=3890, output=9, cached=3584),
    ),
    (message("user", "Thanks."), [message("assistant", "Gladly.")], Usage(input=3920, output=3, cached=3840)),
]


@pytest.fixture
def scene(new_scene: Callable[..., Scene]) -> Scene:
    """The model has the upstream's own name, so that bodies go on as they are."""
    name = f"codex-{secrets.token_hex(4)}"
    return new_scene(rates=RATES, model=name, upstream_model=name)


@pytest.fixture
def codex(scene: Scene) -> Iterator[Codex]:
    session = Codex(scene.proxy.url, scene.key, model=scene.model)
    yield session
    session.close()


def play(scene: Scene, session: Codex, *, compressed: bool = False) -> None:
    """Every answer is checked against what the upstream sent."""
    for number, (asked, answered, usage) in enumerate(TURNS):
        events = stream(scene.model, answered, usage)
        scene.upstream.stream([*events], headers={TURN_STATE: f"state-{number}", "x-request-id": "req_upstream"})
        answer = session.turn(asked, compressed=compressed)
        assert answer.content == b"".join(events)
        assert answer.headers[TURN_STATE] == f"state-{number}"
        session.hears(answered)


def told(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cached,
        "reasoning_tokens": usage.reasoning,
    }


def test_each_call_of_a_session_is_a_row_with_its_cache_and_its_bill(scene: Scene, codex: Codex) -> None:
    play(scene, codex)

    rows = assert_rows(scene, [told(usage) for _, _, usage in TURNS])
    assert {(row["api"], row["is_stream"], row["end_reason"]) for row in rows} == {("responses", True, "completed")}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "zstd"])
def test_what_it_sends_reaches_the_upstream_unaltered(scene: Scene, codex: Codex, compressed: bool) -> None:
    play(scene, codex, compressed=compressed)

    received = scene.upstream.requests
    assert [one.body for one in received] == codex.sent
    for one in received:
        assert (one.path, one.query, one.header("content-encoding")) == ("/v1/responses", {}, None)
        assert {name: one.header(name) for name in HEADERS} == HEADERS
        assert {name: one.header(name) for name in OF_THE_MACHINE} == dict.fromkeys(OF_THE_MACHINE)
        assert (one.header("authorization"), scene.key in str(one.headers)) == (f"Bearer {UPSTREAM_SECRET}", False)


def test_a_session_that_tries_a_websocket_first_and_is_compacted(scene: Scene, codex: Codex) -> None:
    refused = codex.handshake()
    assert (refused.status_code, refused.headers["upgrade"]) == (426, "HTTP/1.1")
    play(scene, codex)
    summary = {"id": "cmp_1", "type": "compaction", "encrypted_content": "gAAAAABp" * 60}
    compacted = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [summary], "usage": counts(COMPACTED)}
    scene.upstream.answer(json=compacted)

    assert codex.compact().json() == compacted
    asked, answered, usage = TURNS[-1]
    scene.upstream.stream([*stream(scene.model, answered, usage)])
    assert codex.turn(asked).status_code == 200

    received = scene.upstream.requests
    assert [one.body for one in received] == codex.sent
    assert [one.path for one in received] == ["/v1/responses"] * 4 + ["/v1/responses/compact", "/v1/responses"]
    assert received[-1].json["input"] == [summary, asked]
    rows = assert_rows(scene, [told(usage) for usage in [*(usage for _, _, usage in TURNS), COMPACTED, usage]])
    assert [row["api"] for row in rows] == ["responses"] * 4 + ["responses.compact", "responses"]


def test_what_the_upstream_says_of_a_turn_comes_back_to_it_within_the_turn(scene: Scene, codex: Codex) -> None:
    play(scene, codex)

    assert [one.header(TURN_STATE) for one in scene.upstream.requests] == [None, "state-0", "state-0", None]


def test_it_is_told_the_models(scene: Scene, codex: Codex) -> None:
    answer = codex.models()

    assert scene.model in [model["id"] for model in answer.json()["data"]]
    assert scene.rows() == []


def test_nothing_that_it_sends_makes_its_input_unbounded(scene: Scene, codex: Codex) -> None:
    play(scene, codex)

    assert [Responses().read(body).open_ended for body in codex.sent] == [False] * len(TURNS)
