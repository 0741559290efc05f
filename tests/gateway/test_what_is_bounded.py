"""What a request may cost at most, in each protocol: nothing that could cost more passes for bounded."""

import json
from typing import Any

import pytest

from app.errors import InvalidRequest
from app.gateway.protocols import Asked
from app.gateway.protocols.gemini import GenerateContent
from app.gateway.protocols.messages import Messages
from app.gateway.protocols.paths import Paths
from app.gateway.protocols.responses import Responses
from app.gateway.protocols.texts import events_of, texts

SAID = [{"role": "user", "content": "hello"}]
GEMINI = Asked(model="gemini")


def messages(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 10, "messages": SAID} | fields).encode()


def responses(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "input": "hello"} | fields).encode()


def gemini(**fields: Any) -> bytes:
    return json.dumps({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]} | fields).encode()


FUNCTION = {"name": "f", "input_schema": {"type": "object", "properties": {"type": {"type": "string"}}}}


@pytest.mark.parametrize("tools", [[], [FUNCTION], [FUNCTION | {"type": "custom"}]])
def test_tools_that_the_client_runs_are_bounded(tools: list[Any]) -> None:
    assert not Messages().read(messages(tools=tools)).open_ended


@pytest.mark.parametrize(
    "tools",
    [
        b'[{"type":"web_search_20250305","name":"web_search"}]',
        b'[{"type":"web_search_20250305","type":"custom","name":"web_search"}]',
        b'[{"type":"custom","type":"web_search_20250305"}]',
        b'[{"\\u0074ype":"web_search_20250305","name":"x"}]',
        b'{"type":"custom"}',
    ],
)
def test_tools_that_the_provider_may_run_are_not(tools: bytes) -> None:
    body = messages()[:-1] + b', "tools": ' + tools + b"}"

    assert Messages().read(body).open_ended


@pytest.mark.parametrize(
    ("management", "is_bounded"),
    [
        (b"null", True),
        (b'{"edits":[]}', True),
        (b'{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]}', True),
        (b'{"edits":[{"type":"clear_tool_uses_20250919","trigger":{"type":"input_tokens","value":9}}]}', True),
        (b'{"edits":[{"type":"compact_20260112"}]}', False),
        (b'{"edits":[{"type":"clear_thinking_20251015"},{"type" : "compact_20260112"}]}', False),
        (b'{"edits":[{"type":"clear_thinking_20251015","type":"compact_20260112"}]}', False),
        (b'{"edits":[{"\\u0074ype":"compact_20260112"}]}', False),
    ],
)
def test_a_context_that_is_only_cleared_is_bounded(management: bytes, is_bounded: bool) -> None:
    body = messages()[:-1] + b', "context_management": ' + management + b"}"

    assert Messages().read(body).open_ended is not is_bounded


def test_an_hour_in_the_cache_is_held_at_its_price() -> None:
    said = [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]
    request = Messages().read(messages(messages=said))

    assert "cache_write_1h" in request.kinds
    assert not request.open_ended


@pytest.mark.parametrize("item", [{"id": "msg_1"}, {"type": "item_reference", "id": "msg_1"}, {"type": None, "id": "msg_1"}])
def test_what_items_refer_to_is_found_and_is_bounded_by_nothing(item: dict[str, Any]) -> None:
    request = Responses().read(responses(input=[item]))

    assert request.references.needed == ("msg_1",)
    assert request.open_ended


@pytest.mark.parametrize("fields", [{"previous_response_id": 7}, {"conversation": {}}, {"input": [{"type": "item_reference"}], "id": "x"}])
def test_a_reference_to_nothing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="by an id"):
        Responses().read(responses(**fields))


def test_a_name_with_escapes_hides_no_reference() -> None:
    body = responses().replace(b"{", b'{"previous_response_\\u0069d": "resp_of_somebody", ', 1)

    assert Responses().read(body).references.needed == ("resp_of_somebody",)


@pytest.mark.parametrize(
    "fields",
    [
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
        {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}]},
        {"tools": [{"type": "web_search"}]},
        {"unknown_field": 1},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://example.com/a.png"}]}]},
    ],
)
def test_what_else_may_bring_input_is_open_ended(fields: dict[str, Any]) -> None:
    assert Responses().read(responses(**fields)).open_ended


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "42"}, {"role": "user", "content": "and?"}]},
    ],
)
def test_a_response_of_text_is_bounded(fields: dict[str, Any]) -> None:
    assert not Responses().read(responses(**fields)).open_ended


@pytest.mark.parametrize(
    ("modalities", "has_media"), [(["TEXT"], False), (["text"], False), (["Image"], True), ([2], True), (None, True), (5, True), ([], True)]
)
def test_geminis_media_are_held_at_their_price_unless_only_text_is_asked_for(modalities: object, has_media: bool) -> None:
    config = {} if modalities is None else {"responseModalities": modalities}
    request = GenerateContent().read(gemini(generationConfig=config), GEMINI)

    assert ("image_output" in request.kinds) == ("audio_output" in request.kinds) == has_media


@pytest.mark.parametrize(
    "body",
    [
        b'{"contents":[],"generationConfig":{"maxOutputTokens":5},"generationConfig":{"maxOutputTokens":50000}}',
        b'{"contents":[],"generationConfig":{"maxOutputTokens":50000,"maxOutputTokens":5}}',
        b'{"contents":[],"generationConfig":{"maxOutputTokens":50000,"max_output_tokens":5}}',
        b'{"contents":[],"generation_config":{},"generationConfig":{"maxOutputTokens":5}}',
        b'{"contents":[],"generationConfig":{"max\\u004futputTokens":5,"maxOutputTokens":50}}',
    ],
)
def test_what_decides_geminis_cost_stands_there_once(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        GenerateContent().read(body, GEMINI)
    assert refused.value.code == "ambiguous_field"


@pytest.mark.parametrize(("given", "limit"), [(100, 100), ("100", 100), (0, None), (None, None)])
def test_geminis_limit_may_be_written_as_text(given: object, limit: int | None) -> None:
    assert GenerateContent().read(gemini(generationConfig={"maxOutputTokens": given}), GEMINI).output_limit == limit


@pytest.mark.parametrize("tools", [{"googleSearch": {}}, [{"googleSearch": {}}], [{"functionDeclarations": [], "codeExecution": {}}]])
def test_geminis_own_tools_are_open_ended(tools: object) -> None:
    assert GenerateContent().read(gemini(tools=tools), GEMINI).open_ended


@pytest.mark.parametrize("model", ["..", "../../x", "a/../b", "./a", "a//b", "a\\..\\b", "a\nb", "/a"])
def test_a_model_in_a_path_leads_nowhere_else(model: str) -> None:
    assert Paths([GenerateContent()]).find(f"/v1beta/models/{model}:generateContent", b"") is None


def test_texts_are_found_however_deep() -> None:
    value: Any = ["a", {"b": "b", "type": "no"}, "c"]
    for _ in range(5000):
        value = [value]

    assert texts(value, ("type",)) == ["a", "b", "c"]


def test_the_data_of_an_event_may_stand_on_several_lines() -> None:
    assert events_of(b'data: {"a":\ndata: 1}\n\ndata: {"b": 2}\r\n\r\ndata: [DONE]\n\n') == [{"a": 1}, {"b": 2}]
