"""`/v1beta/models/{model}:generateContent` and its kin: https://ai.google.dev/api/generate-content, .../api/embeddings,
.../api/tokens.

The model stands in the path. A stream is server-sent events with `alt=sse`, and one JSON array without. Every event tells
the usage so far; the one with a `finishReason` is the last, though nothing forbids another. Fields may be written in two
ways, `maxOutputTokens` and `max_output_tokens`, as JSON of protocol buffers may; those of a value of nothing are left out.
"""

import json
import re
from typing import Any

import msgspec

from app.billing.rates import TEXT_KINDS
from app.billing.service_tier import tier_asked, tier_named
from app.billing.usage import Usage
from app.errors import InvalidRequest, ProxyError
from app.gateway.protocols import openai
from app.gateway.protocols.base import ESCAPED_NAME, NOTHING_MORE, Asked, CallRequest, StreamEvent, decode, replace_fields
from app.gateway.protocols.chat_bound import AUDIO_BYTES_PER_TOKEN, IMAGE_TOKENS
from app.gateway.protocols.reports import UNREADABLE, count, is_count, object_of, usage_in
from app.gateway.protocols.texts import event_data, events_of, texts

OVERHEAD = 64
"""Tokens that the provider may add beyond the bytes of the request."""

_MEDIA = re.compile(rb'"(?:inline_?data|file_?data)"\s*:', re.IGNORECASE)
_DECISIVE = re.compile(
    rb'"(contents|tools|system_?instruction|generation_?config|max_?output_?tokens|candidate_?count|response_?modalities|service_?tier)"\s*:',
    re.IGNORECASE,
)
_BOUNDED_FIELDS = frozenset(
    {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "safetySettings", "labels", "serviceTier", "model"}
)
"""Fields of a request that bring no input from elsewhere, such as `cachedContent` does."""
_SILENT = frozenset(
    {"role", "id", "thoughtSignature", "thought_signature", "inlineData", "inline_data", "fileData", "file_data", "mimeType", "mime_type"}
)
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    504: "DEADLINE_EXCEEDED",
}


class _Event(msgspec.Struct, rename="camel"):
    usage_metadata: Any = None
    candidates: Any = None
    prompt_feedback: Any = None
    error: Any = None


_events = msgspec.json.Decoder(_Event)


class GenerateContent:
    api = "generateContent"
    path = "/v1beta/models/{model}:generateContent"
    auth = "x-goog-api-key"
    is_stream = False

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        _refuse_doubles(body)
        fields = _fields(decode(body, dict[str, Any]))
        config = _fields(object_of(fields.get("generationConfig")))
        has_media = bool(_MEDIA.search(body)) or ESCAPED_NAME.search(body) is not None
        inline, media_tokens = _media(fields.get("contents")) if has_media else (0, 0)
        modalities = config.get("responseModalities")
        is_text_alone = isinstance(modalities, list) and {str(modality).upper() for modality in modalities} == {"TEXT"}
        return CallRequest(
            body=body,
            model=openai.required_model(asked.model),
            query=asked.query,
            is_stream=self.is_stream,
            wants_usage=True,
            input_bound=max(len(body) - inline, 0) + media_tokens + OVERHEAD,
            media_tokens=media_tokens,
            output_limit=_limit(config.get("maxOutputTokens"), "maxOutputTokens"),
            choices=_limit(config.get("candidateCount"), "candidateCount") or 1,
            open_ended=has_media or not _BOUNDED_FIELDS.issuperset(fields) or _has_server_tools(fields.get("tools")),
            kinds=TEXT_KINDS
            | ({"audio_input"} if has_media else frozenset())
            | (frozenset() if is_text_alone else {"audio_output", "image_output"}),
            service_tier=tier_asked(fields.get("serviceTier", "standard")),
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        """The model is rewritten in the path."""
        if output_limit is None:
            return request.body
        fields = decode(request.body, dict[str, Any])
        name = "generation_config" if "generation_config" in fields else "generationConfig"
        return replace_fields(request.body, {name: {**object_of(fields.get(name)), "maxOutputTokens": output_limit}})

    def usage_of(self, answer: bytes) -> Usage | None:
        return usage_in(answer, "usageMetadata", read_usage)

    def tells(self, events: bytes) -> bool:
        return events.find(b'"usageMetadata"') >= 0 or events.find(b'"finishReason"') >= 0 or events.find(b'"error"') >= 0

    def read_event(self, event: bytes) -> StreamEvent:
        try:
            told = _events.decode(event_data(event))
        except UNREADABLE:
            return StreamEvent()
        error = object_of(told.error)
        is_closing = any(object_of(candidate).get("finishReason") for candidate in _list(told.candidates)) or bool(told.prompt_feedback)
        return StreamEvent(
            usage=None if told.usage_metadata is None else read_usage(told.usage_metadata),
            is_partial=not is_closing,
            is_closing=is_closing,
            is_terminal=bool(error),
            error=str(error.get("message") or error.get("status") or "error without a message") if error else None,
        )

    def request_texts(self, body: bytes) -> list[str]:
        fields = _fields(decode(body, dict[str, Any]))
        embedded = [object_of(one).get("content") for one in _list(fields.get("requests"))]
        return texts([*(fields.get(name) for name in ("systemInstruction", "contents", "tools", "content")), *embedded], _SILENT)

    def answer_texts(self, answer: bytes) -> list[str]:
        try:
            told = msgspec.json.decode(answer)
        except UNREADABLE:
            return []
        return _spoken(told if isinstance(told, list) else [told])

    def event_texts(self, events: bytes) -> list[str]:
        return _spoken(events_of(events))

    def error_body(self, error: ProxyError) -> bytes:
        """Google's envelope: https://cloud.google.com/apis/design/errors."""
        status = _STATUSES.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "UNAVAILABLE")
        reason = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.code.upper(), "domain": "aigcspace"}
        return msgspec.json.encode({"error": {"code": error.status, "message": str(error), "status": status, "details": [reason]}})

    def error_event(self, error: ProxyError) -> bytes:
        return b"data: " + self.error_body(error) + b"\r\n\r\n"


