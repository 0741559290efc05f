"""What the audit asks of the database."""

from decimal import Decimal
from typing import Any

from sqlalchemy import JSON, Interval, Text, and_, bindparam, cast, exists, func, literal_column, or_, select, text, true

from app.database import SCHEMA
from app.ledger.audit_balance import HISTOGRAMS, MEASURES, Group
from app.models import (
    Account,
    ApiCallLog,
    ArchivedUsage,
    ArchiveFile,
    BackgroundCall,
    CallHold,
    CreditEntry,
    Instance,
    KeyMeter,
    PlatformApiKey,
    UsageHourly,
    UsagePeriod,
)

CUT = Decimal("0.00005")
"""How far a sum of bills and the sum of its charges may be apart. A row's bill is the difference of two such sums."""
_LARGEST_COST = 1_000_000_000


def _hour_of(moment: Any) -> Any:
    return func.date_trunc(literal_column("'hour'"), moment, literal_column("'UTC'"))


NO_TIMEOUTS = text(
    "SELECT set_config(name, '0', true) FROM pg_settings"
    " WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
ESTIMATE = text(f"EXPLAIN (FORMAT JSON) SELECT FROM {SCHEMA}.api_call_log").columns(plan=JSON)
IS_UNIQUE = text(f"""
    SELECT EXISTS (
        SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
        WHERE indrelid = '{SCHEMA}.api_call_log'::regclass AND attname = 'request_id' AND indnkeyatts = 1
            AND indisunique AND indisvalid AND indpred IS NULL
    )
""")
_OF_ACCOUNT = and_(Account.user_id == UsageHourly.user_id, UsageHourly.hour >= _hour_of(Account.created_at))
ROLL_UPS = select(*(getattr(UsageHourly, name) for name in (*Group._fields, "api_key_id", *MEASURES))).join(Account, _OF_ACCOUNT)
_OF_ARCHIVED = and_(Account.user_id == ArchivedUsage.user_id, ArchivedUsage.bucket >= _hour_of(Account.created_at))
ARCHIVED = (
    select(
        _hour_of(ArchivedUsage.bucket),
        *(getattr(ArchivedUsage, name) for name in Group._fields[1:]),
        PlatformApiKey.id,
        *(getattr(ArchivedUsage, name) for name in MEASURES),
        ArchivedUsage.refunded,
    )
    .select_from(ArchivedUsage)
    .join(Account, _OF_ARCHIVED)
    .outerjoin(PlatformApiKey, PlatformApiKey.id == ArchivedUsage.api_key_id)
)
"""As `ROWS_BY_GROUP`: of a key that was deleted, rows have none."""
ARCHIVED_CALLS = select(
    select(func.coalesce(func.sum(ArchivedUsage.calls), 0)).scalar_subquery(),
    select(func.coalesce(func.sum(ArchiveFile.deleted), 0)).scalar_subquery(),
)
_SOUND = and_(
    ApiCallLog.charge.between(0, _LARGEST_COST),
    ApiCallLog.write_off.between(0, _LARGEST_COST),
    ApiCallLog.bill >= 0,
    func.abs(ApiCallLog.bill - ApiCallLog.charge) <= 2 * CUT,
)
_LATENCIES = {"latencies": ApiCallLog.latency_ms, "first_tokens": ApiCallLog.first_token_ms}


def _measure_of_rows(name: str) -> Any:
    return getattr(func, SCHEMA).latency_bucket(_LATENCIES[name]) if name in HISTOGRAMS else getattr(ApiCallLog, name)


ROWS_BY_GROUP = select(
    _hour_of(ApiCallLog.settled_at).label("hour"),
    ApiCallLog.user_id,
    ApiCallLog.model_name,
    func.coalesce(ApiCallLog.upstream_id, 0),
    func.coalesce(ApiCallLog.api, ""),
    ApiCallLog.status,
    ApiCallLog.is_local,
    ApiCallLog.api_key_id,
    func.count().label("calls"),
    *(func.coalesce(func.sum(_measure_of_rows(name)), 0).label(name) for name in MEASURES[1:]),
    func.count().filter(_SOUND.is_not(true())).label("unsound"),
).group_by(text("1, 2, 3, 4, 5, 6, 7, 8"))
_written_off = func.coalesce(cast(ApiCallLog.write_off, Text), "none").label("written_off")
UNSOUND_ROWS = (
    select(ApiCallLog.request_id, ApiCallLog.user_id, ApiCallLog.charge, ApiCallLog.bill, _written_off)
    .where(_SOUND.is_not(true()))
    .order_by(ApiCallLog.id)
)
TWICE = select(ApiCallLog.request_id, func.count()).group_by(ApiCallLog.request_id).having(func.count() > 1)

_MEASURED = ", ".join(MEASURES)
_REST = "model_name, upstream_id, api, status, is_local"
_TAKEN = ", ".join(f"-{name}" for name in MEASURES)
_UNEVEN = " OR ".join(f"sum({name}) <> 0" for name in MEASURES)
UNEVEN_PERIODS = text(f"""
    SELECT period, start, user_id, api_key_id, model_name, upstream_id, api, status,
        {", ".join(f"sum({name}) AS {name}" for name in MEASURES)}
    FROM (
        SELECT 'day' AS period, date_trunc('day', hour, 'UTC') AS start, '' AS user_id, 0 AS api_key_id, {_REST}, {_MEASURED}
        FROM {SCHEMA}.usage_hourly
        UNION ALL SELECT 'month', date_trunc('month', hour, 'UTC'), user_id, api_key_id, {_REST}, {_MEASURED} FROM {SCHEMA}.usage_hourly
        UNION ALL SELECT 'user', date_trunc('month', hour, 'UTC'), user_id, 0, '', 0, '', status, false, {_MEASURED}
        FROM {SCHEMA}.usage_hourly
        UNION ALL SELECT period, start, user_id, api_key_id, {_REST}, {_TAKEN} FROM {SCHEMA}.usage_period
    ) parts
    GROUP BY period, start, user_id, api_key_id, {_REST}
    HAVING {_UNEVEN}
    ORDER BY period, start, user_id, api_key_id, {_REST}
""")
PERIODS = select(func.count()).select_from(UsagePeriod)

_by_user = (
    select(CallHold.user_id, func.sum(CallHold.amount).label("amount"), func.count().label("calls")).group_by(CallHold.user_id).subquery()
)
_entered = (
    select(
        Account.user_id,
        func.sum(CreditEntry.amount).label("ever"),
        func.sum(CreditEntry.amount).filter(CreditEntry.created_at >= Account.created_at).label("since"),
    )
    .join(CreditEntry, CreditEntry.user_id == Account.user_id)
    .group_by(Account.user_id)
    .subquery()
)
_available = Account.credit + Account.credit_limit - Account.spent - Account.held
ACCOUNTS = (
    select(
        *(Account.user_id, Account.credit, Account.spent, Account.billed, Account.written_off, Account.held, Account.in_flight),
        _available.label("available"),
        func.greatest(_available, 0).label("at_least"),
        _by_user.c.user_id.label("holder"),
        func.coalesce(_by_user.c.amount, 0).label("holding"),
        func.coalesce(_by_user.c.calls, 0).label("calls"),
        func.coalesce(_entered.c.ever, 0).label("ever_entered"),
        func.coalesce(_entered.c.since, 0).label("entered_since"),
    )
    .outerjoin(_by_user, _by_user.c.user_id == Account.user_id, full=True)
    .outerjoin(_entered, _entered.c.user_id == Account.user_id)
    .order_by(Account.user_id)
)
_by_key = select(CallHold.api_key_id, func.count().label("calls"), func.sum(CallHold.amount).label("amount"))
_by_key_id = _by_key.group_by(CallHold.api_key_id).subquery()
METERS = (
    select(
        *(KeyMeter.key_id, KeyMeter.spent, KeyMeter.held, KeyMeter.in_flight),
        func.coalesce(_by_key_id.c.amount, 0).label("holding"),
        func.coalesce(_by_key_id.c.calls, 0).label("calls"),
    )
    .outerjoin(_by_key_id, _by_key_id.c.api_key_id == KeyMeter.key_id)
    .order_by(KeyMeter.key_id)
)
CHARGES_OF_GONE = (
    select(UsageHourly.api_key_id, func.sum(UsageHourly.charge))
    .outerjoin(Account, _OF_ACCOUNT)
    .where(Account.user_id.is_(None), UsageHourly.api_key_id.in_(bindparam("key_ids", expanding=True)))
    .group_by(UsageHourly.api_key_id)
)
_refunds = (
    select(CreditEntry.request_id, CreditEntry.user_id, func.sum(CreditEntry.amount).label("amount"))
    .join(Account, and_(Account.user_id == CreditEntry.user_id, CreditEntry.created_at >= Account.created_at))
    .where(CreditEntry.request_id.is_not(None))
    .group_by(CreditEntry.request_id, CreditEntry.user_id)
    .subquery()
)
REFUNDS = (
    select(_refunds.c.request_id, _refunds.c.user_id, _refunds.c.amount, ApiCallLog.bill)
    .outerjoin(ApiCallLog, and_(ApiCallLog.request_id == _refunds.c.request_id, ApiCallLog.user_id == _refunds.c.user_id))
    .order_by(_refunds.c.request_id)
)
"""What was given back of each call; no bill: its row is gone."""
_age = func.extract("epoch", func.now() - CallHold.created_at)
_expired = func.now() - Instance.lease_until
HOLDS = select(func.now(), func.count(), func.greatest(0, func.max(_age))).select_from(CallHold)
ENDED_HOLDS = (
    select(CallHold.request_id, CallHold.user_id, CallHold.amount, ApiCallLog.status)
    .join(ApiCallLog, ApiCallLog.request_id == CallHold.request_id)
    .where(or_(ApiCallLog.end_reason.is_distinct_from("orphaned"), ApiCallLog.amended_at.is_not(None)))
)
LOST_HOLDS = (
    select(
        *(CallHold.request_id, CallHold.user_id, CallHold.amount, CallHold.instance_id, _age.label("age")),
        func.extract("epoch", _expired).label("expired"),
    )
    .outerjoin(Instance, Instance.id == CallHold.instance_id)
    .where(or_(Instance.id.is_(None), _expired > bindparam("lease", type_=Interval())))
    .where(~exists().where(BackgroundCall.request_id == CallHold.request_id))
    .order_by(CallHold.created_at)
)
