"""Old rows of the call log go to files, and out of the database; sums, balances and statements stay as they were.

A month (of `created_at`, so of LOG_TIME_ZONE) at a time, a file at a time:

    write       the rows, oldest first, to a file, which is read back and compared
    register    the file
    delete      its rows, `BATCH` in a transaction, which adds what they come to to `archived_usage`

It may be killed at any point: a file without a registration is written again, one whose rows aren't all deleted is read again
first. Rows are compared with what the file has of them when they are deleted; where one has changed, nothing more is done.

What stays: rows of the platform's own (without `request_id`); rows younger than `YOUNGEST`, which may be refunded, and may be
told again by the spool of a machine that was away; orphans younger than `YOUNGEST_ORPHAN` that nobody amended, whose truth
may come; and calls that hold something, or go on in the background. A record that comes later changes nothing: see `late` in
`settle.sql`. A call that is archived can't be refunded any more.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import NullPool, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.database import CONNECT_TIMEOUT
from app.ledger import archive_queries as queries
from app.ledger.archive_file import ArchivedRow, ArchiveFailed, Sums, read_file, write_file
from app.models import ApiCallLog, ArchiveFile

YOUNGEST = timedelta(days=30)
YOUNGEST_ORPHAN = timedelta(days=90)
FILE_ROWS = 20_000
BATCH = 500
_TURN = 0x61696764
"""The advisory lock of the one who archives."""

Progress = Callable[[int, int], None]
"""Rows that are done, and all that there are."""


class Archive:
    """`before`: rows whose `created_at` is older go, without a zone, as the column. `progress` is told after each batch."""

    def __init__(self, url: str, *, before: datetime, directory: Path, progress: Progress) -> None:
        self._engine: AsyncEngine = create_async_engine(
            url,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={
                "timeout": CONNECT_TIMEOUT,
                "command_timeout": None,
                "server_settings": {"application_name": "billing-proxy archive", "jit": "off", "timezone": "UTC"},
            },
        )
        self._before = before
        self._directory = directory
        self._progress = progress
        self._done = self._total = 0

    async def run(self) -> int:
        """Returns how many rows were deleted. Raises `ArchiveFailed`."""
        try:
            async with self._engine.connect() as turn, self._engine.connect() as connection:
                if not (await turn.execute(select(func.pg_try_advisory_lock(_TURN)))).scalar_one():
                    raise ArchiveFailed("somebody else is archiving just now: wait until they are done")
                await turn.commit()  # the lock is the session's
                await self._take_all(connection)
        finally:
            await self._engine.dispose()
        return self._done

    async def _take_all(self, connection: AsyncConnection) -> None:
        async with connection.begin():
            latest = (await connection.execute(queries.LATEST)).scalar_one()
            if self._before > latest:
                raise ArchiveFailed(f"rows younger than {YOUNGEST.days} days stay: give --before {latest:%Y-%m-%d} or an earlier date")
            self._total = (await connection.execute(queries.COUNT, {"before": self._before})).scalar_one()
        self._progress(0, self._total)
        async with connection.begin():
            begun = (await connection.execute(queries.UNFINISHED)).all()
        for file in begun:
            await self._delete(connection, file.id, list(read_file(self._directory / file.name)))
        while month := await self._oldest(connection):
            while rows := await self._write(connection, month):
                await self._delete(connection, *rows)

    async def _oldest(self, connection: AsyncConnection) -> datetime | None:
        """The month of the oldest row that is to go."""
        async with connection.begin():
            return (await connection.execute(queries.OLDEST, {"before": self._before})).scalar_one_or_none()

    async def _write(self, connection: AsyncConnection, month: datetime) -> tuple[int, list[ArchivedRow]] | None:
        """The next rows of the month, in a registered file; None where there are no more."""
        next_month = (month + timedelta(days=32)).replace(day=1)
        asked = {"start": month, "end": min(next_month, self._before), "most": FILE_ROWS}
        async with connection.begin():
            rows = (await connection.execute(queries.NEXT_ROWS, asked)).all()
            if not rows:
                return None
            number = (await connection.execute(queries.NEXT_NUMBER)).scalar_one()
            name = f"api_call_log-{month:%Y-%m}-{number:05}.ndjson.zst"
            expected = [ArchivedRow(row.id, Sums(1, row.bill, row.charge, row.write_off)) for row in rows]
            written = write_file(self._directory / name, (row.line for row in rows), expected)
            sums = _total(written)
            values = {"name": name, "rows": sums.rows, "bill": sums.bill, "charge": sums.charge, "write_off": sums.write_off}
            file_id = (await connection.execute(insert(ArchiveFile).values(values).returning(ArchiveFile.id))).scalar_one()
        return file_id, written

    async def _delete(self, connection: AsyncConnection, file_id: int, rows: Sequence[ArchivedRow]) -> None:
        for start in range(0, len(rows), BATCH):
            await self._delete_batch(connection, file_id, rows[start : start + BATCH])
        async with connection.begin():
            await connection.execute(update(ArchiveFile).where(ArchiveFile.id == file_id).values(finished_at=func.now()))

    async def _delete_batch(self, connection: AsyncConnection, file_id: int, rows: Sequence[ArchivedRow]) -> None:
        """Those of the rows that are there. Locked first, and added up then, as refunds take the same locks."""
        by_id = {row.id: row.sums for row in rows}
        async with connection.begin():
            query = select(ApiCallLog.id).where(ApiCallLog.id.in_(by_id)).order_by(ApiCallLog.id).with_for_update()
            there = (await connection.execute(query)).scalars().all()
            if not there:
                return
            gone = (await connection.execute(queries.DELETE, {"ids": there})).one()
            expected = _total([ArchivedRow(row_id, by_id[row_id]) for row_id in there])
            if Sums(gone.rows, gone.bill, gone.charge, gone.write_off) != expected:
                raise ArchiveFailed("rows have changed since they were written to their file, so that they stay: run `billing-proxy audit`")
            deleted = ArchiveFile.deleted + len(there)
            await connection.execute(update(ArchiveFile).where(ArchiveFile.id == file_id).values(deleted=deleted))
        self._done += len(there)
        self._progress(self._done, max(self._done, self._total))


def _total(rows: Sequence[ArchivedRow]) -> Sums:
    return sum((row.sums for row in rows), Sums())
