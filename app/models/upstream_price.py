"""What an upstream charges the operator, dated: a new price supersedes the one before, no row is ever edited."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, ForeignKey, Integer, String, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class UpstreamPrice(Base):
    """`model_name`: as clients call it. `rates`, `tiers`, `service_tiers`: as in `ModelPrice`."""

    __tablename__ = "upstream_price"
    __table_args__ = (
        UniqueConstraint("upstream_id", "model_name", "effective_from", name="uq_upstream_price_effective_from"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    upstream_id: Mapped[int] = mapped_column(Integer, ForeignKey(f"{SCHEMA}.upstream.id", ondelete="CASCADE"))
    model_name: Mapped[str] = mapped_column(String(255))
    rates: Mapped[dict[str, str]] = mapped_column(JSONB)
    tiers: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    service_tiers: Mapped[dict[str, dict[str, str]] | None] = mapped_column(JSONB)
    effective_from: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
