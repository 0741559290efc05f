"""The official `google-genai` client, sync and async, on the root of the proxy: what it is answered, what it raises, and
what each call leaves in the ledger."""

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import aiohttp
import httpx2
import pytest
from google import genai
from google.genai import errors, types

from tests.acceptance.conftest import BOTH, chunks, done, first_chunks, is_sync
from tests.acceptance.test_openai_client import assert_settled
from tests.acceptance.test_openai_client_failures import assert_failed_for_nothing
from tests.harness.answers import Gate, Usage
from tests.harness.books import bills, charge, wait_until
from tests.harness.honest_gemini import THOUGHTS, array, counts, event
from tests.harness.scene import RATES, UPSTREAM_SECRET, Scene

Connect = Callable[..., Any]
Connections = tuple[httpx2.Client, aiohttp.ClientSession]

WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(
            name="weather",
            parameters=types.Schema(type="OBJECT", properties={"city": {"type": "STRING"}, "days": {"type": "INTEGER"}}),
        )
    ]
)
THOUGHTFUL_RATES = {"input": "0.3", "output": "2.5", "reasoning": "7", "cache_read": "0.03"}
OVERLOADED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


def spoken(text: str, usage: Usage | None = None, **candidate: Any) -> dict[str, Any]:
    """A chunk, which tells the usage so far or, as with some models, nothing of it."""
    told = {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0, **candidate}]}
    return told | ({"usageMetadata": counts(usage)} if usage else {})


COLOURS = ["red", " green", " blue", " red", " green"]
TOLD = [event(spoken(word, Usage(input=40, output=at + 1, cached=16))) for at, word in enumerate(COLOURS)]
UNTOLD = [event(spoken(word)) for word in COLOURS]


@pytest.fixture
def scene(new_scene: Callable[..., Scene]) -> Scene:
    return new_scene(base_path="/v1beta")


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    """The clients' own. They speak plain HTTP here and need no certificates, which take long to read."""
    async with aiohttp.ClientSession() as session:
        with httpx2.Client(trust_env=False, verify=False) as http:
            yield http, session


@pytest.fixture
async def connect(request: pytest.FixtureRequest, connections: Connections) -> AsyncIterator[Connect]:
    """`connect(scene)` is an official client with the scene's key, which never retries by itself."""
    http, session = connections
    made: list[genai.Client] = []

    def client(scene: Scene, *, key: str | None = None, timeout: int = 20_000) -> Any:
        unread = {"verify": False}
        options = types.HttpOptions(
            base_url=scene.proxy.url, timeout=timeout, httpx_client=http, aiohttp_client=session, async_client_args=unread
        )
        made.append(genai.Client(api_key=key or scene.key, http_options=options))
        return made[-1] if is_sync(request) else made[-1].aio

    yield client
    for one in made:
        await one.aio.aclose()
        one.close()


async def leave(connections: Connections) -> None:
    """As a client's process does when it ends: to break out of the client's loops keeps the connection."""
    http, session = connections
    http.close()
    await session.close()


def text_of(got: list[Any]) -> str:
    return "".join(chunk.text or "" for chunk in got)


@BOTH
async def test_content(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).models.generate_content(model=scene.model, contents="how are you"))

    assert answer.text == "You said how are you"
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    [usage] = scene.upstream.ledger
    told = answer.usage_metadata
    assert (told.prompt_token_count, told.candidates_token_count) == (usage.input, usage.output)
    row = assert_settled(scene, usage, is_stream=False, api="generateContent", upstream_model="stand-in")
    assert row["api_key_id"] == scene.key_id


async def test_the_upstream_gets_its_own_key_and_its_own_name_of_the_model(scene: Scene, connect: Connect) -> None:
    await done(connect(scene).models.generate_content(model=scene.model, contents="hello"))

    [received] = scene.upstream.requests
    assert (received.path, received.query) == ("/v1beta/models/stand-in:generateContent", {})
    assert (received.header("x-goog-api-key"), received.header("authorization")) == (UPSTREAM_SECRET, None)
    assert received.json["contents"] == [{"parts": [{"text": "hello"}], "role": "user"}]


