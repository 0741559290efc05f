"""Sums of the rows that were archived, written in the transaction that deletes them."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import DateTime, Index, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base
from app.models.usage_sums import UsageSums


class ArchivedUsage(UsageSums, Base):
    """`UsageHourly` goes on holding these rows too. `bucket`: the hour; where a month may begin within it, in some time zone, the
    quarter of the hour. `refunded`: what was given back of the bills."""

    __tablename__ = "archived_usage"
    __table_args__ = (Index("ix_archived_usage_user_id_bucket", "user_id", "bucket"), {"schema": SCHEMA})

    bucket: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True, sort_order=-1)
    # in the order in which they came to the table
    refunded: Mapped[Decimal] = mapped_column(Numeric(20, 4), sort_order=1)
    upstream_cost: Mapped[Decimal] = mapped_column(Numeric(24, 10), sort_order=2)
    latencies: Mapped[Decimal] = mapped_column(Numeric, server_default="0", sort_order=3)
    first_tokens: Mapped[Decimal] = mapped_column(Numeric, server_default="0", sort_order=4)
