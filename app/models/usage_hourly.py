"""Sums of the call log by hour (UTC), written in the transaction of the rows that they sum up."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import DateTime, Index, Numeric
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base
from app.models.usage_sums import UsageSums


class UsageHourly(UsageSums, Base):
    """What came to it later has a default, for the hours before."""

    __tablename__ = "usage_hourly"
    __table_args__ = (Index("ix_usage_hourly_user_id_hour", "user_id", "hour"), {"schema": SCHEMA})

    hour: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True, sort_order=-1)
    upstream_cost: Mapped[Decimal] = mapped_column(Numeric(24, 10), server_default="0", sort_order=2)
    latencies: Mapped[Decimal] = mapped_column(Numeric, server_default="0", sort_order=3)
    first_tokens: Mapped[Decimal] = mapped_column(Numeric, server_default="0", sort_order=4)
