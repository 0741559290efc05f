"""One number that grows with every change to upstreams, models, routes and prices, also those made by foreign SQL.

Triggers raise it; each process compares it with the version that it holds.
"""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, true
from sqlalchemy.orm import Mapped, mapped_column

from app.database import SCHEMA, Base


class CatalogVersion(Base):
    __tablename__ = "catalog_version"
    __table_args__ = (CheckConstraint('"only"', name="ck_catalog_version_only"), {"schema": SCHEMA})

    only: Mapped[bool] = mapped_column(Boolean, primary_key=True, server_default=true())
    version: Mapped[int] = mapped_column(BigInteger, server_default="1")
