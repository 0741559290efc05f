"""
API调用日志ORM定义

One row for each call that was let through, and for each refusal of a known user. The first block of columns is the
platform's own definition and is fixed; the second is this service's, and a program that writes only the first never
notices it.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, DateTime, ForeignKey, Index, Integer, Numeric, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql import func

from app.database import SCHEMA, Base

INDEXES = (
    Index("ix_api_call_log_user_id_created_at", "user_id", "created_at"),
    Index("ix_api_call_log_api_key_id_created_at", "api_key_id", "created_at"),
    Index("ix_api_call_log_model_name_created_at", "model_name", "created_at"),
    Index("ix_api_call_log_model_id_created_at", "model_id", "created_at"),
    Index("ix_api_call_log_upstream_id_created_at", "upstream_id", "created_at"),
    Index("ix_api_call_log_api_created_at", "api", "created_at"),
    Index("ix_api_call_log_request_ip_created_at", "request_ip", "created_at"),
    Index("ix_api_call_log_is_local_created_at", "is_local", "created_at"),
    Index("ix_api_call_log_bill", "bill"),
    Index("ix_api_call_log_end_user_created_at", "end_user", "created_at", postgresql_where=text("end_user IS NOT NULL")),
    Index("ix_api_call_log_end_reason_created_at", "end_reason", "created_at", postgresql_where=text("end_reason <> 'completed'")),
    Index("ix_api_call_log_usage_source_created_at", "usage_source", "created_at", postgresql_where=text("usage_source <> 'provider'")),
    Index("ix_api_call_log_failed_created_at", "created_at", "usage_source", postgresql_where=text("status = 'failed'")),
    Index("ix_api_call_log_failed_model_name_created_at", "model_name", "created_at", postgresql_where=text("status = 'failed'")),
)
"""Further ones, each for a filter of `/logs` in the order of time. What most rows have in common needs none, and is left out."""


class ApiCallLog(Base):
    """API调用日志ORM类

    `input_tokens` is the whole input (uncached, cache read, cache write), `output_tokens` the whole output (reasoning
    included). `bill` has four decimals, cut so that a user's bills add up to the exact charges: see
    `ledger/functions/settle.sql`. `created_at` has no time zone: it is the database's clock in `LOG_TIME_ZONE`;
    `settled_at` is the same instant, whole. `amended_at`: when what became of a call was learned after its row had been
    written as `orphaned`. `upstream_cost`: what the upstream charges the operator for the call; None: not known.
    """

    __tablename__ = "api_call_log"
    __table_args__ = (
        Index("idx_api_call_log_user_id", "user_id"),
        Index("idx_api_call_log_api_key_id", "api_key_id"),
        Index("idx_api_call_log_model_id", "model_id"),
        Index("idx_api_call_log_created_at", "created_at"),
        Index("idx_api_call_log_is_local", "is_local"),
        UniqueConstraint("request_id", name="uq_api_call_log_request_id"),
        *INDEXES,
        {"schema": SCHEMA, "comment": "API调用日志表"},
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True, comment="主键ID")
    user_id: Mapped[str] = mapped_column(String(50), ForeignKey("aigcspace.users.id", ondelete="CASCADE"), comment="用户ID")
    api_key_id: Mapped[int | None] = mapped_column(
        Integer, ForeignKey("aigcspace.platform_api_key.id", ondelete="SET NULL"), comment="API Key ID"
    )
    model_id: Mapped[int | None] = mapped_column(Integer, comment="模型ID")
    model_name: Mapped[str] = mapped_column(String(255), comment="模型名称")
    is_local: Mapped[bool] = mapped_column(Boolean, default=False, comment="是否为本地模型")
    input_tokens: Mapped[int] = mapped_column(Integer, default=0, comment="输入Token数量")
    output_tokens: Mapped[int] = mapped_column(Integer, default=0, comment="输出Token数量")
    bill: Mapped[Decimal] = mapped_column(Numeric(12, 4), default=0, comment="费用金额")
    status: Mapped[str] = mapped_column(String(20), default="success", comment="调用状态:success/failed")
    error_message: Mapped[str | None] = mapped_column(Text, comment="错误信息")
    request_ip: Mapped[str | None] = mapped_column(String(50), comment="请求IP地址")
    created_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now(), comment="创建时间")

    request_id: Mapped[UUID | None] = mapped_column()
    charge: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
    write_off: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))
    cache_read_tokens: Mapped[int | None] = mapped_column(Integer)
    cache_write_tokens: Mapped[int | None] = mapped_column(Integer)
    reasoning_tokens: Mapped[int | None] = mapped_column(Integer)
    usage_source: Mapped[str | None] = mapped_column(String(20))
    api: Mapped[str | None] = mapped_column(String(50))
    is_stream: Mapped[bool | None] = mapped_column(Boolean)
    upstream_id: Mapped[int | None] = mapped_column(Integer)
    upstream_model: Mapped[str | None] = mapped_column(String(255))
    http_status: Mapped[int | None] = mapped_column(Integer)
    latency_ms: Mapped[int | None] = mapped_column(Integer)
    first_token_ms: Mapped[int | None] = mapped_column(Integer)
    end_reason: Mapped[str | None] = mapped_column(String(30))
    end_user: Mapped[str | None] = mapped_column(String(255))
    max_tokens_applied: Mapped[int | None] = mapped_column(Integer)
    flags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    tags: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    price: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    line_items: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    attempts: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    settled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    amended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    upstream_cost: Mapped[Decimal | None] = mapped_column(Numeric(20, 10))

    def __repr__(self) -> str:
        return (
            f"<ApiCallLog id={self.id} request_id={self.request_id} user_id={self.user_id} model_name={self.model_name} bill={self.bill}>"
        )
