"""What upstreams keep for users: responses, the items in them, conversations. Who made one alone may ask for it again, at
the upstream that holds it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Boolean, DateTime, ForeignKey, Index, Integer, String, false, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class UpstreamObject(Base):
    """`object_id`: the upstream's own. `request_id`: of the call that it last came with, and `created_at`: when that was.
    `is_lasting`: it is kept until it is deleted, as what lies in a conversation."""

    __tablename__ = "upstream_object"
    __table_args__ = (
        Index("ix_upstream_object_user_id", "user_id"),
        Index("ix_upstream_object_created_at", "created_at", postgresql_where=text("NOT is_lasting")),
        {"schema": SCHEMA},
    )

    object_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(50), ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"), primary_key=True)
    upstream_id: Mapped[int] = mapped_column(Integer)
    request_id: Mapped[UUID] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    is_lasting: Mapped[bool] = mapped_column(Boolean, server_default=false())
