"""Audit entries: who changed what, written in the transaction of the change, so that there is neither without the other.

Who is `session.info["actor"]`: an operator of REST or the holder of a key, as `api.dependencies` has named them; else the user
of the operating system who runs this process. Secrets are never among what is kept: whoever writes an entry names the fields
that it has.
"""

import os
import pwd
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import ACTOR
from app.models import AuditEntry

Fields = Mapping[str, Any]
SET_ANEW = "set anew"
"""What is told of a secret."""
LONGEST_OBJECT, LONGEST_ACTOR = 255, 150


def picked(row: object, names: Sequence[str]) -> dict[str, Any]:
    """The fields of a row that an entry tells, as they are now."""
    return {name: getattr(row, name) for name in names}


async def record_change(session: AsyncSession, kind: str, of: object, *, before: Fields | None, after: Fields | None) -> None:
    """`kind.create` where `before` is None, `kind.delete` where `after` is; else what differs, as `kind.disable`, `kind.enable` or
    `kind.change`. Where nothing differs there is no entry."""
    if before is None or after is None:
        action = "create" if before is None else "delete"
        await record(session, f"{kind}.{action}", kind, of, before=_set_fields(before), after=_set_fields(after))
        return
    differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if not differing:
        return
    action = "change"
    if "disabled" in differing:
        action = "disable" if after["disabled"] else "enable"
    was, became = ({name: fields[name] for name in differing if name in fields} for fields in (before, after))
    await record(session, f"{kind}.{action}", kind, of, before=was, after=became)


async def record(session: AsyncSession, action: str, kind: str, of: object, *, before: Fields | None, after: Fields | None) -> None:
    await record_all(session, action, kind, [(of, before, after)])


async def record_all(session: AsyncSession, action: str, kind: str, changes: Sequence[tuple[object, Fields | None, Fields | None]]) -> None:
    """The same action on many objects: of each what it is called, how it was, and how it is now."""
    every = {"actor": _actor(session)[:LONGEST_ACTOR], "action": action, "object_kind": kind}
    rows = [
        {**every, "object_id": str(of)[:LONGEST_OBJECT], "before": _as_json(before), "after": _as_json(after)}
        for of, before, after in changes
    ]
    if rows:
        await session.execute(insert(AuditEntry), rows)


def _actor(session: AsyncSession) -> str:
    named = session.info.get(ACTOR)
    return named if isinstance(named, str) else f"cli:{_system_user()}"


def _system_user() -> str:
    """Not what the environment says, which anybody can set."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _set_fields(fields: Fields | None) -> Fields | None:
    return None if fields is None else {name: value for name, value in fields.items() if value is not None}


def _as_json(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case Decimal():
            return f"{value:f}"
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Mapping():
            return {str(name): _as_json(part) for name, part in value.items()}
        case list() | tuple():
            return [_as_json(part) for part in value]
    raise TypeError(f"an audit entry can't tell a {type(value).__name__}")
