"""What must be true after any fault, asked of PostgreSQL itself, of the clients, and of the upstream."""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any, Self

import asyncpg
from sqlalchemy import make_url

from app.database import Database as LedgerDatabase
from app.ledger.audit import audit
from tests.harness.answers import Usage
from tests.harness.books import wait_until
from tests.harness.load import Seen
from tests.harness.postgres import Database, connect
from tests.harness.scale import IS_FULL
from tests.ledger.sums import check

_CREDITS = """
    SELECT a.user_id, a.credit, coalesce(e.amount, 0) AS entries
    FROM aigcspace.account a
    LEFT JOIN (SELECT user_id, sum(amount) AS amount FROM aigcspace.credit_entry GROUP BY user_id) e USING (user_id)
    WHERE a.credit <> coalesce(e.amount, 0)
"""
_REPEATED = "SELECT request_id, count(*) FROM aigcspace.api_call_log WHERE request_id IS NOT NULL GROUP BY request_id HAVING count(*) > 1"
_HELD_AND_ENDED = "SELECT request_id FROM aigcspace.call_hold JOIN aigcspace.api_call_log USING (request_id)"
_LOWEST = "SELECT min(credit + credit_limit - spent - held) FROM aigcspace.account"


def assert_books(db: Database, *, at_rest_within: float | None = None) -> None:
    """Of all users: accounts, keys and roll-ups equal rows and holds, credit equals its entries, and no call has two rows,
    or a row and a hold. With `at_rest_within` (seconds), waits first until nothing is held, as it must be when all calls
    have ended and whoever died has been found out; then `billing-proxy audit` must find the same."""
    if at_rest_within is not None:
        nothing_held = "SELECT count(*) = 0 FROM aigcspace.call_hold"
        wait_until(lambda: db.value(nothing_held), what="no call holds money any longer", within=at_rest_within)
    check(db, [user["user_id"] for user in db.fetch("SELECT user_id FROM aigcspace.account")])
    for query in (_CREDITS, _REPEATED, _HELD_AND_ENDED):
        assert db.fetch(query) == []
    if at_rest_within is not None:
        assert db.value("SELECT coalesce(sum(held), 0) FROM aigcspace.account") == 0
        assert_audit(db)


def assert_audit(db: Database, *, lease: float = 30.0) -> None:
    """`billing-proxy audit` finds no difference."""

    async def differing() -> list[object]:
        database = LedgerDatabase(db.url)
        try:
            report = await audit(database, lease=lease)
        finally:
            await database.close()
        return [check for check in report.checks if check.differing]

    found = db.run(differing())
    assert found == [], found


def compare(clients: Sequence[Seen], rows: Sequence[Mapping[str, Any]], upstream_ledger: Sequence[Usage]) -> None:
    """When nothing is in flight or held any longer, and each spool is replayed. `rows` and `upstream_ledger` are all that
    these clients caused.

    An answer that began has one row, and one that came whole a row that says `success` and what the client was told. Counts
    that rows have from the provider are those that the upstream itself wrote down, each used once; what it wrote down
    beyond them belongs to rows that say they don't know: of calls that were cut off."""
    by_id = Counter(str(row["request_id"]) for row in rows)
    assert [request_id for request_id, times in by_id.items() if times > 1] == []
    row_of = {str(row["request_id"]): row for row in rows}
    for seen in clients:
        if seen.status != 200:
            continue
        row = row_of.get(str(seen.request_id))
        assert row is not None, f"no row of {seen}"
        if seen.is_whole:
            assert row["status"] == "success", (seen, dict(row))
        if seen.usage is not None:
            told = (seen.usage["prompt_tokens"], seen.usage["completion_tokens"])
            assert (row["input_tokens"], row["output_tokens"]) == told or not seen.is_whole, (seen, dict(row))
    counted = Counter((row["input_tokens"], row["output_tokens"]) for row in rows if row["usage_source"] == "provider")
    written_down = Counter((usage.input, usage.output) for usage in upstream_ledger)
    assert counted - written_down == Counter(), "rows with counts that the upstream never reported"
    unknown = sum(row["usage_source"] != "provider" for row in rows)
    assert (written_down - counted).total() <= unknown, "answers of the upstream that no row tells of"


class Sampler:
    """Looks, again and again as long as its block lasts, what the poorest account has left, and asserts at its end that it was
    never below zero. While the server is away it tries to come back."""

    PAUSE = 0.01 if IS_FULL else 0.05
    """Seconds."""

    def __init__(self, url: str) -> None:
        self.lowest: Decimal | None = None
        self.samples = self.connects = 0
        self._url = make_url(url)
        self._stopping = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sampler")
        self._done: Future[None] | None = None

    def __enter__(self) -> Self:
        self._done = self._thread.submit(asyncio.run, self._look())
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping.set()
        self._thread.shutdown(wait=False)
        assert self._done is not None
        self._done.result(30)
        if kind is not None:
            return
        assert self.samples, "the sampler never reached the database"
        assert self.lowest is None or self.lowest >= 0, f"an account was at {self.lowest}"

    async def _look(self) -> None:
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(10):
                    connection = await connect(self._url)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await asyncio.sleep(0.05)
                continue
            self.connects += 1
            try:
                await self._sample(connection)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                continue
            finally:
                connection.terminate()

    async def _sample(self, connection: asyncpg.Connection) -> None:
        while not self._stopping.is_set():
            left = await connection.fetchval(_LOWEST, timeout=10)
            self.samples += 1
            if left is not None:
                self.lowest = left if self.lowest is None else min(self.lowest, left)
            await asyncio.sleep(self.PAUSE)
