"""Sums of `usage_hourly` by longer periods (UTC), written in the same transaction: what reports over long times read.

A `month` tells apart what an hour does; a `user` is a month too, and tells only users and statuses apart. A `day` leaves users and keys
out, so that it has few rows: these are everybody's, so that settlements of several sessions would wait for each other, had not each
its own `shard`. What isn't told apart is empty, 0, or false.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Index, SmallInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base
from app.models.usage_sums import UsageSums


class UsagePeriod(UsageSums, Base):
    __tablename__ = "usage_period"
    __table_args__ = (
        Index("ix_usage_period_model_name", "model_name"),
        CheckConstraint("period in ('day', 'month', 'user')", name="ck_usage_period_period"),
        {"schema": SCHEMA},
    )

    period: Mapped[str] = mapped_column(String(5), primary_key=True, sort_order=-3)
    start: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True, sort_order=-2)
    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, sort_order=-1)
