"""Codes that a key has tried and that don't exist."""

from datetime import datetime

from sqlalchemy import DateTime, Double, ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class CodeGuesses(Base):
    """`level`: a leaky bucket, as those of `KeyMeter`: it rises by one with each guess, and drains from `drained_at` on."""

    __tablename__ = "code_guesses"
    __table_args__ = {"schema": SCHEMA}

    key_id: Mapped[int] = mapped_column(
        ForeignKey(f"{SCHEMA}.platform_api_key.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    level: Mapped[float] = mapped_column(Double, server_default="0")
    drained_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
