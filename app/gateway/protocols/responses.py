"""`/v1/responses`: https://platform.openai.com/docs/api-reference/responses, streams: .../responses-streaming.

What a conversation, an earlier response or a tool of the provider's brings is input that the request doesn't show, so such
calls are open-ended. The last event (`response.completed`, `incomplete` or `failed`) holds the whole response and its usage;
the first (`response.created`) names it, so that what goes on in the background can be asked for.
"""

import re
from typing import Annotated, Any

import msgspec

from app.billing.rates import TEXT_KINDS
from app.billing.service_tier import tier_asked
from app.billing.usage import Usage
from app.errors import InvalidRequest, ProxyError
from app.gateway.protocols import attribution, openai, references
from app.gateway.protocols.base import (
    ESCAPED_NAME,
    NOTHING_MORE,
    Asked,
    CallRequest,
    StreamEvent,
    changed,
    decode,
    refuse_ambiguous_names,
)
from app.gateway.protocols.chat_bound import IMAGE_TOKENS, are_own_tools
from app.gateway.protocols.kept import NO_REFERENCES, References, kept_of
from app.gateway.protocols.reports import UNREADABLE, at_tier, count, is_count, object_of, usage_at_tier
from app.gateway.protocols.texts import event_data, events_of, texts

OVERHEAD = 256
"""Tokens that the provider may add beyond the bytes of the request, for its templates and tools."""

_DECISIVE = re.compile(
    rb'"(model|input|instructions|stream|tools|max_output_tokens|previous_response_id|conversation|background|store|prompt'
    rb'|service_tier)"\s*:',
    re.IGNORECASE,
)
_BOUNDED_FIELDS = frozenset(
    {
        "model", "input", "instructions", "stream", "stream_options", "max_output_tokens", "max_tool_calls", "metadata",
        "parallel_tool_calls", "reasoning", "safety_identifier", "service_tier", "store", "temperature", "text", "tool_choice", "tools",
        "top_logprobs", "top_p", "truncation", "user", "include", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
        "moderation", "provider", "background", "previous_response_id", "conversation", "prompt", "client_metadata",
    }
)  # fmt: skip
"""Fields of a request that bring no input from elsewhere, but for what `references` finds."""
_TEXT_ITEMS = frozenset(
    {
        "message", "function_call", "function_call_output", "reasoning", "custom_tool_call", "custom_tool_call_output",
        "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output",
        "computer_call", "mcp_call", "mcp_list_tools", "web_search_call", "file_search_call", "tool_search_call", "tool_search_output",
    }
)  # fmt: skip
_TEXT_PARTS = frozenset({"input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text"})
_OWN_TOOLS = frozenset({"function", "custom"})
"""Tools that the client runs; what any other finds becomes input."""
_SILENT = openai.SILENT | {"call_id", "encrypted_content", "file_data", "file_id", "role", "status"}
_ENDS = (b"response.completed", b"response.incomplete", b"response.failed")
_TOLD = (*_ENDS, b"response.created")
_ERROR = re.compile(rb'"type"\s*:\s*"error"')

_Limit = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]


class _Item(msgspec.Struct):
    type: str | None = None
    content: Any = None
    output: Any = None
    encrypted_content: Any = None


class _Request(msgspec.Struct):
    model: str | None = None
    input: str | list[_Item] | None = None
    stream: bool | None = None
    max_output_tokens: _Limit | None = None
    background: bool | None = None
    store: bool | None = None
    service_tier: Any = None
    user: Any = None
    safety_identifier: Any = None
    session_id: Any = None
    metadata: Any = None
    prompt_cache_key: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    response: Any = None
    message: Any = None


_events = msgspec.json.Decoder(_Event)


