"""Sums of the rows that were archived, written in the transaction that deletes them. No foreign keys: books outlive people."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, Boolean, DateTime, Index, Integer, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class ArchivedUsage(Base):
    """As `UsageHourly`, which goes on holding these rows too. `bucket`: the hour; where a month may begin within it, in some
    time zone, the quarter of the hour. `refunded`: what was given back of the bills."""

    __tablename__ = "archived_usage"
    __table_args__ = (Index("ix_archived_usage_user_id_bucket", "user_id", "bucket"), {"schema": SCHEMA})

    bucket: Mapped[datetime] = mapped_column(DateTime(timezone=True), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(50), primary_key=True)
    api_key_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    model_name: Mapped[str] = mapped_column(String(255), primary_key=True)
    upstream_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    api: Mapped[str] = mapped_column(String(50), primary_key=True)
    status: Mapped[str] = mapped_column(String(20), primary_key=True)
    is_local: Mapped[bool] = mapped_column(Boolean, primary_key=True)
    calls: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    charge: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    bill: Mapped[Decimal] = mapped_column(Numeric(20, 4))
    write_off: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    refunded: Mapped[Decimal] = mapped_column(Numeric(20, 4))
    upstream_cost: Mapped[Decimal] = mapped_column(Numeric(24, 10))
