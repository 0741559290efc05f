"""`/v1/images/generations`, `/edits`, `/variations`: https://platform.openai.com/docs/api-reference/images, streams:
.../images-streaming.

Models of the GPT Image family report tokens; of others the images are counted, as the answer holds them, by the quality and
size that it tells, else those that were asked for. A stream has one `completed` event for each image; OpenAI's have one.
Volcengine's usage has `generated_images` and no input. What the drawing of an SVG costs (`svg_usage`) is in no other count.
"""

import re
from typing import Annotated, Any

import msgspec

from app.billing.rates import TEXT_KINDS, image_meter
from app.billing.usage import Usage
from app.gateway.forms.form import Form, FormBody
from app.gateway.protocols import openai
from app.gateway.protocols.base import (
    NOTHING_MORE,
    Asked,
    CallRequest,
    StreamEvent,
    TakesForms,
    changed,
    decode,
    decode_fields,
    refuse_ambiguous_names,
)
from app.gateway.protocols.chat_bound import IMAGE_TOKENS
from app.gateway.protocols.reports import UNREADABLE, count, is_count, object_of, usage_in
from app.gateway.protocols.texts import event_data

OUTPUT_TOKENS = {"low": 408, "medium": 1584, "high": 6240}
"""Of the largest images of gpt-image-1, by quality: https://platform.openai.com/docs/guides/image-generation#cost-and-latency."""
PARTIAL_IMAGE_TOKENS = 100

_FIELDS = ("model", "prompt", "n", "size", "quality", "stream", "partial_images")
_DECISIVE = re.compile(rb'"(%s|images?)"\s*:' % "|".join(_FIELDS).encode(), re.IGNORECASE)
_BOUNDED_FIELDS = frozenset(
    {
        *_FIELDS, "image", "image[]", "images", "mask", "style", "response_format", "user", "safety_identifier", "background", "moderation",
        "output_format", "output_compression", "input_fidelity", "seed", "negative_prompt", "guidance_scale",
    }
)  # fmt: skip
"""Fields of a request that make no more images of it."""
_FILES = frozenset({"image", "image[]", "mask"})
_DEFAULTS = {"dall-e-2": (None, "1024x1024"), "dall-e-3": ("standard", "1024x1024")}
"""Quality and size of an image for which none are asked, where the answer doesn't tell them either."""
_IMAGE = re.compile(rb'"(?:b64_json|url)"\s*:\s*"')
_KINDS = TEXT_KINDS | {"image_input", "image_output"}

_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_lists = msgspec.json.Decoder(list[msgspec.Raw])


class _Request(msgspec.Struct):
    model: str | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=128)] | None = None
    size: str | None = None
    quality: str | None = None
    stream: bool | None = None
    partial_images: Annotated[int, msgspec.Meta(ge=0, le=16)] | None = None
    images: list[msgspec.Raw] | None = None
    user: Any = None


class ImageGenerations:
    api = "images.generations"
    path = "/v1/images/generations"
    auth = "bearer"

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        request = decode(body, _Request)
        refuse_ambiguous_names(body, _DECISIVE)
        fields = decode(body, dict[str, msgspec.Raw])
        body = openai.naming(body, asked.model, request.model)
        return _call(request, asked, body=body, fields=set(fields), images=len(request.images or ()))

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes | FormBody:
        return changed(request.body, model=model)

    def usage_of(self, answer: bytes) -> Usage | None:
        try:
            told = _objects.decode(answer)
        except UNREADABLE:
            return _usage_in_parts(answer)
        try:
            images = len(_lists.decode(told["data"]))
        except (KeyError, *UNREADABLE):
            return None
        quality, size, usage, svg = (msgspec.json.decode(told.get(name, b"null")) for name in ("quality", "size", "usage", "svg_usage"))
        return read_usage(usage, {image_meter(quality, size): images}, svg)

    def tells(self, events: bytes) -> bool:
        return events.find(b'.completed"') >= 0 or openai.tells(events)

    def read_event(self, event: bytes) -> StreamEvent:
        data = event_data(event)
        if data.find(b'.completed"') < 0:
            return openai.read_event(event)
        try:
            told = object_of(msgspec.json.decode(data))
        except UNREADABLE:
            return StreamEvent()
        if told.get("type") not in ("image_generation.completed", "image_edit.completed"):
            return openai.read_event(event)
        usage = read_usage(told.get("usage"), {image_meter(told.get("quality"), told.get("size")): 1}, told.get("svg_usage"))
        return StreamEvent(usage=usage, is_closing=True, is_one_more=True)

    def request_texts(self, body: bytes) -> list[str]:
        prompt = decode(body, dict[str, Any]).get("prompt")
        return [prompt] if isinstance(prompt, str) else []

    def answer_texts(self, answer: bytes) -> list[str]:
        return []

    def event_texts(self, events: bytes) -> list[str]:
        return []

    error_body = staticmethod(openai.error_body)
    error_event = staticmethod(openai.error_event)


