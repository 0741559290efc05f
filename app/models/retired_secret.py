"""Secrets of platform keys that were replaced, and that still work for a while: both are the same key, with one meter."""

from datetime import datetime

from sqlalchemy import DateTime, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class RetiredSecret(Base):
    """`key_hash`: as it was in `platform_api_key`. From `valid_until` on it opens nothing."""

    __tablename__ = "retired_secret"
    __table_args__ = (Index("ix_retired_secret_key_id", "key_id"), {"schema": SCHEMA})

    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    key_id: Mapped[int] = mapped_column(ForeignKey(f"{SCHEMA}.platform_api_key.id", ondelete="CASCADE"))
    valid_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))
