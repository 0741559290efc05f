"""Between authenticate and admit: what a request names of what upstreams keep must be its own user's, and lie in one place."""

from app.catalog.callers import Caller
from app.errors import InvalidRequest
from app.gateway.protocols.kept import References
from app.ledger.objects import UpstreamObjects


async def place_of(objects: UpstreamObjects, caller: Caller, references: References) -> int | None:
    """The upstream that holds what the request refers to; None where it refers to nothing. Raises `InvalidRequest` for what
    the user didn't make, in the same words whether or not somebody else did, and `Unavailable`."""
    if references.mentioned:
        for theirs in await objects.of_others(caller.user_id, references.mentioned):
            raise _unknown(theirs)
    if not references.needed:
        return None
    places = await objects.places(caller.user_id, references.needed)
    for needed in references.needed:
        if needed not in places:
            raise _unknown(needed)
    held_at = set(places.values())
    if len(held_at) > 1:
        raise InvalidRequest(
            "What this request refers to by id lies at different upstreams. Send the content of what is older in its place.",
            code="references_apart",
        )
    return held_at.pop()


def _unknown(object_id: str) -> InvalidRequest:
    """As OpenAI says it of a response; its clients know the code."""
    if object_id.startswith("resp_"):
        return InvalidRequest(
            f"Previous response with id {object_id!r} not found. Send the whole conversation as `input`.",
            code="previous_response_not_found",
        )
    return InvalidRequest(f"Item with id {object_id!r} not found. Send its content in its place.", code="item_not_found")
