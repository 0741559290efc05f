"""Groups: what calls of their users cost, and may do."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, DateTime, Integer, Numeric, String, Text, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class SpendGroup(Base):
    """`multiplier` of all prices; `model_multipliers` (name or prefix with `*` -> decimal string) stand in its place. `models`
    NULL: all. `upstream_tags` NULL: any upstream; else those that have one of the tags. The limits are each user's."""

    __tablename__ = "spend_group"
    __table_args__ = (
        UniqueConstraint("name", name="uq_spend_group_name"),
        CheckConstraint("multiplier between 0 and 1000", name="ck_spend_group_multiplier"),
        CheckConstraint("rpm > 0 and tpm > 0 and max_concurrency > 0", name="ck_spend_group_limits"),
        CheckConstraint("daily_limit between 0 and 1000000000 and monthly_limit between 0 and 1000000000", name="ck_spend_group_periods"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(100))
    multiplier: Mapped[Decimal] = mapped_column(Numeric(10, 6), server_default="1")
    model_multipliers: Mapped[dict[str, str] | None] = mapped_column(JSONB)
    models: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    upstream_tags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    rpm: Mapped[int | None] = mapped_column(Integer)
    tpm: Mapped[int | None] = mapped_column(Integer)
    max_concurrency: Mapped[int | None] = mapped_column(Integer)
    daily_limit: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
    monthly_limit: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