class StreamGenerateContent(GenerateContent):
    path = "/v1beta/models/{model}:streamGenerateContent"
    is_stream = True


class CountTokens(GenerateContent):
    """It costs nothing."""

    api = "countTokens"
    path = "/v1beta/models/{model}:countTokens"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        decode(body, dict[str, msgspec.Raw])
        return CallRequest(body=body, model=openai.required_model(asked.model), has_output=False, is_free=True)


class EmbedContent(GenerateContent):
    api = "embedContent"
    path = "/v1beta/models/{model}:embedContent"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        decode(body, dict[str, msgspec.Raw])
        has_media = bool(_MEDIA.search(body)) or ESCAPED_NAME.search(body) is not None
        model = openai.required_model(asked.model)
        return CallRequest(body=body, model=model, input_bound=len(body), has_output=False, open_ended=has_media)

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        """The body repeats the model."""
        if model is None:
            return request.body
        named = f"models/{model}"
        fields = decode(request.body, dict[str, Any])
        if "model" in fields:
            fields["model"] = named
        for one in _list(fields.get("requests")):
            if isinstance(one, dict) and "model" in one:
                one["model"] = named
        return msgspec.json.encode(fields)


class BatchEmbedContents(EmbedContent):
    path = "/v1beta/models/{model}:batchEmbedContents"


def read_usage(reported: object) -> Usage | None:
    """None where a count can't be true. Counts of nothing are left out by the provider."""
    if not isinstance(reported, dict) or not is_count(reported.get("totalTokenCount", reported.get("promptTokenCount"))):
        return None
    names = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
    if not all(is_count(reported.get(name, 0)) for name in names):
        return None
    prompt, tools, answered, thought = (count(reported.get(name, 0)) for name in names)
    return Usage(
        input_tokens=prompt + tools,
        output_tokens=answered + thought,
        cache_read_tokens=count(reported.get("cachedContentTokenCount")),
        reasoning_tokens=thought,
        audio_input_tokens=_of_modality(reported.get("promptTokensDetails"), "AUDIO"),
        audio_output_tokens=_of_modality(reported.get("candidatesTokensDetails"), "AUDIO"),
        image_output_tokens=_of_modality(reported.get("candidatesTokensDetails"), "IMAGE"),
        service_tier=tier_named(reported.get("serviceTier")),
    )


def _of_modality(details: object, modality: str) -> int:
    return sum(count(part.get("tokenCount")) for part in map(object_of, _list(details)) if part.get("modality") == modality)


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """Under the names that are documented. Raises `InvalidRequest` where a field stands there in both ways."""
    named = {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): value for name, value in given.items()}
    if len(named) < len(given):
        raise InvalidRequest("A field stands there twice, in `camelCase` and in `snake_case`. Send it once.", code="ambiguous_field")
    return named


def _refuse_doubles(body: bytes) -> None:
    """Raises `InvalidRequest` where a field that decides what a call costs stands there twice: which one is taken depends on
    the parser."""
    found = [name.lower().replace(b"_", b"") for name in _DECISIVE.findall(body)]
    if len(set(found)) == len(found) and not ESCAPED_NAME.search(body):
        return
    try:
        pairs = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise InvalidRequest("The request body holds a number or a nesting that can't be read. Correct it.", code="invalid_json") from None
    configs = [value for name, value in pairs if _plain(name) == "generationconfig" and isinstance(value, _Pairs)]
    for named in ([_plain(name) for name, _ in part] for part in (pairs, *configs)):
        if len(set(named)) < len(named):
            raise InvalidRequest("A field stands in the request twice. Send it once.", code="ambiguous_field")


class _Pairs(list[tuple[str, Any]]):
    """An object as its pairs, those of the same name too."""


def _plain(name: str) -> str:
    return name.lower().replace("_", "")


def _limit(value: object, name: str) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000_000:
        raise InvalidRequest(f"`{name}` must be a whole number from 1 to 10,000,000.", code="invalid_type")
    return value


def _has_server_tools(tools: object) -> bool:
    """Whether a tool may be one that the provider runs itself, such as a search, whose findings become input."""
    if tools is not None and not isinstance(tools, list):
        return True
    return any(set(_fields(object_of(tool))) - {"functionDeclarations"} for tool in _list(tools))


def _media(contents: object) -> tuple[int, int]:
    """Bytes that are inline media, and the tokens held in the stead of all media."""
    inline, tokens = 0, 0
    waiting: list[Any] = [contents]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            data = object_of(value.get("inlineData") or value.get("inline_data")).get("data")
            if isinstance(data, str):
                inline += len(data)
                tokens += IMAGE_TOKENS + len(data) // AUDIO_BYTES_PER_TOKEN // 10
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return inline, max(tokens, IMAGE_TOKENS)


def _spoken(answers: list[Any]) -> list[str]:
    candidates = [candidate for answer in answers for candidate in _list(object_of(answer).get("candidates"))]
    return texts([object_of(object_of(candidate).get("content")).get("parts") for candidate in candidates], _SILENT)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
