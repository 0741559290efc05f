"""What is known to be text is bounded by its bytes; whatever else a chat request holds makes the call open-ended."""

import json
from typing import Any

import pytest

from app.gateway.protocols import CallRequest
from app.gateway.protocols.chat_bound import IMAGE_TOKENS
from app.gateway.protocols.chat_completions import OVERHEAD, ChatCompletions

FUNCTION = {"type": "function", "function": {"name": "f", "description": 'a "type": of image_url', "parameters": {"type": "object"}}}
ASKED = [{"role": "user", "content": "draw"}]
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


def read(body: bytes | str | dict[str, Any]) -> CallRequest:
    raw = json.dumps(body) if isinstance(body, dict) else body
    return ChatCompletions().read(raw.encode() if isinstance(raw, str) else raw)


def chat(content: Any = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}]} | fields


def raw_chat(messages: str, more: str = "") -> str:
    return '{"model":"m","messages":' + messages + more + "}"


CALL = {"id": "c", "index": 0, "type": "function", "function": {"name": "f", "arguments": '{"image_url": "x"}'}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}


@pytest.mark.parametrize(
    "body",
    [
        chat(),
        chat(""),
        chat(None),
        chat([{"type": "text", "text": 'has "image_url": inside', "cache_control": {"type": "ephemeral"}}]),
        chat('\\" \\\\" "image_url": \\'),
        chat() | {"messages": [*ASKED, CALLED, {"role": "tool", "tool_call_id": "c", "name": "f", "content": "[]"}]},
        chat(tools=[FUNCTION, FUNCTION], tool_choice="auto", parallel_tool_calls=True),
        chat(tools=None),
        chat(tools=[]),
        chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"properties": {"type": {"type": "string"}}}}}]),
        chat(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"image_url": {}}}}, temperature=1, seed=7),
    ],
)
def test_texts_and_tools_are_bounded_by_their_bytes(body: dict[str, Any]) -> None:
    request = read(body)

    assert (request.open_ended, request.media_tokens) == (False, 0)
    assert request.input_bound == len(request.body) + OVERHEAD


@pytest.mark.parametrize(
    "part",
    [
        IMAGE,
        {"type": "document_url", "document_url": "https://example.org/a.pdf"},
        {"type": "audio_url", "audio_url": {"url": "https://example.org/a.mp3"}},
        {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "image", "image": "https://example.org/a.png"},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "text", "text": "look", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "text", "text": {"image_url": "https://example.org/a.png"}},
        {"image_url": "https://example.org/a.png"},
        {"Image_URL": "https://example.org/a.png"},
        {"image_url ": "https://example.org/a.png"},
    ],
    ids=str,
)
def test_a_part_that_may_be_media_is_open_ended(part: dict[str, Any]) -> None:
    assert read(chat([{"type": "text", "text": "what is it?"}, part])).open_ended


@pytest.mark.parametrize(
    "messages",
    [
        r'[{"role":"user","content":[{"type":"image_url","\u0069mage_url":{"url":"https://x"}}]}]',
        r'[{"role":"user","content":[{"type":"image_url","image_ur\u006c":{"url":"https://x"}}]}]',
        '[{"role":"user","content":[{"image_url":"https://x"}],"content":"text"}]',
        '[{"role":"user","content":"text","content":[{"image_url":"https://x"}]}]',
        '[{"role":"user","content":[{"type":"image_url","image_url":"https://x","type":"text","text":"a"}]}]',
        '[{"role":"user","content":[{"type":"text","text":{"url":"https://x"},"text":"a"}]}]',
        '[{"role":"user","content":[{"type":"image_url" ,\n "image_url"\t :\r\n "https://x"}]}]',
        r'[{"role":"user","content":[{"type":"text","text":"\\","image_url":"https://x"}]}]',
        r'[{"role":"user","content":[{"type":"text","text":"\\\"","image_url":"https://x"}]}]',
        '[{"role":"assistant","audio":{"id":"audio_1"}}]',
        '[{"role":"user","content":"text","files":["file-1"]}]',
    ],
)
def test_media_is_seen_however_it_is_written(messages: str) -> None:
    assert read(raw_chat(messages)).open_ended


