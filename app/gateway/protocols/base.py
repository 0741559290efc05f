"""What a protocol has to say, so that the data plane can carry it.

A protocol is one module with one object: it reads of a request body what admission needs, changes as little of it as
possible, finds usage in answers, and speaks errors. It does no I/O and knows nothing of money.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar
from typing import Protocol as Interface

import msgspec

from app.billing.rates import TEXT_KINDS
from app.billing.service_tier import ANY
from app.billing.usage import NO_USAGE, Usage
from app.errors import InvalidRequest, ProxyError
from app.gateway.forms.form import Form, FormBody
from app.gateway.protocols.kept import NO_REFERENCES, Kept, References

Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What admission knows of a request.

    `body`: as the client wrote it. `query`: what of the URL's query goes upstream. `input_bound`: tokens that the input
    can't exceed, of which `media_tokens` are allowed for media. `output_limit`: output tokens of one choice, as the client
    limits them; None: it doesn't. `extra_output`: output tokens on top of the limit. `open_ended`: the bounds may be
    exceeded, as by images that the upstream fetches. `kinds`: token meters that the call may raise. `service_tier`: which
    one the client asks for. `is_free`: the provider bills nothing for such a call, whatever its answer says. `references`:
    what it names of what the provider keeps. `is_kept`: the provider keeps the answer, for its user to ask for again.
    `reader`: reads the events of the answer, where they tell more of that than those of most; None: its protocol does.
    `is_background`: it is answered at once, and goes on. `end_user`, `tags`: for whom it is made, as its body tells, unbounded.
    `affinity`: what calls have in common that would gain by the same cache of prompts.
    `inputs`: each with a context of its own. `form`: what the client wrote, where that is a form; `body` holds its fields.

    For media: `measured` is the usage as far as the request tells it: images, seconds or characters, and a guess of their
    tokens, for calls of which nobody reports any; `doubts`: flags of the rows that are billed by it. `output_allowance`: output
    tokens that are held for a choice whose output no limit can be set to.
    """

    body: bytes
    model: str
    query: str = ""
    is_stream: bool = False
    wants_usage: bool = False
    input_bound: int = 0
    output_limit: int | None = None
    extra_output: int = 0
    media_tokens: int = 0
    choices: int = 1
    has_output: bool = True
    is_free: bool = False
    open_ended: bool = False
    kinds: frozenset[str] = TEXT_KINDS
    service_tier: str = ANY
    end_user: str | None = None
    affinity: str | None = None
    references: References = NO_REFERENCES
    is_kept: bool = False
    reader: "Protocol | None" = None
    is_background: bool = False
    tags: Mapping[str, Any] | None = None
    inputs: int = 1
    form: Form | None = None
    measured: Usage = NO_USAGE
    doubts: tuple[str, ...] = ()
    output_allowance: int | None = None

    @property
    def takes_limit(self) -> bool:
        """Whether the output can be limited on the client's behalf, or by the client."""
        return self.has_output and self.output_allowance is None


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """What one event of a stream says.

    `is_partial`: `usage` tells what is known before the output, which is counted here should the stream break off.
    `is_addition`: it tells only what an earlier report didn't, and is worth nothing without one. `is_one_more`: it tells of
    one of several parts, such as an image, and adds up. `is_usage_only`: the event
    is there only because usage was asked for. `is_terminal`: a client takes the answer as whole once it has read this
    event's data line. `is_closing`: a client may do so, and yet more may come. `error`: the upstream's own words. `kept`: what
    the provider keeps of the answer.
    """

    usage: Usage | None = None
    is_partial: bool = False
    is_addition: bool = False
    is_one_more: bool = False
    is_usage_only: bool = False
    is_terminal: bool = False
    is_closing: bool = False
    error: str | None = None
    kept: Kept | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a call's URL says beyond its path. `model`: where the path names it, in place of the body."""

    model: str | None = None
    query: str = ""


NOTHING_MORE = Asked()


class Protocol(Interface):
    """`path`: as the provider documents it, with `{model}` where it names the model. `auth`: the header style in which
    clients of the protocol send a key."""

    api: str
    path: str
    auth: str

    def read(self, body: bytes, asked: Asked = NOTHING_MORE) -> CallRequest:
        """Raises `InvalidRequest`, naming the field at fault."""

    def rewrite(self, request: CallRequest, *, model: str | None, output_limit: int | None, ask_usage: bool) -> bytes | FormBody:
        """The body that goes upstream: the client's own bytes wherever nothing has to change."""

    def usage_of(self, answer: bytes) -> Usage | None:
        """The usage of a whole answer; None where it reports none, or one that can't be true."""

    def tells(self, events: bytes) -> bool:
        """Whether `read_event` has something to say of one of these events: others are never parsed."""

    def read_event(self, event: bytes) -> StreamEvent:
        """Reads one event of a stream, its framing included."""

    def request_texts(self, body: bytes) -> list[str]:
        """The texts of the input, for counting."""

    def answer_texts(self, answer: bytes) -> list[str]:
        """The texts of the output of a whole answer, for counting."""

    def event_texts(self, events: bytes) -> list[str]:
        """The texts of the output in a stream's events, for counting."""

    def error_body(self, error: ProxyError) -> bytes:
        """The error in the protocol's envelope."""

    def error_event(self, error: ProxyError) -> bytes:
        """The error as an event that ends a stream."""


