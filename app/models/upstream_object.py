"""What upstreams keep for users: responses, the items in them, conversations. Who made one alone may ask for it again, at
the upstream that holds it."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Index, Integer, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class UpstreamObject(Base):
    """`object_id`: the upstream's own. `request_id`: of the call that it came with."""

    __tablename__ = "upstream_object"
    __table_args__ = (Index("ix_upstream_object_user_id", "user_id"), {"schema": SCHEMA})

    object_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    user_id: Mapped[str] = mapped_column(String(50), ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"), primary_key=True)
    upstream_id: Mapped[int] = mapped_column(Integer)
    request_id: Mapped[UUID] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
