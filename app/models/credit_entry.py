"""Money paid in or taken back, append-only. No foreign key: books outlive people."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Identity, Index, Numeric, String, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class CreditEntry(Base):
    """`amount` is signed. The sum of a user's entries is the account's `credit`. `request_id`: the call that is refunded, by
    one of several entries maybe, which never come to more than its bill. `code_id`: the code that was redeemed, once."""

    __tablename__ = "credit_entry"
    __table_args__ = (
        CheckConstraint("amount between -1000000000 and 1000000000", name="ck_credit_entry_amount"),
        UniqueConstraint("user_id", "idempotency_key", name="uq_credit_entry_idempotency_key"),
        CheckConstraint("amount > 0 or (request_id is null and code_id is null)", name="ck_credit_entry_given"),
        UniqueConstraint("code_id", name="uq_credit_entry_code_id"),
        Index("ix_credit_entry_user_id_id", "user_id", "id"),
        Index("ix_credit_entry_request_id", "request_id", postgresql_where=text("request_id IS NOT NULL")),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(50))
    amount: Mapped[Decimal] = mapped_column(Numeric(16, 4))
    note: Mapped[str | None] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    request_id: Mapped[UUID | None] = mapped_column()
    code_id: Mapped[int | None] = mapped_column(BigInteger)
