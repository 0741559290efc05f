"""The outbox: what operators are told, once for each way to tell it. A row is kept for a while after it was sent, so that the same
isn't told again at once."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Index, Integer, String, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class Notification(Base):
    """`channel`: `webhook` or `email`. `subject`: what it is about: an upstream, a model, a user, a host. `next_try`: when it is sent,
    or sent again. `error`: why it wasn't, the last time; None for `sent_at`: not yet, or given up."""

    __tablename__ = "notification"
    __table_args__ = (
        Index("ix_notification_kind_subject", "kind", "subject", "created_at"),
        Index("ix_notification_next_try", "next_try", postgresql_where=text("sent_at is null")),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    channel: Mapped[str] = mapped_column(String(20))
    kind: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(255))
    text: Mapped[str] = mapped_column(Text)
    tries: Mapped[int] = mapped_column(Integer, server_default="0")
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    next_try: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
