"""What a key may do. A key without a row here has no limits of its own."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, DateTime, ForeignKey, Integer, Numeric, String, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class KeyPolicy(Base):
    """`models` and `allowed_ips` NULL: all. `rpm`, `tpm`: requests and tokens a minute. `spend_limit`: in total;
    `daily_limit`, `monthly_limit`: in a day and a month of `LOG_TIME_ZONE`. `group_id`: whose prices and models hold for the key, in
    place of its user's."""

    __tablename__ = "key_policy"
    __table_args__ = (
        CheckConstraint("scope in ('key', 'account')", name="ck_key_policy_scope"),
        CheckConstraint("spend_limit between 0 and 1000000000", name="ck_key_policy_spend_limit"),
        CheckConstraint("daily_limit between 0 and 1000000000 and monthly_limit between 0 and 1000000000", name="ck_key_policy_periods"),
        CheckConstraint("rpm > 0 and tpm > 0 and max_concurrency > 0", name="ck_key_policy_limits"),
        {"schema": SCHEMA},
    )

    key_id: Mapped[int] = mapped_column(
        ForeignKey(f"{SCHEMA}.platform_api_key.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    scope: Mapped[str] = mapped_column(String(10), server_default="key")
    models: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    allowed_ips: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    spend_limit: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
    rpm: Mapped[int | None] = mapped_column(Integer)
    tpm: Mapped[int | None] = mapped_column(Integer)
    max_concurrency: Mapped[int | None] = mapped_column(Integer)
    disabled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    daily_limit: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
    monthly_limit: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
    group_id: Mapped[int | None] = mapped_column(ForeignKey(f"{SCHEMA}.spend_group.id"))