class ImageEdits(ImageGenerations, TakesForms):
    """As a form, or with `images` by address as JSON."""

    api = "images.edits"
    path = "/v1/images/edits"

    def read_form(self, form: Form, asked: Asked = NOTHING_MORE) -> CallRequest:
        form.refuse_ambiguous(_FIELDS)
        request = decode_fields(form, _Request)
        images = len(form.files(_FILES))
        names = {part.name for part in form.parts}
        return _call(request, asked, body=form.as_json(), fields=names, images=images, form=form)

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes | FormBody:
        if request.form is None:
            return changed(request.body, model=model)
        return request.form.with_model(model or openai.missing_in(request))


class ImageVariations(ImageEdits):
    api = "images.variations"
    path = "/v1/images/variations"


def read_usage(reported: object, units: dict[str, int], svg: object = None) -> Usage:
    """The tokens of the report, if it has any that can be true, and the images."""
    told = object_of(reported)
    given, made = told.get("input_tokens", 0), told.get("output_tokens")
    images = told.get("generated_images")
    if is_count(images) and len(units) == 1:
        units = dict.fromkeys(units, images)
    if not is_count(given) or not is_count(made):
        return Usage(units=units)
    of_input, of_output = object_of(told.get("input_tokens_details")), object_of(told.get("output_tokens_details"))
    drawn = object_of(svg)
    others = {}
    if isinstance(drawn.get("model"), str) and (drawing := _tokens(drawn)) is not None:
        others[drawn["model"]] = drawing
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cache_read_tokens=count(of_input.get("cached_tokens")),
        image_input_tokens=count(of_input.get("image_tokens")),
        image_output_tokens=count(of_output.get("image_tokens")) if of_output else made,
        units=units,
        others=others,
    )


def _tokens(drawn: dict[str, Any]) -> Usage | None:
    given, made = drawn.get("input_tokens"), drawn.get("output_tokens")
    if not is_count(given) or not is_count(made):
        return None
    return Usage(input_tokens=given, output_tokens=made, reasoning_tokens=count(drawn.get("reasoning_tokens")))


def _usage_in_parts(answer: bytes) -> Usage | None:
    """Of an answer that isn't whole, or no JSON at all."""
    images = {"image": len(_IMAGE.findall(answer))}
    told = usage_in(answer, "usage", lambda reported: read_usage(reported, images))
    return told if told is not None and told.has_tokens else Usage(units=images) if images["image"] else None


def _call(request: _Request, asked: Asked, *, body: bytes, fields: set[str], images: int, form: Form | None = None) -> CallRequest:
    """`images`: how many are sent along."""
    model = openai.required_model(asked.model or request.model)
    usual = _DEFAULTS.get(model.rpartition("/")[2], (None, None))
    meter = image_meter(request.quality or usual[0], request.size or usual[1])
    wanted = request.n or 1
    tokens = OUTPUT_TOKENS.get(request.quality or "", OUTPUT_TOKENS["high"]) + PARTIAL_IMAGE_TOKENS * (request.partial_images or 0)
    return CallRequest(
        body=body,
        form=form,
        model=model,
        is_stream=bool(request.stream),
        wants_usage=True,
        input_bound=len(body) + images * IMAGE_TOKENS,
        choices=wanted,
        open_ended=bool(images) or not _BOUNDED_FIELDS.issuperset(fields),
        kinds=_KINDS,
        end_user=request.user if isinstance(request.user, str) else None,
        measured=Usage(
            input_tokens=images * IMAGE_TOKENS,
            image_input_tokens=images * IMAGE_TOKENS,
            output_tokens=wanted * tokens,
            image_output_tokens=wanted * tokens,
            units={meter: wanted},
        ),
        output_allowance=tokens,
    )
