"""Files of archived rows: each was read back and found right before it got its row here, and no row is deleted before that."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, DateTime, Integer, Numeric, String, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class ArchiveFile(Base):
    """`rows`, `bill`, `charge`, `write_off`: what the file has. `deleted`: how many of its rows were deleted here; those of a user
    who was purged meanwhile went with the user. `finished_at`: when none was left."""

    __tablename__ = "archive_file"
    __table_args__ = (UniqueConstraint("name", name="uq_archive_file_name"), {"schema": SCHEMA})

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(100))
    rows: Mapped[int] = mapped_column(BigInteger)
    bill: Mapped[Decimal] = mapped_column(Numeric(20, 4))
    charge: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    write_off: Mapped[Decimal] = mapped_column(Numeric(24, 10))
    deleted: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
