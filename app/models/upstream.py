"""Upstreams: the model providers and local servers that calls go to."""

from datetime import datetime

from sqlalchemy import Boolean, CheckConstraint, DateTime, Double, Integer, LargeBinary, String, Text, UniqueConstraint, false, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class Upstream(Base):
    """`secret` is encrypted with `SECRET_KEY`, as is each of `more_secrets`; `secret_hint` and `more_secret_hints` show their last
    four characters. `protocols`: those that it speaks; None: any.
    `client_gone`: what becomes of a stream whose client has left. `tags`: by which groups choose among upstreams.
    `first_byte_within`: seconds after which a call that got nothing goes elsewhere."""

    __tablename__ = "upstream"
    __table_args__ = (
        UniqueConstraint("name", name="uq_upstream_name"),
        CheckConstraint("stream_usage in ('inject', 'native', 'off')", name="ck_upstream_stream_usage"),
        CheckConstraint("auth in ('auto', 'bearer', 'x-api-key', 'api-key', 'none')", name="ck_upstream_auth"),
        CheckConstraint("client_gone in ('cancel', 'drain')", name="ck_upstream_client_gone"),
        CheckConstraint("protocols <@ ARRAY['openai', 'anthropic', 'gemini']", name="ck_upstream_protocols"),
        CheckConstraint("first_byte_within > 0 AND first_byte_within <= 3600", name="ck_upstream_first_byte_within"),
        {"schema": SCHEMA},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String(100))
    base_url: Mapped[str] = mapped_column(Text)
    secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    secret_hint: Mapped[str | None] = mapped_column(String(8))
    auth: Mapped[str] = mapped_column(String(20), server_default="auto")
    is_local: Mapped[bool] = mapped_column(Boolean, server_default=false())
    stream_usage: Mapped[str] = mapped_column(String(10), server_default="inject")
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    client_gone: Mapped[str] = mapped_column(String(10), server_default="cancel")
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    more_secrets: Mapped[list[bytes] | None] = mapped_column(ARRAY(LargeBinary))
    more_secret_hints: Mapped[list[str | None] | None] = mapped_column(ARRAY(String(8)))
    protocols: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    first_byte_within: Mapped[float | None] = mapped_column(Double)
