"""The call log as a stream, oldest first, as far as it is final.

PostgreSQL writes the rows out, and they pass through as they come: what is in memory doesn't grow with what is exported. An export
has a connection of its own, without a time limit; when its client leaves, the connection ends and with it the query.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

from sqlalchemy import ColumnElement, DateTime, NullPool, String, Text, case, cast, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine

from app.database import CONNECT_TIMEOUT, Database, reachable
from app.errors import LimitExceeded, UnacceptableValue
from app.models import ApiCallLog
from app.reports.calls import CallFilters, Visibility, after, in_order, matching
from app.reports.horizon import final_before
from app.spreadsheet import FORMULA_STARTS

Format = Literal["csv", "ndjson"]
Send = Callable[[bytes], Awaitable[None]]
AT_ONCE = 2
"""Exports of one process: each has a connection of its own."""
BYTE_ORDER_MARK = "\ufeff".encode()
_FORMULA_STARTS = [start.encode().hex() for start in FORMULA_STARTS]
"""As PostgreSQL compares them in any encoding of the database, also one that has no such letters."""
_NEVER_IN_JSON = {"quote": "\x01", "delimiter": "\x02"}


class Exports:
    """Those that this process has under way."""

    def __init__(self, database: Database) -> None:
        self._url = database.engine.url
        self._under_way = 0

    @asynccontextmanager
    async def starting(self) -> AsyncIterator[AsyncConnection]:
        """Raises `LimitExceeded` beyond `AT_ONCE`."""
        if self._under_way >= AT_ONCE:
            raise LimitExceeded(f"{AT_ONCE} exports are under way. Try again when one has ended.", code="too_many_exports", retry_after=10)
        settings = {"application_name": "billing-proxy export", "jit": "off", "timezone": "UTC", "statement_timeout": "0"}
        arguments = {"timeout": CONNECT_TIMEOUT, "command_timeout": None, "server_settings": settings}
        engine = create_async_engine(self._url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
        self._under_way += 1
        try:
            async with reachable():
                connection = await engine.connect()
            try:
                yield connection
            finally:
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver is not None
                driver.terminate()  # which ends a query that is under way
                await connection.invalidate()
                await connection.close()
        finally:
            self._under_way -= 1
            await engine.dispose()


async def export_query(
    connection: AsyncConnection, *, visibility: Visibility, filters: CallFilters, zone: str, format: Format, after_id: int | None
) -> str:
    """As COPY takes it. `after_id`: of the last row that is there already; raises `UnacceptableValue` where there is none."""
    async with AsyncSession(connection) as session:
        conditions = matching(visibility, filters, zone)
        if after_id is not None:
            conditions.append(await _following(session, after_id))
        conditions.append(ApiCallLog.created_at < await final_before(session, zone=zone))
    query = in_order(select(*_columns(format, zone)).where(*conditions), "oldest")
    if format == "ndjson":
        line = query.subquery("line")  # which keeps its order
        query = select(func.row_to_json(literal_column("line"))).select_from(line)
    return str(query.compile(connection.engine.sync_engine, compile_kwargs={"literal_binds": True}))


async def export(connection: AsyncConnection, sql: str, send: Send, *, format: Format, with_header: bool) -> None:
    """Gives `send` bytes, ready to go."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    # a page at a time of an index, so that the first rows come at once and nothing is sorted as a whole
    await driver.execute("SET enable_sort = off; SET enable_seqscan = off; SET enable_bitmapscan = off")
    if format == "csv":
        await driver.copy_from_query(sql, output=send, format="csv", header=with_header)
    else:
        await driver.copy_from_query(sql, output=send, format="csv", **_NEVER_IN_JSON)


async def _following(session: AsyncSession, last: int) -> ColumnElement[bool]:
    created_at = (await session.execute(select(ApiCallLog.created_at).where(ApiCallLog.id == last))).scalar_one_or_none()
    if created_at is None:
        raise UnacceptableValue(
            "cursor: there is no call with this `id`. Give the `id` of the last row that you have; or `created_from`.",
            code="invalid_cursor",
        )
    return after(created_at, last, "oldest")


def _columns(format: Format, zone: str) -> list[ColumnElement[Any]]:
    named = {column.name: _moment(column, zone) if isinstance(column.type, DateTime) else column for column in ApiCallLog.__table__.columns}
    if format == "csv":
        return [_harmless(column).label(name) for name, column in named.items()]
    money = {name: cast(column, Text) for name, column in named.items() if name in ("bill", "charge", "write_off")}
    return [money.get(name, column).label(name) for name, column in named.items()]


def _moment(column: ColumnElement[Any], zone: str) -> ColumnElement[Any]:
    """In UTC, which is the zone of this connection; one that is stored without a zone is in `zone`."""
    whole = column if column.type.timezone else func.timezone(zone, column)  # type: ignore[attr-defined]
    return func.to_char(whole, literal_column('\'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\''))


def _harmless(column: Any) -> ColumnElement[Any]:
    """As `as_text` has it."""
    if not isinstance(column.type, String):
        return cast(column, Text) if column.type.python_type in (dict, list) else column
    start = func.encode(func.convert_to(func.left(column, 1), "UTF8"), "hex")
    return case((start.in_(_FORMULA_STARTS), literal_column("''''").op("||")(column)), else_=column)
