"""Which upstream serves which model."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class ModelRoute(Base):
    """`pattern` is a model's name, or a prefix that ends in `*`. `upstream_model` NULL: the name goes on as it came.
    Lower `priority` is tried first; among equals, by `weight`."""

    __tablename__ = "model_route"
    __table_args__ = (
        UniqueConstraint("upstream_id", "pattern", name="uq_model_route_upstream_pattern"),
        CheckConstraint("weight > 0", name="ck_model_route_weight"),
        Index("ix_model_route_model_id", "model_id"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    upstream_id: Mapped[int] = mapped_column(ForeignKey(f"{SCHEMA}.upstream.id", ondelete="CASCADE"))
    model_id: Mapped[int | None] = mapped_column(ForeignKey(f"{SCHEMA}.model.id", ondelete="CASCADE"))
    pattern: Mapped[str] = mapped_column(String(255))
    upstream_model: Mapped[str | None] = mapped_column(String(255))
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    weight: Mapped[int] = mapped_column(Integer, server_default="1")
