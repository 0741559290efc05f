"""A user's money. Only `app.ledger` writes here, under the account's row lock."""

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, Date, DateTime, Double, ForeignKey, Integer, Numeric, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class Account(Base):
    """`credit`: all that was paid in. `credit_limit`: how far a postpaid account may go below zero; 0 is prepaid.
    `held`: ceilings of calls in flight. `spent`: exact charges. `billed`: the same, as cut to four decimals on the rows.
    `written_off`: cost that nobody pays. Available is `credit + credit_limit - spent - held`; the database itself refuses
    to let it fall below zero. The upper bounds keep out NaN, which PostgreSQL sorts above every number. What the limits of
    `UserPolicy` are compared with is as in `KeyMeter`."""

    __tablename__ = "account"
    __table_args__ = (
        CheckConstraint("credit + credit_limit - spent - held between 0 and 10000000000", name="ck_account_available"),
        CheckConstraint("credit between -1000000000 and 1000000000", name="ck_account_credit"),
        CheckConstraint("credit_limit between 0 and 1000000000", name="ck_account_credit_limit"),
        CheckConstraint("held between 0 and 2000000000 and spent between 0 and 2000000000", name="ck_account_use"),
        CheckConstraint("billed - spent between -0.00005 and 0.00005", name="ck_account_billed"),
        CheckConstraint("in_flight >= 0", name="ck_account_in_flight"),
        {"schema": SCHEMA},
    )

    user_id: Mapped[str] = mapped_column(String(50), ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"), primary_key=True)
    credit: Mapped[Decimal] = mapped_column(Numeric(16, 4), server_default="0")
    credit_limit: Mapped[Decimal] = mapped_column(Numeric(16, 4), server_default="0")
    held: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    spent: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    billed: Mapped[Decimal] = mapped_column(Numeric(16, 4), server_default="0")
    written_off: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    day_spent: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    month_spent: Mapped[Decimal] = mapped_column(Numeric(20, 10), server_default="0")
    spent_on: Mapped[date | None] = mapped_column(Date)
    request_level: Mapped[float] = mapped_column(Double, server_default="0")
    token_level: Mapped[float] = mapped_column(Double, server_default="0")
    drained_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    in_flight: Mapped[int] = mapped_column(Integer, server_default="0")
