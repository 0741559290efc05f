"""How many input tokens a chat request can have at most.

A token is at least one byte of text, so the bytes of a request that is all text bound its tokens. That a request is all
text is never taken from what is absent: only fields that are known to carry text, or none at all, pass for such. Whatever
else is there makes the call open-ended: it is held at the same bound, media by an allowance, and may cost more.
"""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from app.billing.rates import TEXT_KINDS
from app.gateway.protocols.base import ESCAPED_NAME, decode, names_in

IMAGE_TOKENS = 3_000
"""Held for an inline image. Most cost less, some more (OpenAI's dearest counting: 48,169 for gpt-4o-mini at high detail)."""
AUDIO_BYTES_PER_TOKEN = 25
"""Of base64: low enough for speech at 8 kbit/s with 32 tokens a second (Gemini)."""

_TEXT_FIELDS = frozenset(
    {
        b"role", b"content", b"name", b"type", b"text", b"tool_calls", b"tool_call_id", b"id", b"index", b"function",
        b"arguments", b"refusal", b"cache_control", b"reasoning", b"reasoning_content", b"thinking", b"signature", b"prefix",
    }
)  # fmt: skip
"""All that a message of text and tool calls can hold, at any depth."""
_TYPE = re.compile(rb'"type"\s*:\s*"([^"]*)"')
_TEXT_TYPES = frozenset({b"text", b"function", b"refusal", b"thinking", b"ephemeral"})
"""The types of their parts. `ephemeral` is one of caching (`cache_control`)."""
_BOUNDED_FIELDS = frozenset(
    {
        "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "temperature", "top_p",
        "top_k", "min_p", "top_a", "stop", "seed", "user", "presence_penalty", "frequency_penalty", "repetition_penalty",
        "logit_bias", "logprobs", "top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "functions", "function_call",
        "response_format", "reasoning", "reasoning_effort", "reasoning_format", "include_reasoning", "thinking",
        "enable_thinking", "clear_thinking", "chat_template_kwargs", "verbosity", "metadata", "store", "service_tier",
        "prediction", "modalities", "audio", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "moderation",
        "provider", "transforms", "usage", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "safe_prompt",
    }
)  # fmt: skip
"""Fields of a request that bring no input from elsewhere."""


_REFERRING = frozenset({b"audio", b"file", b"file_id"})
"""Parts that may name what the provider keeps in place of its content."""
_REFERS = re.compile(rb'"(?:audio|file|file_id)"\s*+:\s*+(?!null)', re.IGNORECASE)
"""OpenAI's SDKs send answers back with `"audio":null`."""


@dataclass(frozen=True, slots=True)
class InputBound:
    """`may_refer`: something may be named by its id."""

    tokens: int
    media_tokens: int
    open_ended: bool
    kinds: frozenset[str]
    may_refer: bool = False


def bound_input(body: bytes, modalities: object) -> InputBound:
    """`body`: a JSON object with `messages`."""
    fields = decode(body, dict[str, msgspec.Raw])
    kinds = TEXT_KINDS | {"audio_output"} if isinstance(modalities, list) and "audio" in modalities else TEXT_KINDS
    open_ended = not _BOUNDED_FIELDS.issuperset(fields) or _has_server_tools(bytes(fields.get("tools", b"")))
    messages = bytes(fields["messages"])
    names = names_in(messages)
    if names <= _TEXT_FIELDS and _TEXT_TYPES.issuperset(_TYPE.findall(messages)):
        return InputBound(len(body), 0, open_ended, kinds)
    inline, media_tokens, media_kinds = _media(msgspec.json.decode(messages))
    may_refer = any(b"\\" in name or name.lower() in _REFERRING for name in names)
    may_refer = may_refer and (_REFERS.search(messages) is not None or ESCAPED_NAME.search(messages) is not None)
    return InputBound(max(len(body) - inline, 0) + media_tokens, media_tokens, True, kinds | media_kinds, may_refer)


def _has_server_tools(tools: bytes) -> bool:
    """Whether a tool may be one that the upstream runs itself, such as a web search, whose findings become input."""
    if not are_own_tools(tools, frozenset({"function"})):
        return True
    if tools in (b"", b"null"):
        return False
    fields = [set(decode(bytes(tool), dict[str, msgspec.Raw])) for tool in decode(tools, list[msgspec.Raw])]
    return any(named - {"type", "function"} for named in fields)


def are_own_tools(tools: bytes, types: frozenset[str]) -> bool:
    """Whether all are of types that the client runs itself, or of none, however a parser takes a type that stands there twice."""
    if tools in (b"", b"null"):
        return True
    if ESCAPED_NAME.search(tools) or not tools.lstrip().startswith(b"["):
        return False
    for tool in decode(tools, list[msgspec.Raw]):
        named = decode(bytes(tool), dict[str, msgspec.Raw])
        twice = len(re.findall(rb'"type"\s*:', bytes(tool))) != _types_within(named) + ("type" in named)
        if twice or ("type" in named and bytes(named["type"]).strip(b'"').decode("latin-1") not in types):
            return False
    return True


def _types_within(named: dict[str, msgspec.Raw]) -> int:
    return sum(len(re.findall(rb'"type"\s*:', bytes(value))) for value in named.values())


def _media(messages: list[Any]) -> tuple[int, int, frozenset[str]]:
    """Bytes that are inline media, the tokens held in their stead, and their kinds."""
    inline, tokens, kinds = 0, 0, frozenset[str]()
    for part in _parts(messages):
        if "image_url" in part:
            image = part["image_url"]
            url = image.get("url") if isinstance(image, dict) else image
            inline += len(url) if isinstance(url, str) and url.startswith("data:") else 0
            tokens += IMAGE_TOKENS
            kinds |= {"image_input"}
        elif isinstance(part.get("input_audio"), dict):
            data = part["input_audio"].get("data")
            size = len(data) if isinstance(data, str) else 0
            inline += size
            tokens += size // AUDIO_BYTES_PER_TOKEN + 1
            kinds |= {"audio_input"}
    return inline, tokens, kinds


def _parts(messages: list[Any]) -> list[dict[str, Any]]:
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    return [part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict)]