class TakesForms(ABC):
    """A protocol whose requests may come as forms. `sound`: the file whose length is to be known before it is read."""

    sound: str | None = None

    @abstractmethod
    def read_form(self, form: Form, asked: Asked = NOTHING_MORE) -> CallRequest:
        """As `Protocol.read`."""


def decode(body: bytes, kind: type[Kind]) -> Kind:
    """Raises `InvalidRequest` with what is wrong and where."""
    try:
        if not body.isascii():
            body.decode()  # msgspec leaves values that it doesn't decode unchecked
        decoded: Kind = _decoder(kind).decode(body)  # type: ignore[arg-type]  # mypy takes a type for unhashable
        return decoded
    except msgspec.ValidationError as wrong:
        raise InvalidRequest(f"The request body does not fit: {wrong}. Correct the field and try again.", code="invalid_type") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as malformed:
        raise InvalidRequest(f"The request body is not valid JSON: {_said(body, malformed)}.", code="invalid_json") from None
    except RecursionError:
        raise InvalidRequest("The request body is nested too deeply to be read. Flatten it.", code="json_too_deep") from None


def _said(body: bytes, malformed: Exception) -> str:
    """Half a surrogate pair is what a client makes that cuts a text within a character of two: msgspec says that of some, and of others
    that what follows is no escape, or missing."""
    said = str(malformed)
    if "surrogate" in said:
        return said
    place = _PLACE.search(said)
    end = int(place[1]) if place else len(body)
    if half := _HALF_A_PAIR.search(body, max(0, end - 16), end + 8):
        return f"a text holds half of a surrogate pair (byte {half.start()})"
    return said


_PLACE = re.compile(r"\(byte (\d+)\)")
_HALF_A_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u)")


@cache
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    """To make one for a dictionary takes longer than to read a short request with it."""
    return msgspec.json.Decoder(kind)


def decode_fields(form: Form, kind: type[Kind]) -> Kind:
    """A form's fields, whose numbers and truths are written as texts. Raises `InvalidRequest`."""
    try:
        return msgspec.convert(form.fields(), kind, strict=False)
    except msgspec.ValidationError as wrong:
        raise InvalidRequest(f"The form does not fit: {wrong}. Correct the field and try again.", code="invalid_type") from None


def model_named_in(body: bytes) -> str | None:
    """The model of a request that is wrong elsewhere, for its row."""
    try:
        model = decode(body, dict[str, msgspec.Raw]).get("model", b"null")
        return msgspec.json.decode(model, type=str)
    except (InvalidRequest, msgspec.DecodeError):
        return None


ESCAPED_NAME = re.compile(rb'\\u[0-9a-fA-F]{4}(?:[^"\\]++|\\[^u])*+"\s*:')
"""A field's name with an escaped character in it, from the last one on: so that a text of many is looked at once."""


def refuse_ambiguous_names(body: bytes, names: re.Pattern[bytes]) -> None:
    """Raises `InvalidRequest` where a field that decides what a call costs stands there twice, or in other letters.

    Which of two an upstream takes depends on its parser: some take the first, some ignore case. `names` matches the
    fields at any depth; only where that leaves a doubt is the body read in full.
    """
    found = [match.group(1) for match in names.finditer(body)]
    if len(set(found)) == len(found) and all(name.islower() for name in found) and not ESCAPED_NAME.search(body):
        return
    try:
        pairs = json.loads(body, object_pairs_hook=list)
    except (ValueError, RecursionError):
        raise InvalidRequest("The request body holds a number or a nesting that can't be read. Correct it.", code="invalid_json") from None
    fields = [name.lower() for name, _ in pairs if names.fullmatch(f'"{name.lower()}":'.encode())]
    exact = {name for name, _ in pairs}
    doubtful = next((name for name in fields if fields.count(name) > 1 or name not in exact), None)
    if doubtful is not None:
        raise InvalidRequest(f"The field {doubtful!r} must stand in the request once, in lower case.", code="ambiguous_field")


def names_in(value: bytes) -> set[bytes]:
    """The names of all fields in a JSON value, at any depth, as they are written: also those that stand there twice."""
    if b"\\" in value:
        value = value.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is left of a quote, begins or ends a string
    parts = value.split(b'"')
    return {parts[at] for at in range(1, len(parts) - 1, 2) if parts[at + 1].lstrip().startswith(b":")}


def changed(body: bytes, **changes: object | None) -> bytes:
    """The JSON object with the fields set anew that are not None; the same bytes where all are."""
    made = {name: value for name, value in changes.items() if value is not None}
    return replace_fields(body, made) if made else body


def replace_fields(body: bytes, changes: Mapping[str, object]) -> bytes:
    """The JSON object with some fields set anew; the values of all others keep their bytes."""
    fields: dict[str, object] = dict(decode(body, dict[str, msgspec.Raw]))
    fields.update(changes)
    return msgspec.json.encode(fields)
