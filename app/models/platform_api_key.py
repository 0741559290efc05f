"""API keys that clients call with. The table may be the platform's own, so that little is asked of it.

Keys made here are 256 random bits, of which only the SHA-256 is stored, in hexadecimal, with the first characters to
tell keys apart.
"""

from sqlalchemy import ForeignKey, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class PlatformApiKey(Base):
    __tablename__ = "platform_api_key"
    __table_args__ = (
        UniqueConstraint("key_hash", name="uq_platform_api_key_key_hash"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    user_id: Mapped[str | None] = mapped_column(ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str | None] = mapped_column(String(255))
    key_hash: Mapped[str | None] = mapped_column(String(64))
    key_prefix: Mapped[str | None] = mapped_column(String(16))
