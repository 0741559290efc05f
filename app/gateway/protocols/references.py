"""What a request names of what upstreams keep, by its id: earlier answers, items in them, conversations, containers, files,
spoken answers. https://platform.openai.com/docs/guides/conversation-state has OpenAI's.

It must be read as every upstream's parser may read it: a name on the way to an id that stands in its object twice, or in
other letters, is refused, as some parsers take the first of two, and some ignore case.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from app.errors import InvalidRequest
from app.gateway.protocols.base import ESCAPED_NAME
from app.gateway.protocols.kept import LONGEST_ID, NO_REFERENCES, References, is_id
from app.gateway.protocols.reports import object_of, objects_in

MOST_REFERENCES = 1000

_NAMES = frozenset(
    {
        "audio", "container", "container_id", "content", "conversation", "encrypted_content", "environment", "file", "file_id",
        "file_ids", "id", "input", "input_image_mask", "items", "messages", "output", "previous_response_id", "result", "source",
        "tools", "type",
    }
)  # fmt: skip
"""The names that say whether something is a reference, and to what."""
_NAMED = re.compile(rb'"(%s)"\s*:' % "|".join(sorted(_NAMES)).encode(), re.IGNORECASE)
REFERRING = (b'"id"', b'"container', b'"conversation"', b'"previous_response_id"', b'"file_id')
"""What a request to `/v1/responses` may name something by."""
REFERRING_IN_MESSAGES = (b'"container"', b'"file_id"')
_IN_RESPONSES = frozenset({"container", "content", "conversation", "environment", "input", "input_image_mask", "items", "output", "tools"})
_IN_CHAT = frozenset({"audio", "content", "file", "messages"})
_IN_MESSAGES = frozenset({"container", "content", "messages", "source"})
"""Where ids may stand. Elsewhere, as in a tool's parameters, such names are the client's own."""


class _Pairs(list[tuple[str, Any]]):
    """An object's fields as they are written, also those that stand there twice."""


def may_refer(body: bytes, referring: tuple[bytes, ...]) -> bool:
    """Whether there may be an id of what the provider keeps. Looks for fixed bytes, as most requests have none: an expression
    that ignores case takes four times as long."""
    lower = body.lower()
    return any(lower.find(name) >= 0 for name in referring) or ESCAPED_NAME.search(body) is not None


def of_responses(body: bytes, request: dict[str, Any]) -> References:
    """Of a request to `/v1/responses`, or for a conversation, whose items are its `items`. Raises `InvalidRequest` for one
    that names nothing, and one that can be read in two ways."""
    _refuse_ambiguous(body, request, _IN_RESPONSES)
    needed = [_named(request, name) for name in ("previous_response_id", "conversation")]
    mentioned: list[object] = []
    for items in (request.get("input"), request.get("items")):
        for item in objects_in(items):
            needed += _needed_by_item(item)
            if item.get("type") in ("reasoning", "compaction") and not item.get("content") and not item.get("encrypted_content"):
                mentioned.append(item.get("id"))
            mentioned += [part.get("file_id") for parts in (item.get("content"), item.get("output")) for part in objects_in(parts)]
            mentioned += [item.get("file_id"), object_of(item.get("output")).get("file_id")]
    for tool in objects_in(request.get("tools")):
        container = tool.get("container")
        needed += _of_container(container) if isinstance(container, dict) else [container if isinstance(container, str) else None]
        needed += _of_container(object_of(tool.get("environment")))
        mentioned.append(object_of(tool.get("input_image_mask")).get("file_id"))
    return _references(needed, mentioned)


def of_chat(body: bytes, request: dict[str, Any]) -> References:
    """Of a request to `/v1/chat/completions`: a spoken answer that is referred to, and files."""
    _refuse_ambiguous(body, request, _IN_CHAT)
    needed: list[str | None] = []
    mentioned: list[object] = []
    for message in objects_in(request.get("messages")):
        audio = message.get("audio")
        if audio is not None:
            needed.append(_id(object_of(audio).get("id"), "`audio` of a message"))
        for part in objects_in(message.get("content")):
            mentioned += [part.get("file_id"), object_of(part.get("file")).get("file_id")]
    return _references(needed, mentioned)


