"""`/v1/completions`: https://platform.openai.com/docs/api-reference/completions."""

import re
from typing import Annotated, Any

import msgspec

from app.billing.service_tier import tier_asked
from app.gateway.protocols import openai
from app.gateway.protocols.base import NOTHING_MORE, Asked, CallRequest, changed, decode, refuse_ambiguous_names
from app.gateway.protocols.texts import texts

_DECISIVE = re.compile(rb'"(model|prompt|n|best_of|stream|stream_options|max_tokens|service_tier)"\s*:', re.IGNORECASE)

_Limit = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
_Choices = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Completion(msgspec.Struct):
    prompt: str | list[Any]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Limit | None = None
    n: _Choices | None = None
    best_of: _Choices | None = None
    service_tier: Any = None
    user: Any = None


class Completions:
    api = "completions"
    path = "/v1/completions"
    auth = "bearer"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        completion = decode(body, _Completion)
        refuse_ambiguous_names(body, _DECISIVE)
        prompts = _prompts(completion.prompt)
        return CallRequest(
            body=openai.naming(body, asked.model, completion.model),
            model=openai.required_model(asked.model or completion.model),
            is_stream=bool(completion.stream),
            wants_usage=bool(completion.stream_options and completion.stream_options.include_usage),
            input_bound=len(body) * max(completion.best_of or 1, 1),
            output_limit=completion.max_tokens,
            choices=max(completion.n or 1, completion.best_of or 1) * prompts,
            service_tier=tier_asked(completion.service_tier),
            end_user=completion.user if isinstance(completion.user, str) else None,
        )

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes:
        asking = openai.asking_usage(request.body) if ask_usage else None
        return changed(request.body, model=model, max_tokens=output_limit, stream_options=asking)

    def request_texts(self, body: bytes) -> list[str]:
        return texts(decode(body, dict[str, Any]).get("prompt"), openai.SILENT)

    def answer_texts(self, answer: bytes) -> list[str]:
        return texts([choice.get("text") for choice in openai.choices(answer)], openai.SILENT)

    def event_texts(self, events: bytes) -> list[str]:
        return texts([choice.get("text") for choice in openai.choices_of_events(events)], openai.SILENT)

    usage_of = staticmethod(openai.usage_of_answer)
    tells = staticmethod(openai.tells)
    read_event = staticmethod(openai.read_event)
    error_body = staticmethod(openai.error_body)
    error_event = staticmethod(openai.error_event)


def _prompts(prompt: str | list[Any]) -> int:
    """A list of nothing but integers is one prompt, written as its tokens; any other list is one of prompts."""
    if isinstance(prompt, str) or all(type(item) is int for item in prompt):
        return 1
    return len(prompt)
