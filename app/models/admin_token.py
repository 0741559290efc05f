"""Named tokens of operators, beside `ADMIN_TOKEN`. Of each only the SHA-256 is kept, with its first characters."""

from datetime import datetime

from sqlalchemy import CheckConstraint, DateTime, Integer, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class AdminToken(Base):
    """`name` is never changed, as audit entries tell by it who acted. `last_used_at` is right to a minute."""

    __tablename__ = "admin_token"
    __table_args__ = (
        UniqueConstraint("name", name="uq_admin_token_name"),
        UniqueConstraint("token_hash", name="uq_admin_token_token_hash"),
        CheckConstraint("role in ('admin', 'viewer')", name="ck_admin_token_role"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(10))
    token_hash: Mapped[str] = mapped_column(String(64))
    token_prefix: Mapped[str] = mapped_column(String(16))
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    last_used_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