async def test_an_answer_that_reaches_its_limit(scene: Scene, connect: Connect) -> None:
    config = types.GenerateContentConfig(max_output_tokens=3, system_instruction="Be brief.")
    answer = await done(connect(scene).models.generate_content(model=scene.model, contents="one two three", config=config))

    assert answer.text == "You said one"
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert_settled(scene, Usage(input=2 * 3 + 2 + 3, output=3))


@BOTH
async def test_a_stream(scene: Scene, connect: Connect) -> None:
    stream = await done(connect(scene).models.generate_content_stream(model=scene.model, contents="one two three"))
    got = await chunks(stream)

    assert [chunk.text for chunk in got] == ["You", " said", " one", " two", " three"]
    [usage] = scene.upstream.ledger
    told = got[-1].usage_metadata
    assert (told.prompt_token_count, told.candidates_token_count) == (usage.input, usage.output)
    [received] = scene.upstream.requests
    assert (received.path, received.query) == ("/v1beta/models/stand-in:streamGenerateContent", {"alt": "sse"})
    assert_settled(scene, usage, is_stream=True, api="generateContent", end_reason="completed")


def test_a_stream_as_one_json_array(scene: Scene) -> None:
    """As plain clients get it that leave `alt=sse` out."""
    usage = Usage(input=30, output=3, cached=8)
    pieces = array({}, words=["red", "green", "blue"], call=None, is_cut=False, usage=usage)
    scene.upstream.answer(body=b"".join(pieces), usage=usage)

    answer = scene.post({"contents": [{"parts": [{"text": "colours " * 30}]}]}, f"/v1beta/models/{scene.model}:streamGenerateContent")

    assert answer.content == b"".join(pieces)
    assert [one["candidates"][0]["content"]["parts"][0]["text"] for one in answer.json()] == ["red", " green", " blue"]
    assert scene.upstream.requests[0].query == {}
    assert_settled(scene, usage, is_stream=True)


