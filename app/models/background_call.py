"""Calls that go on at an upstream without a client: their holds belong to no process, and stay until the response is final."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Index, Integer, String, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class BackgroundCall(Base):
    """`object_id`: the response at the upstream. `entry`: the row as far as it is known, the price that was promised included.
    `terms`: what else the end is reckoned with, see `gateway.background`. `next_look`: when somebody asks again."""

    __tablename__ = "background_call"
    __table_args__ = (
        Index("ix_background_call_next_look", "next_look"),
        Index("ix_background_call_user_id_object_id", "user_id", "object_id"),
        {"schema": SCHEMA},
    )

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(String(50), ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"))
    upstream_id: Mapped[int] = mapped_column(Integer)
    object_id: Mapped[str] = mapped_column(String(255))
    entry: Mapped[dict[str, Any]] = mapped_column(JSONB)
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB)
    looks: Mapped[int] = mapped_column(Integer, server_default="0")
    next_look: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