def of_messages(body: bytes, request: dict[str, Any]) -> References:
    """Of a request to `/v1/messages`: a container in which earlier code was run, by its id or as an object that may have one,
    and files."""
    _refuse_ambiguous(body, request, _IN_MESSAGES)
    container = request.get("container")
    is_new = container is None or (isinstance(container, dict) and container.get("id") is None)
    waiting: list[Any] = [message.get("content") for message in objects_in(request.get("messages"))]
    mentioned: list[object] = []
    while waiting:
        for block in objects_in(waiting.pop()):
            content, source = block.get("content"), object_of(block.get("source"))
            waiting += [[content] if isinstance(content, dict) else content, source.get("content")]
            mentioned += [block.get("file_id"), source.get("file_id")]
    return _references([] if is_new else [_named(request, "container")], mentioned)


def _needed_by_item(item: dict[str, Any]) -> Iterator[str | None]:
    kind = item.get("type")
    if kind == "item_reference" or (kind is None and item.get("content") is None):
        yield _id(item.get("id"), "an item reference")
    elif kind == "image_generation_call" and not item.get("result"):
        yield _id(item.get("id"), "an image of an earlier response")
    for where in (item, object_of(item.get("environment"))):
        if isinstance(where.get("container_id"), str):
            yield _id(where["container_id"], "a container")


def _of_container(container: dict[str, Any]) -> list[str | None]:
    """Files that are put into a new one must be the user's own: whatever is asked of it could read them out."""
    named = container.get("container_id")
    files = container.get("file_ids")
    found = [_id(named, "a container")] if isinstance(named, str) else []
    return [*found, *(_id(file, "`file_ids`") for file in (files if isinstance(files, list) else ()))]


def _references(needed: list[str | None], mentioned: list[object]) -> References:
    found = References(tuple(filter(None, needed)), tuple(filter(is_id, mentioned)))
    if len(found.needed) + len(found.mentioned) > MOST_REFERENCES:
        raise InvalidRequest(
            f"The request refers to more than {MOST_REFERENCES} things by id. Send their content.", code="too_many_references"
        )
    return found if found.needed or found.mentioned else NO_REFERENCES


def _named(request: dict[str, Any], name: str) -> str | None:
    value = request.get(name)
    if value is None:
        return None
    return _id(value.get("id") if isinstance(value, dict) else value, f"`{name}`")


def _id(value: object, what: str) -> str:
    if not is_id(value):
        raise InvalidRequest(f"{what} must name what it refers to, by an id of at most {LONGEST_ID} characters.", code="invalid_reference")
    return value


def _refuse_ambiguous(body: bytes, read: dict[str, Any], places: frozenset[str]) -> None:
    """`read`: what was made of the body here. Only where that can't be all that stands there is it looked at name by name."""
    names = _NAMED.findall(body)
    if all(map(bytes.islower, names)) and not ESCAPED_NAME.search(body) and len(names) == _count(read):
        return
    try:
        whole = json.loads(body, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        raise InvalidRequest("The request body holds a number or a nesting that can't be read. Correct it.", code="invalid_json") from None
    waiting = [whole]
    while waiting:
        value = waiting.pop()
        if not isinstance(value, _Pairs):
            waiting += value if isinstance(value, list) else ()
            continue
        written = [name for name, _ in value]
        lower = [name.lower() for name in written]
        for name in lower:
            if name in _NAMES and (lower.count(name) > 1 or name not in written):
                _refuse(name)
        waiting += [held for name, held in value if name in places]


def _refuse(name: str) -> NoReturn:
    raise InvalidRequest(f"The field {name!r} must stand in its object once, in lower case.", code="ambiguous_field")


def _count(read: object) -> int:
    """How often the names stand in it, at any depth."""
    found = 0
    waiting = [read]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            found += sum(name in _NAMES for name in value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found