@pytest.mark.parametrize("part", [{"type": "image"}, {"type": "image", "id": "file-1"}, {"type": "file", "name": "a.pdf"}], ids=str)
def test_a_part_of_a_type_that_is_no_text_is_open_ended(part: dict[str, Any]) -> None:
    assert read(chat([part])).open_ended


@pytest.mark.parametrize(
    "fields",
    [
        {"search_parameters": {"mode": "on"}},
        {"enable_search": True},
        {"web_search_options": {}},
        {"plugins": [{"id": "web"}]},
        {"extra_body": {"enable_search": True}},
        {"previous_response_id": "r"},
        {"of a provider to come": None},
    ],
    ids=str,
)
def test_a_field_that_is_not_known_to_bring_no_input_is_open_ended(fields: dict[str, Any]) -> None:
    assert read(chat(**fields)).open_ended


@pytest.mark.parametrize(
    "tools",
    [
        '[{"type":"web_search"}]',
        '[{"type":"web_search_preview","function":{"name":"f"}}]',
        '[{"type":"function","function":{"name":"f"}},{"type":"web_search"}]',
        '[{"type":"function","type":"web_search"}]',
        '[{"type":"web_search","type":"function","function":{"name":"f"}}]',
        '[{"type":"web_search","function":{"type":"object"},"type":"function"}]',
        r'[{"type":"web\u005fsearch"}]',
        r'[{"type":"function","\u0074ype":"web_search"}]',
        r'[{"\u0074ype":"web_search"}]',
        '[{"type":"function","function":{"name":"f"},"web_search":{"enable":true}}]',
        '[{"google_search":{}}]',
        '[{"type":null}]',
        '[{"Type":"web_search"}]',
        r'[{"\u0074ype":"web_search","type":"function","function":{"name":"f"}}]',
    ],
)
def test_a_tool_that_the_upstream_may_run_itself_is_open_ended(tools: str) -> None:
    assert read(raw_chat(json.dumps(ASKED), ',"tools":' + tools)).open_ended


@pytest.mark.parametrize("size", [0, 1, 40, 5000, 400_000])
def test_an_inline_image_counts_by_an_allowance_in_place_of_its_bytes(size: int) -> None:
    url = "data:image/png;base64," + "A" * size
    request = read(chat([{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": url}}]))

    assert request.input_bound == len(request.body) - len(url) + IMAGE_TOKENS + OVERHEAD
    assert (request.media_tokens, request.open_ended) == (IMAGE_TOKENS, True)
    assert "image_input" in request.kinds


def test_each_image_has_an_allowance_and_a_fetched_one_keeps_its_bytes() -> None:
    request = read(chat([IMAGE, IMAGE, {"type": "image_url", "image_url": "data:,x"}]))

    assert request.media_tokens == 3 * IMAGE_TOKENS
    assert request.input_bound == len(request.body) - len("data:,x") + 3 * IMAGE_TOKENS + OVERHEAD


@pytest.mark.parametrize("image", [None, 7, [], {}, {"url": 7}, {"url": None}, ""])
def test_an_image_without_an_address_is_allowed_for_all_the_same(image: object) -> None:
    request = read(chat([{"type": "image_url", "image_url": image}]))

    assert request.input_bound == len(request.body) + IMAGE_TOKENS + OVERHEAD


def test_inline_audio_is_allowed_for_by_its_length() -> None:
    data = "A" * 100_000
    request = read(chat([{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]))

    assert request.media_tokens == 4001
    assert request.input_bound == len(request.body) - len(data) + 4001 + OVERHEAD
    assert "audio_input" in request.kinds
