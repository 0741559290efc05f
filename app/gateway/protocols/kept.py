"""What providers keep of their answers: https://platform.openai.com/docs/guides/conversation-state.

An answer that is kept has an id, and so do the items in it, the containers in which its code was run, and the files that came
out of these. A later request may name them in place of their content: see `references`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import msgspec

from app.gateway.protocols.reports import UNREADABLE, object_of, objects_in

LONGEST_ID = 255
FINAL = frozenset({"completed", "incomplete", "failed", "cancelled"})
_UNDER_WAY = frozenset({"queued", "in_progress"})


@dataclass(frozen=True, slots=True)
class Kept:
    """`id`: the response's; `ids`: all by which something of it can be asked for. `status`: as the provider says.
    `is_background`: it goes on, whoever reads it. `is_lasting`: it lies in a conversation, or is a file of Anthropic's: these
    stay until they are deleted."""

    id: str
    ids: tuple[str, ...]
    status: str
    is_background: bool = False
    is_lasting: bool = False
    error: str | None = None

    @property
    def is_under_way(self) -> bool:
        return self.status in _UNDER_WAY

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    def after(self, told: "Kept | None") -> "Kept":
        """With what an earlier event of the same answer told."""
        if told is None:
            return self
        return replace(self, ids=tuple(dict.fromkeys((*told.ids, *self.ids))), is_lasting=self.is_lasting or told.is_lasting)


@dataclass(frozen=True, slots=True)
class References:
    """`needed`: the user must have made these. `mentioned`: nobody else must have."""

    needed: tuple[str, ...] = ()
    mentioned: tuple[str, ...] = ()


NO_REFERENCES = References()


class _Response(msgspec.Struct):
    id: str
    object: Any = None
    status: str | None = None
    output: Any = None
    content: Any = None
    choices: Any = None
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
    return _kept(response) if is_id(response.id) else None


def kept_of(response: object) -> Kept | None:
    """The same of a response that was read already."""
    try:
        read = msgspec.convert(response, _Response)
    except msgspec.ValidationError:
        return None
    return _kept(read) if is_id(read.id) else None


def items_made(answer: bytes) -> list[str]:
    """The ids in a list of items, as what puts them into a conversation answers with."""
    try:
        listed = object_of(msgspec.json.decode(answer)).get("data")
    except UNREADABLE:
        return []
    return list(filter(is_id, [item.get("id") for item in objects_in(listed)]))


def _kept(response: _Response) -> Kept:
    conversation = object_of(response.conversation).get("id")
    files = [file for block in objects_in(response.content) for file in files_of(block)]
    named = [response.id, conversation, object_of(response.container).get("id"), *_within(response), *files]
    error = object_of(response.error)
    return Kept(
        id=response.id,
        ids=tuple(dict.fromkeys(filter(is_id, named))),
        status=response.status or "completed",
        is_background=response.background is True,
        is_lasting=conversation is not None or response.object == "conversation" or bool(files),
        error=str(error.get("message") or error.get("code") or "failed") if error else None,
    )


def _within(response: _Response) -> Iterator[object]:
    """Items, spoken answers, containers and what came out of them. Files that are merely cited belong to nobody here."""
    for choice in objects_in(response.choices):
        yield object_of(object_of(choice.get("message")).get("audio")).get("id")
    for item in objects_in(response.output):
        yield from (item.get("id"), item.get("container_id"), object_of(item.get("environment")).get("container_id"))
        for part in objects_in(item.get("content")):
            cited = objects_in(part.get("annotations"))
            yield from (note.get("file_id") for note in cited if note.get("type") == "container_file_citation")


def files_of(block: dict[str, Any]) -> Iterator[object]:
    """The ids of the files that code made, in a block of an answer of Anthropic's:
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool."""
    if str(block.get("type")).endswith("code_execution_tool_result"):
        yield from (made.get("file_id") for made in objects_in(object_of(block.get("content")).get("content")))


def is_id(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_ID and value.isascii() and value.isprintable() and "/" not in value
