"""What the official `openai` client sees when a call fails, is given up, or is closed half-way, and what that leaves in
the ledger."""

from collections.abc import Callable
from decimal import Decimal

import openai
import pytest

from tests.acceptance.conftest import BOTH, Connect, done, first_chunks
from tests.harness.admin import Admin
from tests.harness.answers import Gate
from tests.harness.books import charge, wait_until
from tests.harness.proxy import Proxy
from tests.harness.scene import RATES, Scene

OVERLOADED = {"error": {"message": "The engine is overloaded", "type": "server_error", "param": None, "code": "overloaded"}}


def assert_failed_for_nothing(scene: Scene) -> dict[str, object]:
    row = scene.row()
    assert (row["status"], row["bill"], row["charge"] or Decimal(0)) == ("failed", 0, 0)
    assert row["error_message"]
    return row


@BOTH
async def test_a_wrong_key_is_an_authentication_error(scene: Scene, connect: Connect) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        await done(connect(scene, api_key="sk-nobody").chat.completions.create(**scene.chat()))

    assert refused.value.code == "invalid_api_key"
    scene.assert_nothing_happened()
    assert scene.rows() == []


async def test_an_unknown_model_is_not_found(scene: Scene, connect: Connect) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await done(connect(scene).chat.completions.create(**scene.chat() | {"model": "no-such-model"}))

    assert refused.value.code == "model_not_found"
    assert "no-such-model" in refused.value.message
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


async def test_a_request_that_makes_no_sense_is_a_bad_request(scene: Scene, connect: Connect) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await done(connect(scene).chat.completions.create(**scene.chat(), max_tokens=-1))

    assert refused.value.code
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


async def test_no_credit_says_what_the_call_may_cost(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(credit="0")
    with pytest.raises(openai.APIStatusError) as refused:
        await done(connect(scene).chat.completions.create(**scene.chat(), max_tokens=1000))

    assert (refused.value.status_code, refused.value.code) == (402, "insufficient_credit")
    assert "0.01" in refused.value.message  # 1,000 tokens at 10 a million, and a little for the prompt
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


async def test_an_upstream_error_is_passed_on(scene: Scene, connect: Connect) -> None:
    scene.upstream.answer(json=OVERLOADED, status=500, always=True)
    with pytest.raises(openai.InternalServerError) as failed:
        await done(connect(scene).chat.completions.create(**scene.chat()))

    assert failed.value.body == OVERLOADED["error"]
    assert_failed_for_nothing(scene)


async def test_an_upstream_rate_limit_is_passed_on(scene: Scene, connect: Connect) -> None:
    scene.upstream.answer(json=OVERLOADED, status=429, headers={"Retry-After": "7"}, always=True)
    with pytest.raises(openai.RateLimitError) as failed:
        await done(connect(scene).chat.completions.create(**scene.chat()))

    assert failed.value.body == OVERLOADED["error"]
    assert failed.value.response.headers["retry-after"] == "7"
    assert_failed_for_nothing(scene)


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_credentials_of_ours_that_an_upstream_refuses_are_not_the_callers_fault(scene: Scene, connect: Connect, status: int) -> None:
    refusal = {"error": {"message": "Incorrect API key provided: sk-ours", "code": "invalid_api_key"}}
    scene.upstream.answer(json=refusal, status=status, always=True)
    with pytest.raises(openai.InternalServerError) as failed:
        await done(connect(scene).chat.completions.create(**scene.chat()))

    assert (failed.value.status_code, failed.value.code) == (502, "upstream_auth")
    assert "sk-ours" not in failed.value.response.text
    assert_failed_for_nothing(scene)


async def test_an_upstream_that_nobody_listens_at_is_a_bad_gateway(new_scene: Callable[..., Scene], connect: Connect, admin: Admin) -> None:
    scene = new_scene()
    admin.ask("PATCH", f"/admin/upstreams/{scene.upstream_id}", json={"base_url": "http://127.0.0.1:9/v1"})
    with pytest.raises(openai.InternalServerError) as failed:
        await done(connect(scene).chat.completions.create(**scene.chat()))

    assert failed.value.status_code == 502
    assert failed.value.code.startswith("upstream_")
    assert_failed_for_nothing(scene)


async def test_an_upstream_that_never_answers_is_a_gateway_timeout(proxies: Callable[..., Proxy], scene: Scene, connect: Connect) -> None:
    impatient = proxies(UPSTREAM_IDLE_TIMEOUT="0.5")
    scene.known_to(impatient)
    scene.upstream.silence()
    scene.upstream.silence()
    with pytest.raises(openai.APIStatusError) as failed:
        await done(connect(scene, base_url=f"{impatient.url}/v1").chat.completions.create(**scene.chat()))

    assert (failed.value.status_code, failed.value.code) == (504, "upstream_timeout")
    assert impatient.stop() == 0
    assert scene.row()["status"] == "failed"


@BOTH
async def test_a_client_that_times_out_is_billed_what_the_upstream_answers_in_the_end(scene: Scene, connect: Connect) -> None:
    gate = scene.upstream.hold()
    with pytest.raises(openai.APITimeoutError):
        await done(connect(scene, timeout=2).chat.completions.create(**scene.chat("are you there")))
    gate.open()

    row = scene.row()
    [usage] = scene.upstream.ledger
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (usage.input, usage.output, "provider")
    assert (row["status"], row["end_reason"]) == ("success", "client_gone")
    assert row["charge"] == charge(RATES, row) > 0


@BOTH
async def test_a_stream_closed_half_way_is_cancelled_upstream_and_billed_as_delivered(scene: Scene, connect: Connect) -> None:
    events = [
        {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        for choice in [
            {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None},
            *({"index": 0, "delta": {"content": f" {word}"}, "finish_reason": None} for word in ["red", "green", "blue"] * 4),
        ]
    ]
    scene.upstream.stream([*events, "[DONE]"], pauses={4: Gate()})

    stream = await done(connect(scene).chat.completions.create(**scene.chat("name some colours"), stream=True))
    delivered = await first_chunks(stream, 4)
    await done(stream.close())

    assert [chunk.choices[0].delta.content for chunk in delivered] == ["", " red", " green", " blue"]
    wait_until(scene.upstream.requests[0].gone.is_set, what="the upstream's connection is closed")
    row = scene.row()
    assert (row["usage_source"], row["end_reason"]) == ("estimated", "client_gone")
    assert row["output_tokens"] == 3
    assert 3 <= row["input_tokens"] <= 20
    assert row["charge"] == charge(RATES, row)


async def test_a_stream_given_up_frees_its_hold_for_the_next_call(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(credit="0.0300")
    scene.upstream.cut([{"id": "c", "object": "chat.completion.chunk", "choices": []}], after=1, how="stall")
    client = connect(scene)
    stream = await done(client.chat.completions.create(**scene.chat(), stream=True, max_tokens=2500))
    assert scene.account()["held"] >= Decimal("0.0250")
    await done(stream.close())
    wait_until(lambda: scene.account()["held"] == 0, what="the hold is gone")

    await done(client.chat.completions.create(**scene.chat(), max_tokens=2500))

    assert [row["end_reason"] == "client_gone" for row in scene.rows()] == [True, False]
