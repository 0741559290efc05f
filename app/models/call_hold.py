"""Calls in flight. A hold is made before a call goes upstream and deleted in the transaction that writes its row."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, CheckConstraint, DateTime, ForeignKey, Index, Integer, Numeric, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class CallHold(Base):
    """`amount`: the ceiling that is held. `tokens`: the estimate that the key's token bucket was charged with.
    `open_ended`: the cost may exceed the hold. `entry`: the row to write if nobody else settles the call."""

    __tablename__ = "call_hold"
    __table_args__ = (
        CheckConstraint("amount between 0 and 100000000", name="ck_call_hold_amount"),
        Index("ix_call_hold_user_id", "user_id"),
        Index("ix_call_hold_instance_id", "instance_id"),
        {"schema": SCHEMA},
    )

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(String(50), ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"))
    api_key_id: Mapped[int] = mapped_column(Integer)
    instance_id: Mapped[UUID] = mapped_column()
    amount: Mapped[Decimal] = mapped_column(Numeric(20, 10))
    tokens: Mapped[int] = mapped_column(BigInteger)
    open_ended: Mapped[bool] = mapped_column(Boolean)
    entry: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
