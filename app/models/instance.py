"""Processes that hold calls. One without a row here is dead, and its holds are anybody's to end.

`lease_until` is moved on by its process while it lives. Whoever finds it past, by the database's clock, deletes the row:
that is the one moment at which a process dies, as a lease that is renewed and one that is deleted lock the same row.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Integer, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class Instance(Base):
    """`host`, `process_id`: for operators."""

    __tablename__ = "instance"
    __table_args__ = {"schema": SCHEMA}

    id: Mapped[UUID] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    process_id: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    lease_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))
