"""Money paid in or taken back, append-only. No foreign key: books outlive people."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, Index, Numeric, String, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class CreditEntry(Base):
    """`amount` is signed. The sum of a user's entries is the account's `credit`."""

    __tablename__ = "credit_entry"
    __table_args__ = (
        CheckConstraint("amount between -1000000000 and 1000000000", name="ck_credit_entry_amount"),
        UniqueConstraint("user_id", "idempotency_key", name="uq_credit_entry_idempotency_key"),
        Index("ix_credit_entry_user_id_id", "user_id", "id"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(50))
    amount: Mapped[Decimal] = mapped_column(Numeric(16, 4))
    note: Mapped[str | None] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
