"""The platform's definition of `api_call_log`, written down by hand from the original: what the models and the migrations
are compared with, and so never derived from either."""

from dataclasses import dataclass
from typing import Any

NOTHING = object()


@dataclass(frozen=True)
class SeedColumn:
    """`orm`: class, length or None, precision and scale or None. `postgres`: as `format_type` names it. `default`: of the
    ORM. `server_default`: as PostgreSQL shows it."""

    name: str
    orm: tuple[str, int | None, tuple[int, int] | None]
    postgres: str
    nullable: bool
    comment: str
    default: Any = NOTHING
    server_default: str | None = None


COLUMNS = (
    SeedColumn(
        "id", ("BigInteger", None, None), "bigint", False, "主键ID", server_default="nextval('aigcspace.api_call_log_id_seq'::regclass)"
    ),
    SeedColumn("user_id", ("String", 50, None), "character varying(50)", False, "用户ID"),
    SeedColumn("api_key_id", ("Integer", None, None), "integer", True, "API Key ID"),
    SeedColumn("model_id", ("Integer", None, None), "integer", True, "模型ID"),
    SeedColumn("model_name", ("String", 255, None), "character varying(255)", False, "模型名称"),
    SeedColumn("is_local", ("Boolean", None, None), "boolean", False, "是否为本地模型", default=False),
    SeedColumn("input_tokens", ("Integer", None, None), "integer", False, "输入Token数量", default=0),
    SeedColumn("output_tokens", ("Integer", None, None), "integer", False, "输出Token数量", default=0),
    SeedColumn("bill", ("Numeric", None, (12, 4)), "numeric(12,4)", False, "费用金额", default=0),
    SeedColumn("status", ("String", 20, None), "character varying(20)", False, "调用状态:success/failed", default="success"),
    SeedColumn("error_message", ("Text", None, None), "text", True, "错误信息"),
    SeedColumn("request_ip", ("String", 50, None), "character varying(50)", True, "请求IP地址"),
    SeedColumn("created_at", ("DateTime", None, None), "timestamp without time zone", False, "创建时间", server_default="now()"),
)

INDEXES = {
    "idx_api_call_log_user_id": "user_id",
    "idx_api_call_log_api_key_id": "api_key_id",
    "idx_api_call_log_model_id": "model_id",
    "idx_api_call_log_created_at": "created_at",
    "idx_api_call_log_is_local": "is_local",
}

FOREIGN_KEYS = {"user_id": ("aigcspace.users.id", "CASCADE"), "api_key_id": ("aigcspace.platform_api_key.id", "SET NULL")}

TABLE_COMMENT = "API调用日志表"
