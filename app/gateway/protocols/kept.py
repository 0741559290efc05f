"""What OpenAI keeps of responses, and how requests refer to it: https://platform.openai.com/docs/guides/conversation-state.

An answer that is kept has an id, and so do the items in it. A later request may name them in place of their content.
"""

from dataclasses import dataclass
from typing import Any, TypeGuard

import msgspec

from app.errors import InvalidRequest
from app.gateway.protocols.reports import UNREADABLE, object_of

LONGEST_ID = 255
MOST_REFERENCES = 1000
FINAL = frozenset({"completed", "incomplete", "failed", "cancelled"})
_UNDER_WAY = frozenset({"queued", "in_progress"})


@dataclass(frozen=True, slots=True)
class Kept:
    """`id`: the response's; `ids`: all by which something of it can be asked for. `status`: as the provider says.
    `is_background`: it goes on, whoever reads it."""

    id: str
    ids: tuple[str, ...]
    status: str
    is_background: bool = False
    error: str | None = None

    @property
    def is_under_way(self) -> bool:
        return self.status in _UNDER_WAY

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class References:
    """`needed`: the user must have made these. `mentioned`: nobody else must have."""

    needed: tuple[str, ...] = ()
    mentioned: tuple[str, ...] = ()


NO_REFERENCES = References()


class _Response(msgspec.Struct):
    id: str
    status: str | None = None
    output: Any = None
    conversation: Any = None
    container: Any = None
    background: Any = None
    error: Any = None


_responses = msgspec.json.Decoder(_Response)


def kept_in(answer: bytes) -> Kept | None:
    """None where it is no response."""
    try:
        response = _responses.decode(answer)
    except UNREADABLE:
        return None
    return _kept(response) if _is_id(response.id) else None


def kept_of(response: object) -> Kept | None:
    """The same of a response that was read already."""
    try:
        return _kept(msgspec.convert(response, _Response))
    except msgspec.ValidationError:
        return None


def _kept(response: _Response) -> Kept:
    items = [object_of(item) for item in response.output] if isinstance(response.output, list) else []
    named = [response.id, object_of(response.conversation).get("id"), object_of(response.container).get("id")]
    named += [item.get(name) for item in items for name in ("id", "container_id")]
    error = object_of(response.error)
    return Kept(
        id=response.id,
        ids=tuple(dict.fromkeys(filter(_is_id, named))),
        status=response.status or "completed",
        is_background=response.background is True,
        error=str(error.get("message") or error.get("code") or "failed") if error else None,
    )


def references_in(request: dict[str, Any]) -> References:
    """Of a request to `/v1/responses`. Raises `InvalidRequest` for one that names nothing."""
    needed = [_named(request, name) for name in ("previous_response_id", "conversation")]
    mentioned = []
    items = request.get("input")
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        if item.get("type") == "item_reference" or (item.get("type") is None and item.get("content") is None):
            needed.append(_id(item.get("id"), "an item reference"))
        elif item.get("type") == "image_generation_call" and not item.get("result"):
            needed.append(_id(item.get("id"), "an image of an earlier response"))
        elif isinstance(item.get("container_id"), str):
            needed.append(_id(item["container_id"], "a container"))
        elif item.get("type") == "reasoning" and not item.get("content") and not item.get("encrypted_content"):
            mentioned.append(item.get("id"))
    tools = request.get("tools")
    listed = [object_of(tool) for tool in tools] if isinstance(tools, list) else []
    containers = [tool.get("container") for tool in listed] + [object_of(tool.get("environment")).get("container_id") for tool in listed]
    needed += [container for container in containers if isinstance(container, str)]
    found = References(tuple(filter(None, needed)), tuple(filter(_is_id, mentioned)))
    if len(found.needed) + len(found.mentioned) > MOST_REFERENCES:
        raise InvalidRequest(
            f"The request refers to more than {MOST_REFERENCES} things by id. Send their content.", code="too_many_references"
        )
    return found


def container_in(request: dict[str, Any]) -> References:
    """Of a request to `/v1/messages`: a container in which earlier code was run, by its id or as an object that may have one."""
    container = request.get("container")
    if container is None or (isinstance(container, dict) and container.get("id") is None):
        return NO_REFERENCES
    return References(tuple(filter(None, [_named(request, "container")])))


def _named(request: dict[str, Any], name: str) -> str | None:
    value = request.get(name)
    if value is None:
        return None
    return _id(value.get("id") if isinstance(value, dict) else value, f"`{name}`")


def _id(value: object, what: str) -> str:
    if not _is_id(value):
        raise InvalidRequest(f"{what} must name what it refers to, by an id of at most {LONGEST_ID} characters.", code="invalid_reference")
    return value


def _is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isascii() and value.isprintable() and "/" not in value
