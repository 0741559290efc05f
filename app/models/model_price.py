"""Prices, dated: a new price supersedes the one before, no row is ever edited."""

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Integer, String, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class ModelPrice(Base):
    """`rates`: meter -> decimal string. `tiers`: `[{"above_input_tokens", "rates", "service_tiers"?}]`. `service_tiers`: tier ->
    rates. See `app.billing.price`."""

    __tablename__ = "model_price"
    __table_args__ = (
        UniqueConstraint("model_name", "effective_from", name="uq_model_price_model_name_effective_from"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    model_name: Mapped[str] = mapped_column(String(255))
    rates: Mapped[dict[str, str]] = mapped_column(JSONB)
    tiers: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    source: Mapped[str] = mapped_column(String(50), server_default="operator")
    effective_from: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    service_tiers: Mapped[dict[str, dict[str, str]] | None] = mapped_column(JSONB)
