"""What a user may do, in place of what their group may. A user without a row here has neither."""

from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Integer, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class UserPolicy(Base):
    """Limits that are NULL are those of the group, if it has any."""

    __tablename__ = "user_policy"
    __table_args__ = (
        CheckConstraint("rpm > 0 and tpm > 0 and max_concurrency > 0", name="ck_user_policy_limits"),
        CheckConstraint("daily_limit between 0 and 1000000000 and monthly_limit between 0 and 1000000000", name="ck_user_policy_periods"),
        {"schema": SCHEMA},
    )

    user_id: Mapped[str] = mapped_column(String(50), ForeignKey(f"{SCHEMA}.users.id", ondelete="CASCADE"), primary_key=True)
    group_id: Mapped[int | None] = mapped_column(ForeignKey(f"{SCHEMA}.spend_group.id"))
    rpm: Mapped[int | None] = mapped_column(Integer)
    tpm: Mapped[int | None] = mapped_column(Integer)
    max_concurrency: Mapped[int | None] = mapped_column(Integer)
    daily_limit: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
    monthly_limit: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
