"""`/v1/chat/completions`: https://platform.openai.com/docs/api-reference/chat."""

import re
from typing import Annotated, Any

import msgspec

from app.billing.price import TEXT_KINDS
from app.gateway.protocols import openai
from app.gateway.protocols.base import CallRequest, decode, replace_fields

OVERHEAD = 64
"""Tokens that a provider's chat template may add beyond the bytes of the request."""
IMAGE_ALLOWANCE = 50_000
"""Tokens held for an inline image: a large one at high detail costs 48,169 with OpenAI's dearest counting
(gpt-4o-mini: 2,833 + 8 x 5,667)."""
BYTES_PER_MEDIA_TOKEN = 100
"""Inline audio has far fewer tokens than this many bytes of base64 each (OpenAI: some 10 a second)."""

_NEEDS_COMPLETION_LIMIT = re.compile(r"^(openai/)?(o\d|gpt-5)")
"""Models that refuse `max_tokens` and want `max_completion_tokens` (OpenAI's reasoning models)."""

_Positive = Annotated[int, msgspec.Meta(ge=1)]


_ABSENT = msgspec.Raw()


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Chat(msgspec.Struct):
    messages: list[dict[str, msgspec.Raw]]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Positive | None = None
    max_completion_tokens: _Positive | None = None
    n: _Positive | None = None
    user: Any = None
    modalities: Any = None
    prediction: msgspec.Raw = _ABSENT
    web_search_options: Any = None
    plugins: Any = None


_MEDIA = re.compile(rb'"(image_url|input_audio|file|video_url|input_image)"')
_SERVER_TOOL = re.compile(rb'"type"\s*:\s*"(web_search|code_interpreter|browser_search|file_search|openrouter:)')


class ChatCompletions:
    api = "chat.completions"
    path = "/v1/chat/completions"
    auth = "bearer"
    telling = openai.TELLING

    def read(self, body: bytes) -> CallRequest:
        chat = decode(body, _Chat)
        input_bound, kinds, fetches = _bound_media(body, chat)
        limits = [limit for limit in (chat.max_tokens, chat.max_completion_tokens) if limit is not None]
        server_tools = chat.web_search_options is not None or chat.plugins is not None or _SERVER_TOOL.search(body) is not None
        return CallRequest(
            body=body,
            model=openai.required_model(chat.model),
            is_stream=bool(chat.stream),
            wants_usage=bool(chat.stream_options and chat.stream_options.include_usage),
            input_bound=input_bound + OVERHEAD,
            output_limit=max(limits, default=None),
            extra_output=len(bytes(chat.prediction)),
            choices=chat.n or 1,
            open_ended=fetches or server_tools,
            kinds=kinds,
            end_user=chat.user if isinstance(chat.user, str) else None,
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        changes: dict[str, object] = {}
        if model is not None:
            changes["model"] = model
        if output_limit is not None:
            changes["max_completion_tokens" if _NEEDS_COMPLETION_LIMIT.match(model or request.model) else "max_tokens"] = output_limit
        if ask_usage:
            changes["stream_options"] = openai.asking_usage(request.body)
        return replace_fields(request.body, changes) if changes else request.body

    def request_texts(self, body: bytes) -> list[str]:
        chat = decode(body, dict[str, Any])
        return openai.texts([chat.get(name) for name in ("messages", "tools", "functions", "response_format")])

    def answer_texts(self, answer: bytes) -> list[str]:
        spoken = [_object(choice.get("delta") or choice.get("message")) for choice in openai.choices(answer)]
        return openai.texts([{name: value for name, value in part.items() if name != "role"} for part in spoken])

    usage_of = staticmethod(openai.usage_of_answer)
    read_event = staticmethod(openai.read_event)
    error_body = staticmethod(openai.error_body)
    error_event = staticmethod(openai.error_event)


def _bound_media(body: bytes, chat: _Chat) -> tuple[int, frozenset[str], bool]:
    """Input bound, kinds of tokens, and whether the upstream fetches what can't be bounded here.

    A token is at least one byte of text, so the bytes of the request bound its tokens; inline media counts by an
    allowance in their stead.
    """
    kinds = TEXT_KINDS
    if isinstance(chat.modalities, list) and "audio" in chat.modalities:
        kinds |= {"audio_output"}
    if not _MEDIA.search(body):
        return len(body), kinds, False
    bound, fetches = len(body), False
    for part in _media_parts(chat):
        inline, tokens, part_fetches, part_kinds = _bound_part(part)
        bound += tokens - inline
        fetches |= part_fetches
        kinds |= part_kinds
    return bound, kinds, fetches


def _media_parts(chat: _Chat) -> list[dict[str, Any]]:
    parts = []
    for message in chat.messages:
        content = msgspec.json.decode(message.get("content", b"null"))
        if isinstance(content, list):
            parts += [part for part in content if isinstance(part, dict) and part.get("type") != "text"]
    return parts


def _bound_part(part: dict[str, Any]) -> tuple[int, int, bool, frozenset[str]]:
    """Bytes that the part has inline, tokens held for it, whether something is fetched for it, and its kinds."""
    if part.get("type") == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if isinstance(url, str) and url.startswith("data:"):
            return len(url), min(len(url), IMAGE_ALLOWANCE), False, frozenset({"image_input"})
        return 0, IMAGE_ALLOWANCE, True, frozenset({"image_input"})
    if part.get("type") == "input_audio":
        data = _object(part.get("input_audio")).get("data")
        size = len(data) if isinstance(data, str) else 0
        return size, size // BYTES_PER_MEDIA_TOKEN + 1, False, frozenset({"audio_input"})
    return 0, 0, True, frozenset()


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
