"""Batches of redemption codes: what each code is worth, and until when."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, DateTime, Integer, Numeric, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class CodeBatch(Base):
    """`amount`: of each code. `voided_at`: when those that were left were voided."""

    __tablename__ = "code_batch"
    __table_args__ = (CheckConstraint("amount > 0 and amount <= 1000000000", name="ck_code_batch_amount"), {"schema": SCHEMA})

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    amount: Mapped[Decimal] = mapped_column(Numeric(16, 4))
    note: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    voided_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
