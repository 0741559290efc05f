"""Users of the platform. The table may be the platform's own, made before this service: see the first migration."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class User(Base):
    __tablename__ = "users"
    __table_args__ = {"schema": SCHEMA}

    id: Mapped[str] = mapped_column(String(50), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(255))
