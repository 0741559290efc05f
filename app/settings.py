"""What operators set: environment variables, and the same names in a `.env` file.

`load()` raises `StartupError` with one line for each value that makes no sense. Every setting here has a row in
README's table; a test holds that.
"""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import StartupError


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as unknown:
        raise ValueError(f"{name!r} is no time zone of the IANA database, such as Asia/Shanghai or UTC") from unknown
    return name


class Settings(BaseSettings):
    """Times are in seconds, sizes in bytes, money in `CURRENCY`."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: str | None = None
    admin_token: SecretStr | None = Field(default=None, min_length=16)
    secret_key: SecretStr | None = Field(default=None, min_length=16)
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    data_dir: Path = Path(".data")
    database_pool: int = Field(default=8, ge=2, le=100)

    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    default_credit: Decimal = Field(default=Decimal(0), ge=0, le=1_000_000_000, decimal_places=4)
    default_output_ceiling: int = Field(default=16_384, ge=1, le=10_000_000)
    output_limit: Literal["apply", "refuse"] = "apply"
    allow_unpriced: bool = False
    topup_url: str | None = Field(default=None, pattern=r"^https?://")

    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    settle_wait: float = Field(default=2.0, gt=0, le=60)
    upstream_connect_timeout: float = Field(default=10.0, gt=0)
    upstream_idle_timeout: float = Field(default=300.0, gt=0)
    upstream_total_timeout: float = Field(default=3600.0, gt=0)
    shutdown_wait: float = Field(default=30.0, ge=0)
    log_time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("database_url")
    @classmethod
    def _asyncpg_url(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith("postgresql+asyncpg://"):
            raise ValueError("must start with postgresql+asyncpg://, as in postgresql+asyncpg://user:password@host:5432/database")
        return url

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Reads environment and `.env`; `overrides` win over both."""
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as invalid:
            raise StartupError("; ".join(_explain(error) for error in invalid.errors())) from invalid


def _explain(error: object) -> str:
    assert isinstance(error, dict)
    name = "_".join(str(part) for part in error["loc"]).upper()
    return f"{name}: {str(error['msg']).removeprefix('Value error, ')}"
