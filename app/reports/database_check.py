"""Whether the database is as the ledger needs it: for `billing-proxy doctor`. It only reads."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import Connection, Table, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import SCHEMA, Base
from app.errors import StartupError
from app.models import ApiCallLog, PlatformApiKey, User
from app.reports.findings import Finding, ok, warning, wrong
from app.runtime.found_tables import WantedIndex, columns, is_valid, require_writable
from app.runtime.platform_keys import PlatformKeys

AREA = "database"
LARGEST_SKEW = 2.0
"""Seconds between the clocks of the database and of this machine."""
AHEAD = 300
"""Seconds that a row may seem to lie in the future."""


@dataclass(frozen=True, slots=True)
class Needs:
    """`connections`: of all the processes of this installation. `lease`: seconds."""

    connections: int
    zone: str
    lease: float
    platform_keys: PlatformKeys | None


async def server(session: AsyncSession, needs: Needs) -> AsyncIterator[Finding]:
    """What holds before the first migration, too."""
    query = """
        SELECT current_setting('server_version'), current_setting('server_encoding'), current_setting('synchronous_commit'),
            current_setting('fsync'), current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
            (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND application_name NOT LIKE 'billing-proxy%'),
            EXISTS (SELECT FROM pg_timezone_names WHERE name = :zone)
    """
    version, encoding, synchronous, fsync, most, others, knows_zone = (await session.execute(text(query), {"zone": needs.zone})).one()
    yield ok(AREA, f"PostgreSQL {version} answers")
    if encoding == "UTF8":
        yield ok(AREA, "encoding UTF8")
    else:
        yield warning(AREA, f"encoding {encoding}: names that it has no letters for can't be stored", "move to a database in UTF8")
    if synchronous == "off" or fsync == "off":
        yield wrong(
            AREA,
            f"synchronous_commit is {synchronous}, fsync is {fsync}: a crash of the server loses calls that were let through",
            "set both to on",
        )
    else:
        yield ok(AREA, f"commits are durable (synchronous_commit {synchronous}, fsync on)")
    if needs.connections + others > most:
        yield wrong(
            AREA,
            f"{needs.connections} connections are needed here, {others} are others', and {most} are allowed",
            "raise max_connections, or lower WORKERS or DATABASE_POOL",
        )
    else:
        yield ok(AREA, f"{needs.connections} connections are needed, {most - others} are to be had")
    if not knows_zone:
        yield wrong(AREA, f"the server doesn't know the time zone {needs.zone}", "set LOG_TIME_ZONE to one of pg_timezone_names")
    yield await _clock(session)


async def _clock(session: AsyncSession) -> Finding:
    before = time.time()
    theirs = float((await session.execute(text("SELECT extract(epoch FROM clock_timestamp())"))).scalar_one())
    skew = theirs - (before + time.time()) / 2
    if abs(skew) > LARGEST_SKEW:
        return warning("clock", f"the database's clock is {skew:+.1f} s from this machine's", "let NTP set both clocks")
    return ok("clock", f"the database's clock and this machine's are {abs(skew):.1f} s apart")


async def migrations(session: AsyncSession, *, head: str, table: str) -> Finding:
    """`head`: the newest version that this program knows."""
    if (await session.execute(text("SELECT to_regclass(:name)"), {"name": f"{SCHEMA}.{table}"})).scalar_one() is None:
        return wrong("migrations", "the database was never migrated", "run `billing-proxy migrate`")
    version = (await session.execute(text(f"SELECT max(version_num) FROM {SCHEMA}.{table}"))).scalar_one()
    if version != head:
        return wrong(
            "migrations", f"the database is at {version}, this program at {head}", "run `billing-proxy migrate`, or update the program"
        )
    return ok("migrations", f"the database is at {head}, as this program")


async def tables(session: AsyncSession, needs: Needs) -> list[Finding]:
    """Those that the platform may have made."""
    connection = await session.connection()
    return await connection.run_sync(lambda sync: [*_foreign_columns(sync), *_indexes(sync), *_platform_keys(sync, needs.platform_keys)])


def _foreign_columns(connection: Connection) -> list[Finding]:
    found = []
    for table, made_by in ((User, "POST /admin/users"), (PlatformApiKey, "POST /admin/keys"), (ApiCallLog, None)):
        own = table.__table__.columns
        theirs = {name: column for name, column in columns(connection, table.__tablename__).items() if name not in own}
        unfilled = ", ".join(name for name, column in theirs.items() if not column.nullable and not column.filled)
        where = f"{SCHEMA}.{table.__tablename__}"
        if unfilled and made_by is not None:
            found.append(
                warning(
                    "tables",
                    f"{where} has {unfilled} NOT NULL without a default: {made_by} answers with a 409",
                    "give them defaults, or make such rows where your platform does",
                )
            )
        elif theirs:
            found.append(ok("tables", f"{where} has columns of the platform's: {', '.join(sorted(theirs))}"))
    try:
        require_writable(connection, _table_of(ApiCallLog))
    except StartupError as refused:
        found.append(wrong("tables", str(refused), "give the column a default"))
    return found


def _table_of(model: type[Base]) -> Table:
    assert isinstance(model.__table__, Table)
    return model.__table__


def _indexes(connection: Connection) -> list[Finding]:
    wanted = [index for table in (User, PlatformApiKey, ApiCallLog) for index in WantedIndex.of(_table_of(table))]
    missing = [index for index in wanted if not is_valid(connection, index.name)]
    if not missing:
        return [ok("tables", f"all {len(wanted)} indexes of the shared tables are valid")]
    return [_missing(index) for index in missing]


def _missing(index: WantedIndex) -> Finding:
    on = f"{SCHEMA}.{index.table} ({', '.join(index.columns)})"
    unique = "UNIQUE " if index.unique else ""
    return wrong(
        "tables", f"the index {index.name} on {on} is missing or invalid", f"CREATE {unique}INDEX CONCURRENTLY {index.name} ON {on}"
    )


def _platform_keys(connection: Connection, keys: PlatformKeys | None) -> list[Finding]:
    if keys is None:
        return []
    if keys.column not in columns(connection, PlatformApiKey.__tablename__):
        return [wrong("platform keys", f"there is no column {keys.column!r} in platform_api_key", "correct PLATFORM_KEY_COLUMN")]
    if not is_valid(connection, keys.index):
        return [wrong("platform keys", f"the index of {keys.column!r} is missing", "run `billing-proxy migrate`, which builds it")]
    held = f"SELECT {keys.digest} AS digest FROM {SCHEMA}.platform_api_key WHERE key_hash IS NULL AND {keys.held} <> ''"
    several = f"SELECT count(*) FROM (SELECT digest FROM ({held}) AS held GROUP BY digest HAVING count(*) > 1) AS several"
    twice = connection.exec_driver_sql(several).scalar_one()
    if twice:
        return [
            warning(
                "platform keys",
                f"{twice} keys in {keys.column!r} are those of several rows: the newest row counts",
                "let each key be in one row",
            )
        ]
    return [ok("platform keys", f"keys in {keys.column!r} ({keys.format}) are found by an index")]


async def triggers(session: AsyncSession) -> Finding:
    """Those that tell of changes."""
    query = """
        SELECT count(*) FILTER (WHERE tgenabled = 'D'), count(*) FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
        WHERE proname IN ('caller_changed', 'catalog_changed') AND pronamespace = to_regnamespace(:schema)
    """
    disabled, all_ = (await session.execute(text(query), {"schema": SCHEMA})).one()
    if disabled:
        return wrong("changes", f"{disabled} of {all_} triggers that tell of changes are disabled", "ALTER TABLE ... ENABLE TRIGGER ALL")
    return ok("changes", f"{all_} triggers tell of changes")


async def rows_ahead(session: AsyncSession, zone: str) -> Finding:
    """Whether the platform's own rows are in the zone that was named."""
    query = """
        SELECT extract(epoch FROM max(created_at) - clock_timestamp() AT TIME ZONE :zone)::float8 FROM aigcspace.api_call_log
    """
    ahead = (await session.execute(text(query), {"zone": zone})).scalar_one_or_none()
    if ahead is not None and ahead > AHEAD:
        return warning(
            "clock",
            f"the newest row of api_call_log is {ahead / 3600:.1f} h ahead of {zone}",
            "set LOG_TIME_ZONE to the zone in which your platform writes created_at",
        )
    return ok("clock", f"created_at is in {zone}")


async def holds(session: AsyncSession, lease: float) -> Finding:
    """Whose processes have died. Any process ends them, when it has run for a lease."""
    query = """
        SELECT count(*), coalesce(sum(amount), 0) FROM aigcspace.call_hold
        LEFT JOIN aigcspace.instance ON instance.id = instance_id
        WHERE (instance.id IS NULL OR lease_until < clock_timestamp())
            AND NOT EXISTS (SELECT FROM aigcspace.background_call WHERE background_call.request_id = call_hold.request_id)
    """
    left, amount = (await session.execute(text(query))).one()
    if left:
        return warning(
            "holds", f"{left} calls of processes that have died hold {amount:f}", f"start a proxy: it ends them after {2 * lease:g} s"
        )
    return ok("holds", "every call in flight has a living process, or goes on in the background")