async def test_thinking_is_output_with_a_price_of_its_own(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(base_path="/v1beta", rates=THOUGHTFUL_RATES)
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    answer = await done(connect(scene).models.generate_content(model=scene.model, contents="one two", config=config))

    assert answer.usage_metadata.thoughts_token_count == THOUGHTS
    assert [part.text for part in answer.parts if not part.thought] == ["You said one two"]
    row = scene.row()
    assert (row["input_tokens"], row["output_tokens"], row["reasoning_tokens"]) == (5, 4 + THOUGHTS, THOUGHTS)
    assert row["charge"] == (5 * Decimal("0.3") + 4 * Decimal("2.5") + THOUGHTS * Decimal(7)) / 1_000_000
    assert row["bill"] == bills([row["charge"]])[0]


async def test_streamed_thinking(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(base_path="/v1beta", rates=THOUGHTFUL_RATES)
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(thinking_budget=100))
    stream = await done(connect(scene).models.generate_content_stream(model=scene.model, contents="one two", config=config))
    got = await chunks(stream)

    assert text_of(got) == "You said one two"
    row = scene.row()
    assert (row["output_tokens"], row["reasoning_tokens"]) == (4 + THOUGHTS, THOUGHTS)
    assert row["charge"] == charge(THOUGHTFUL_RATES, row)


async def test_cached_content_and_results_of_tools_are_input(scene: Scene, connect: Connect) -> None:
    told = {"promptTokenCount": 100, "cachedContentTokenCount": 60, "toolUsePromptTokenCount": 20, "candidatesTokenCount": 2}
    scene.upstream.answer(json=spoken("so so") | {"usageMetadata": told | {"totalTokenCount": 122}})

    await done(connect(scene).models.generate_content(model=scene.model, contents="word " * 60))

    assert_settled(scene, Usage(input=120, output=2, cached=60))


async def test_a_function_call(scene: Scene, connect: Connect) -> None:
    config = types.GenerateContentConfig(tools=[WEATHER])
    answer = await done(connect(scene).models.generate_content(model=scene.model, contents="tomorrow", config=config))

    [call] = answer.function_calls
    assert (call.name, call.args) == ("weather", {"city": "some text", "days": 7})
    assert_settled(scene, scene.upstream.ledger[0])


async def test_a_streamed_function_call(scene: Scene, connect: Connect) -> None:
    config = types.GenerateContentConfig(tools=[WEATHER])
    stream = await done(connect(scene).models.generate_content_stream(model=scene.model, contents="tomorrow", config=config))
    got = await chunks(stream)

    [call] = got[-1].function_calls
    assert (call.name, call.args) == ("weather", {"city": "some text", "days": 7})
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


@BOTH
async def test_a_function_that_the_client_runs_by_itself_makes_two_calls(scene: Scene, connect: Connect) -> None:
    asked: list[str] = []

    def weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "rain"

    config = types.GenerateContentConfig(tools=[weather])
    answer = await done(connect(scene).models.generate_content(model=scene.model, contents="tomorrow", config=config))

    assert asked == ["some text"]
    assert "rain" in answer.text
    expected = [charge(RATES, {"input_tokens": u.input, "output_tokens": u.output}) for u in scene.upstream.ledger]
    assert [row["charge"] for row in scene.rows()] == expected
    assert len(expected) == 2


async def test_a_chat_sends_what_was_said_and_bills_every_turn(scene: Scene, connect: Connect) -> None:
    chat = connect(scene).chats.create(model=scene.model)
    first = await done(chat.send_message("one two"))
    second = await done(chat.send_message("three"))

    assert (first.text, second.text) == ("You said one two", "You said three")
    assert [turn["role"] for turn in scene.upstream.requests[1].json["contents"]] == ["user", "model", "user"]
    expected = [charge(RATES, {"input_tokens": u.input, "output_tokens": u.output}) for u in scene.upstream.ledger]
    assert [row["charge"] for row in scene.rows()] == expected
    assert [row["bill"] for row in scene.rows()] == bills(expected)


async def test_a_streamed_chat(scene: Scene, connect: Connect) -> None:
    chat = connect(scene).chats.create(model=scene.model)
    got = await chunks(await done(chat.send_message_stream("one two")))

    assert text_of(got) == "You said one two"
    assert_settled(scene, scene.upstream.ledger[0], is_stream=True)


async def test_counting_tokens_costs_nothing(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(base_path="/v1beta", credit="0")
    counted = await done(connect(scene).models.count_tokens(model=scene.model, contents="one two three"))

    assert counted.total_tokens == 3 + 3
    assert scene.upstream.requests[0].path == "/v1beta/models/stand-in:countTokens"
    row = scene.row()
    assert (row["api"], row["status"], row["charge"], row["bill"]) == ("countTokens", "success", 0, 0)


async def test_embeddings(scene: Scene, connect: Connect) -> None:
    answer = await done(connect(scene).models.embed_content(model=scene.model, contents=["red green", "blue"]))

    assert [one.values for one in answer.embeddings] == [[0.25, -0.5, 0.25, -0.5]] * 2
    [received] = scene.upstream.requests
    assert received.path == "/v1beta/models/stand-in:batchEmbedContents"
    assert [one["model"] for one in received.json["requests"]] == ["models/stand-in"] * 2
    row = assert_settled(scene, scene.upstream.ledger[0], api="embedContent")
    assert (row["input_tokens"], row["output_tokens"]) == (3, 0)


def test_one_embedding(scene: Scene) -> None:
    """As plain clients ask for it; the official one always asks for a batch."""
    body = {"model": f"models/{scene.model}", "content": {"parts": [{"text": "red green"}]}}
    answer = scene.post(body, f"/v1beta/models/{scene.model}:embedContent").raise_for_status()

    assert answer.json()["embedding"]["values"] == [0.25, -0.5, 0.25, -0.5]
    assert scene.upstream.requests[0].json["model"] == "models/stand-in"
    assert_settled(scene, Usage(input=2), api="embedContent")


async def test_embeddings_without_a_report_are_counted_by_their_texts_alone(scene: Scene, connect: Connect) -> None:
    scene.upstream.answer(json={"embeddings": [{"values": [0.5]}, {"values": [0.25]}]})
    config = types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT")
    await done(connect(scene).models.embed_content(model=scene.model, contents=["red", " green"], config=config))

    row = scene.row()
    assert (row["status"], row["usage_source"], row["input_tokens"], row["output_tokens"]) == ("success", "estimated", 2, 0)
    assert row["charge"] == charge(RATES, row)


async def test_a_wrong_key_is_unauthenticated(scene: Scene, connect: Connect) -> None:
    with pytest.raises(errors.ClientError) as refused:
        await done(connect(scene, key="AIza-nobody").models.generate_content(model=scene.model, contents="hello"))

    assert (refused.value.code, refused.value.status) == (401, "UNAUTHENTICATED")
    scene.assert_nothing_happened()
    assert scene.rows() == []


async def test_no_credit_says_what_the_call_may_cost(new_scene: Callable[..., Scene], connect: Connect) -> None:
    scene = new_scene(base_path="/v1beta", credit="0")
    config = types.GenerateContentConfig(max_output_tokens=1000)
    with pytest.raises(errors.ClientError) as refused:
        await done(connect(scene).models.generate_content(model=scene.model, contents="hello", config=config))

    assert (refused.value.code, refused.value.status) == (402, "FAILED_PRECONDITION")
    assert "0.01" in refused.value.message  # 1,000 tokens at 10 a million, and a little for the prompt
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


@pytest.mark.parametrize("method", ["generate_content", "generate_content_stream", "count_tokens", "embed_content"])
async def test_an_unknown_model_is_not_found(scene: Scene, connect: Connect, method: str) -> None:
    with pytest.raises(errors.ClientError) as refused:
        await chunks(await done(getattr(connect(scene).models, method)(model="no-such-model", contents="hello")))

    assert (refused.value.code, refused.value.status) == (404, "NOT_FOUND")
    assert "no-such-model" in refused.value.message
    scene.assert_nothing_happened()
    assert assert_failed_for_nothing(scene)["model_name"] == "no-such-model"


async def test_a_request_that_makes_no_sense_is_an_invalid_argument(scene: Scene, connect: Connect) -> None:
    config = types.GenerateContentConfig(max_output_tokens=-1)
    with pytest.raises(errors.ClientError) as refused:
        await done(connect(scene).models.generate_content(model=scene.model, contents="hello", config=config))

    assert (refused.value.code, refused.value.status) == (400, "INVALID_ARGUMENT")
    assert "maxOutputTokens" in refused.value.message
    scene.assert_nothing_happened()
    assert_failed_for_nothing(scene)


@pytest.mark.parametrize("method", ["generate_content", "generate_content_stream"])
async def test_an_overloaded_upstream_is_passed_on(scene: Scene, connect: Connect, method: str) -> None:
    scene.upstream.answer(json=OVERLOADED, status=503, always=True)
    with pytest.raises(errors.ServerError) as failed:
        await chunks(await done(getattr(connect(scene).models, method)(model=scene.model, contents="hello")))

    assert (failed.value.code, failed.value.status, failed.value.details) == (503, "UNAVAILABLE", OVERLOADED)
    assert_failed_for_nothing(scene)


async def test_our_own_key_that_an_upstream_refuses_is_not_the_callers_fault(scene: Scene, connect: Connect) -> None:
    refusal = {"error": {"code": 403, "message": f"API key {UPSTREAM_SECRET} is blocked", "status": "PERMISSION_DENIED"}}
    scene.upstream.answer(json=refusal, status=403, always=True)
    with pytest.raises(errors.ServerError) as failed:
        await done(connect(scene).models.generate_content(model=scene.model, contents="hello"))

    assert (failed.value.code, failed.value.status) == (502, "UNAVAILABLE")
    assert UPSTREAM_SECRET not in str(failed.value)
    assert_failed_for_nothing(scene)


async def test_an_error_in_the_middle_of_a_stream_is_raised_and_what_came_before_is_billed(scene: Scene, connect: Connect) -> None:
    scene.upstream.stream([*TOLD[:2], event(OVERLOADED)])
    stream = await done(connect(scene).models.generate_content_stream(model=scene.model, contents="word " * 20))
    with pytest.raises(errors.ServerError) as failed:
        await chunks(stream)

    assert (failed.value.code, failed.value.status) == (503, "UNAVAILABLE")
    row = scene.row()
    assert (row["status"], row["end_reason"], row["error_message"]) == ("failed", "upstream_error", "The model is overloaded.")
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (40, 16, 2)
    assert row["charge"] == charge(RATES, row)


async def test_a_stream_that_the_upstream_cuts_is_raised_and_billed_as_told(scene: Scene, connect: Connect) -> None:
    scene.upstream.cut(TOLD, after=2)
    stream = await done(connect(scene).models.generate_content_stream(model=scene.model, contents="word " * 20))
    with pytest.raises(errors.ServerError) as failed:
        await chunks(stream)

    assert (failed.value.code, failed.value.status) == (502, "UNAVAILABLE")
    assert "incomplete" in failed.value.message
    row = scene.row()
    assert (row["status"], row["end_reason"]) == ("failed", "upstream_broken")
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (40, 16, 2)


async def test_a_client_that_times_out_is_billed_what_the_upstream_answers_in_the_end(scene: Scene, connect: Connect) -> None:
    assert scene.http.get("/v1/key").status_code == 200  # the caller is known, so that the call is taken at once
    gate = scene.upstream.hold()
    with pytest.raises((httpx2.TimeoutException, TimeoutError)):
        await done(connect(scene, timeout=300).models.generate_content(model=scene.model, contents="are you there"))
    await asyncio.sleep(0.1)  # in which the asynchronous client closes its connection
    gate.open()

    row = scene.row()
    [usage] = scene.upstream.ledger
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (usage.input, usage.output, "provider")
    assert (row["status"], row["end_reason"]) == ("success", "client_gone")
    assert row["charge"] == charge(RATES, row) > 0


@pytest.mark.parametrize(
    ("events", "source"), [pytest.param(TOLD, "provider", id="usage told"), pytest.param(UNTOLD, "estimated", id="usage untold")]
)
@BOTH
async def test_a_client_that_leaves_a_stream_pays_what_was_delivered(
    scene: Scene, connect: Connect, connections: Connections, events: list[bytes], source: str
) -> None:
    scene.upstream.stream(events, pauses={3: Gate()})

    stream = await done(connect(scene).models.generate_content_stream(model=scene.model, contents="word " * 20))
    delivered = await first_chunks(stream, 3)
    await leave(connections)

    assert [chunk.text for chunk in delivered] == ["red", " green", " blue"]
    gone = scene.upstream.requests[0].gone
    await asyncio.to_thread(wait_until, gone.is_set, what="the upstream's connection is closed")  # the client's loop closes its own
    row = scene.row()
    assert (row["status"], row["usage_source"], row["end_reason"]) == ("success", source, "client_gone")
    assert row["output_tokens"] == 3
    assert row["input_tokens"] == 40 if source == "provider" else 20 <= row["input_tokens"] <= 30
    assert row["charge"] == charge(RATES, row)
    assert row["bill"] == bills([row["charge"]])[0]
