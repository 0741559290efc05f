"""Who made what upstreams keep, and where it lies. What comes with a call is written when the call is settled (`settle.sql`).

An id that a user didn't make is not there for them, whoever else made it. A database that is away or slow raises
`Unavailable`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import and_, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import ColumnElement

from app.database import Database
from app.errors import Unavailable
from app.ledger.background import PendingCall
from app.models import BackgroundCall, UpstreamObject


@dataclass(frozen=True, slots=True)
class KeptObject:
    """`pending`: the call that made it, while it goes on in the background; several, where its upstream gives ids again."""

    object_id: str
    upstream_id: int
    pending: tuple[PendingCall, ...] = ()


class UpstreamObjects:
    """`longest_wait`: seconds."""

    def __init__(self, database: Database, *, longest_wait: float) -> None:
        self._database = database
        self._longest_wait = longest_wait

    async def find(self, user_id: str, object_id: str) -> KeptObject | None:
        """What went on under the same id at another upstream is another thing."""
        its_call = and_(
            BackgroundCall.user_id == UpstreamObject.user_id,
            BackgroundCall.object_id == UpstreamObject.object_id,
            BackgroundCall.upstream_id == UpstreamObject.upstream_id,
        )
        query = select(UpstreamObject.upstream_id, BackgroundCall).outerjoin(BackgroundCall, its_call).where(_is(user_id, object_id))
        async with self._reading() as session:
            found = (await session.execute(query)).all()
        if not found:
            return None
        return KeptObject(object_id, found[0].upstream_id, tuple(PendingCall.of(call) for _, call in found if call is not None))

    async def places(self, user_id: str, object_ids: Sequence[str]) -> dict[str, int]:
        """Object id -> upstream, of those of the ids that are the user's."""
        query = select(UpstreamObject.object_id, UpstreamObject.upstream_id)
        async with self._reading() as session:
            found = await session.execute(query.where(UpstreamObject.user_id == user_id, UpstreamObject.object_id.in_(object_ids)))
            return {row.object_id: row.upstream_id for row in found}

    async def of_others(self, user_id: str, object_ids: Sequence[str]) -> set[str]:
        """Those of the ids that somebody made, but not this user."""
        query = select(UpstreamObject.object_id, UpstreamObject.user_id).where(UpstreamObject.object_id.in_(object_ids))
        async with self._reading() as session:
            made = (await session.execute(query)).all()
        return {object_id for object_id, _ in made} - {object_id for object_id, maker in made if maker == user_id}

    async def remember(self, user_id: str, object_ids: Sequence[str], *, upstream_id: int, request_id: UUID) -> None:
        """For what is made without a call of a model: conversations, and what is put into them."""
        common = {"user_id": user_id, "upstream_id": upstream_id, "request_id": request_id, "is_lasting": True}
        if object_ids:
            async with self._database.transaction() as session:
                made = insert(UpstreamObject).values([common | {"object_id": object_id} for object_id in dict.fromkeys(object_ids)])
                newest = {name: made.excluded[name] for name in ("upstream_id", "request_id", "is_lasting", "created_at")}
                await session.execute(made.on_conflict_do_update(index_elements=["object_id", "user_id"], set_=newest))

    async def forget(self, user_id: str, object_id: str) -> None:
        async with self._database.transaction() as session:
            await session.execute(delete(UpstreamObject).where(_is(user_id, object_id)))

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncSession]:
        try:
            async with asyncio.timeout(self._longest_wait), self._database.reading() as session:
                yield session
        except TimeoutError:
            raise Unavailable("The database is slow at the moment. Try again shortly.", code="database_unavailable") from None


def _is(user_id: str, object_id: str) -> ColumnElement[bool]:
    return and_(UpstreamObject.object_id == object_id, UpstreamObject.user_id == user_id)


async def forget_old(database: Database, *, age: float, most: int) -> int:
    """Forgets the oldest of those that came `age` seconds ago or more, `most` at once, but for what lies in conversations and what
    goes on in the background. Returns how many they were."""
    is_going = (
        select(BackgroundCall.request_id)
        .where(BackgroundCall.user_id == UpstreamObject.user_id, BackgroundCall.object_id == UpstreamObject.object_id)
        .exists()
    )
    is_old = UpstreamObject.created_at < func.clock_timestamp() - timedelta(seconds=age)
    old = (
        select(UpstreamObject.object_id, UpstreamObject.user_id)
        .where(~UpstreamObject.is_lasting, is_old, ~is_going)
        .order_by(UpstreamObject.created_at)
        .limit(most)
        .with_for_update(skip_locked=True)
        .cte("old")
    )
    forgotten = delete(UpstreamObject).where(tuple_(UpstreamObject.object_id, UpstreamObject.user_id).in_(select(old)))
    async with database.transaction() as session:
        return len((await session.execute(forgotten.returning(UpstreamObject.object_id))).all())
