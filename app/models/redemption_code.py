"""Redemption codes. No foreign key to users: books outlive people."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Identity, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class RedemptionCode(Base):
    """`code_hash`: SHA-256, in hexadecimal, of the code as `app.billing.code` writes it, without hyphens; the code itself is kept
    nowhere. `ending`: its last four characters."""

    __tablename__ = "redemption_code"
    __table_args__ = (
        UniqueConstraint("code_hash", name="uq_redemption_code_code_hash"),
        CheckConstraint("(redeemed_at is null) = (redeemed_by is null)", name="ck_redemption_code_redeemed"),
        Index("ix_redemption_code_batch_id", "batch_id", "id"),
        Index("ix_redemption_code_ending", "ending", "id"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    batch_id: Mapped[int] = mapped_column(Integer, ForeignKey(f"{SCHEMA}.code_batch.id"))
    code_hash: Mapped[str] = mapped_column(String(64))
    ending: Mapped[str] = mapped_column(String(4))
    redeemed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    redeemed_by: Mapped[str | None] = mapped_column(String(50))
