"""Models that operators name. A relay also serves models that have no row here."""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Integer, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class Model(Base):
    """`context_tokens` and `max_output_tokens` bound what a call may cost, where they are known."""

    __tablename__ = "model"
    __table_args__ = (
        UniqueConstraint("name", name="uq_model_name"),
        CheckConstraint("context_tokens > 0 and max_output_tokens > 0", name="ck_model_limits"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(255))
    context_tokens: Mapped[int | None] = mapped_column(Integer)
    max_output_tokens: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
