"""What a key has used: written by every reserve and settle of its calls, read by the next reserve."""

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, Date, DateTime, Double, ForeignKey, Integer, Numeric, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class KeyMeter(Base):
    """`request_level` and `token_level` are leaky buckets: they rise with each call and drain by the limit each minute,
    counted from `drained_at`. A level above its limit is a debt, left by a call that used more than was estimated.
    `day_spent` and `month_spent` are of the day and the month of `spent_on`, when a charge came last."""

    __tablename__ = "key_meter"
    __table_args__ = (
        CheckConstraint("held >= 0 and spent >= 0 and in_flight >= 0", name="ck_key_meter_signs"),
        {"schema": SCHEMA},
    )

    key_id: Mapped[int] = mapped_column(
        ForeignKey(f"{SCHEMA}.platform_api_key.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    spent: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    held: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    in_flight: Mapped[int] = mapped_column(Integer, server_default="0")
    request_level: Mapped[float] = mapped_column(Double, server_default="0")
    token_level: Mapped[float] = mapped_column(Double, server_default="0")
    drained_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    day_spent: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    month_spent: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    spent_on: Mapped[date | None] = mapped_column(Date)