class Responses:
    api = "responses"
    path = "/v1/responses"
    auth = "bearer"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        request = decode(body, _Request)
        refuse_ambiguous_names(body, _DECISIVE)
        fields = decode(body, dict[str, msgspec.Raw])
        if bytes(fields.get("prompt", b"null")) != b"null":
            raise InvalidRequest("`prompt` names what the provider keeps for its account, not for you. Send `input`.", code="unsupported")
        items = request.input if isinstance(request.input, list) else []
        if any(item.type == "message" and item.content is None for item in items):
            raise InvalidRequest(
                "A message in `input` has no `content`. Send it, or refer to it as an `item_reference`.", code="invalid_type"
            )
        named = _references(body)
        inline, media_tokens = (0, 0) if _is_text(items, body) else _media(body)
        is_bounded = _BOUNDED_FIELDS.issuperset(fields) and are_own_tools(bytes(fields.get("tools", b"")), _OWN_TOOLS)
        return CallRequest(
            body=openai.naming(body, asked.model, request.model),
            model=openai.required_model(asked.model or request.model),
            is_stream=bool(request.stream),
            wants_usage=True,
            input_bound=max(len(body) - inline, 0) + media_tokens + OVERHEAD,
            media_tokens=media_tokens,
            output_limit=request.max_output_tokens,
            open_ended=bool(media_tokens) or bool(named.needed) or not is_bounded,
            kinds=TEXT_KINDS | ({"image_input", "audio_input"} if media_tokens else frozenset()),
            service_tier=tier_asked(request.service_tier),
            end_user=attribution.first_text(request.safety_identifier, request.user),
            affinity=attribution.first_text(request.prompt_cache_key),
            tags=attribution.told(session=request.session_id, metadata=request.metadata),
            references=named,
            is_kept=request.store is not False or bool(request.background),
            is_background=bool(request.background),
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        return changed(request.body, model=model, max_output_tokens=output_limit)

    def usage_of(self, answer: bytes) -> Usage | None:
        return usage_at_tier(answer, "usage", read_usage)

    def tells(self, events: bytes) -> bool:
        return any(events.find(told) >= 0 for told in _TOLD) or (events.find(b'"error"') >= 0 and _ERROR.search(events) is not None)

    def read_event(self, event: bytes) -> StreamEvent:
        try:
            told = _events.decode(event_data(event))
        except UNREADABLE:
            return StreamEvent()
        if told.type == "error":
            return StreamEvent(is_closing=True, error=str(told.message or "error without a message"))
        if told.type == "response.created":
            return StreamEvent(kept=kept_of(told.response))
        if told.type.encode() not in _ENDS:
            return StreamEvent()
        response = object_of(told.response)
        error = object_of(response.get("error"))
        return StreamEvent(
            usage=at_tier(read_usage(response.get("usage")), response.get("service_tier")),
            is_terminal=True,
            error=str(error.get("message") or error.get("code") or "failed") if told.type == "response.failed" else None,
            kept=kept_of(response),
        )

    def request_texts(self, body: bytes) -> list[str]:
        request = decode(body, dict[str, Any])
        return texts([request.get(name) for name in ("instructions", "input", "tools", "text")], _SILENT)

    def answer_texts(self, answer: bytes) -> list[str]:
        try:
            return texts(object_of(msgspec.json.decode(answer)).get("output"), _SILENT)
        except UNREADABLE:
            return []

    def event_texts(self, events: bytes) -> list[str]:
        return texts([told.get("delta") for told in events_of(events) if str(told.get("type")).endswith(".delta")], _SILENT)

    def error_event(self, error: ProxyError) -> bytes:
        told = {"type": "error", "code": error.code, "message": str(error), "param": None, "sequence_number": 0}
        return b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"

    error_body = staticmethod(openai.error_body)


class Compact(Responses):
    """`/v1/responses/compact`: https://platform.openai.com/docs/api-reference/responses/compact."""

    api = "responses.compact"
    path = "/v1/responses/compact"


class InputTokens(Responses):
    """`/v1/responses/input_tokens`: https://platform.openai.com/docs/api-reference/responses/input-tokens. It costs nothing."""

    api = "responses.input_tokens"
    path = "/v1/responses/input_tokens"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        request = decode(body, _Request)
        refuse_ambiguous_names(body, _DECISIVE)
        return CallRequest(
            body=openai.naming(body, asked.model, request.model),
            model=openai.required_model(asked.model or request.model),
            has_output=False,
            is_free=True,
            references=_references(body),
        )


def read_usage(reported: object) -> Usage | None:
    """None where the report lacks a count, or has one that can't be true."""
    if not isinstance(reported, dict):
        return None
    given, answered = reported.get("input_tokens"), reported.get("output_tokens")
    if not is_count(given) or not is_count(answered):
        return None
    of_input = object_of(reported.get("input_tokens_details"))
    of_output = object_of(reported.get("output_tokens_details"))
    return Usage(
        input_tokens=given,
        output_tokens=answered,
        cache_read_tokens=count(of_input.get("cached_tokens")),
        cache_write_tokens=count(of_input.get("cache_write_tokens")),
        reasoning_tokens=count(of_output.get("reasoning_tokens")),
    )


def _references(body: bytes) -> References:
    may_refer = references.may_refer(body, references.REFERRING)
    return references.of_responses(body, decode(body, dict[str, Any])) if may_refer else NO_REFERENCES


def _is_text(items: list[_Item], body: bytes) -> bool:
    """Whether nothing but text can be in it, however its fields are read."""
    if any(body.find(field) >= 0 for field in (b'"image_url"', b'"file_id"', b'"file_data"', b'"file_url"')) or ESCAPED_NAME.search(body):
        return False
    return all(_is_text_item(item) for item in items)


def _is_text_item(item: _Item) -> bool:
    if item.type == "reasoning" and item.content is None and item.encrypted_content is None:
        return False  # the provider may have kept it
    return (item.type or "message") in _TEXT_ITEMS and _are_text(item.content) and _are_text(item.output)


def _are_text(parts: object) -> bool:
    return not isinstance(parts, list) or all(object_of(part).get("type") in _TEXT_PARTS for part in parts)


def _media(body: bytes) -> tuple[int, int]:
    """Bytes that are inline media, and the tokens held in the stead of all media; at least 1, as there may be some."""
    inline, media = 0, 0
    waiting: list[Any] = [decode(body, dict[str, Any]).get("input")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for name in ("image_url", "file_data", "data"):
                held = value.get(name)
                inline += len(held) if isinstance(held, str) and (name == "data" or held.startswith("data:")) else 0
            media += value.get("type") in ("input_image", "input_file", "input_audio")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return inline, max(media * IMAGE_TOKENS, 1)
