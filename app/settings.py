"""What operators set: environment variables, and the same names in a `.env` file.

`load()` raises `StartupError` with one line for each value that makes no sense. Every setting here has a row in
README's table; a test holds that.
"""

import re
from decimal import Decimal
from io import StringIO
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dotenv.parser import parse_stream
from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from app.errors import StartupError


def known_zone(name: str) -> str:
    """Raises `ValueError` for what is none."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as unknown:
        raise ValueError(f"{name!r} is no time zone of the IANA database, such as Asia/Shanghai or UTC") from unknown
    return name


def _origins(text: str) -> str:
    """Separated by commas."""
    for origin in filter(None, map(str.strip, text.split(","))):
        if origin != "*" and not re.fullmatch(r"https?://[a-z0-9.:\[\]-]+", origin):
            raise ValueError(f"{origin!r} is no origin: write *, or scheme and host, as in https://chat.example.com,http://localhost:3000")
    return text


def _networks(text: str) -> str:
    """Separated by commas."""
    for network in filter(None, map(str.strip, text.split(","))):
        try:
            ip_network(network, strict=False)
        except ValueError:
            raise ValueError(f"{network!r} is no address and no network: write them as in 10.0.0.0/8,192.0.2.7") from None
    return text


ENV_FILE = Path(".env")
_URL_EXAMPLE = "as in postgresql+asyncpg://user:password@host:5432/database"
_URL_PARAMETERS = frozenset(
    {
        "direct_tls",
        "gsslib",
        "host",
        "krbsrvname",
        "passfile",
        "port",
        "prepared_statement_cache_size",
        "service",
        "servicefile",
        "ssl",
        "target_session_attrs",
    }
)
"""What asyncpg and SQLAlchemy take from a URL, where every value is text. A password among them would be shown in errors."""

Seconds = Annotated[float, Field(allow_inf_nan=False)]


def _host(name: str) -> str:
    try:
        if name.encode("idna"):
            return name
    except UnicodeError:
        pass
    raise ValueError("is no address and no host name")


class Settings(BaseSettings):
    """Times are in seconds, sizes in bytes, money in `CURRENCY`."""

    model_config = SettingsConfigDict(env_file=ENV_FILE, extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: str | None = None
    admin_token: SecretStr | None = Field(default=None, min_length=16)
    secret_key: SecretStr | None = Field(default=None, min_length=16)
    secret_key_old: SecretStr | None = Field(default=None, min_length=16)
    host: Annotated[str, AfterValidator(_host)] = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    admin_host: Annotated[str, AfterValidator(_host)] | None = None
    admin_port: int | None = Field(default=None, ge=1, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    data_dir: Path = Path(".data")
    database_pool: int = Field(default=8, ge=2, le=100)

    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    default_credit: Decimal = Field(default=Decimal(0), ge=0, le=1_000_000_000, decimal_places=4)
    default_output_ceiling: int = Field(default=16_384, ge=1, le=10_000_000)
    output_limit: Literal["apply", "refuse"] = "apply"
    allow_unpriced: bool = False
    topup_url: str | None = Field(default=None, pattern=r"^https?://")
    cors_origins: Annotated[str, AfterValidator(_origins)] = ""
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"

    max_body_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    max_upload_bytes: int = Field(default=100 * 1024 * 1024, ge=1024)
    uploads_max_bytes: int = Field(default=4 * 1024 * 1024 * 1024, ge=1024 * 1024)
    max_connections: int = Field(default=8000, ge=1)
    guesses_per_minute: int = Field(default=100, ge=0)
    request_wait: Seconds = Field(default=30.0, gt=0)
    admit_wait: Seconds = Field(default=2.0, gt=0, le=60)
    settle_wait: Seconds = Field(default=2.0, gt=0, le=60)
    upstream_connect_timeout: Seconds = Field(default=10.0, gt=0)
    upstream_idle_timeout: Seconds = Field(default=300.0, gt=0)
    upstream_total_timeout: Seconds = Field(default=3600.0, gt=0)
    allow_link_local_upstreams: bool = False
    failover_wait: Seconds = Field(default=30.0, ge=0)
    failover_attempts: int = Field(default=3, ge=1, le=20)
    upstream_retries: int = Field(default=1, ge=0, le=10)
    first_byte_wait: Seconds = Field(default=20.0, ge=0)
    breaker_pause: Seconds = Field(default=5.0, gt=0, le=60)
    client_idle_timeout: Seconds = Field(default=300.0, gt=0)
    keepalive: Seconds = Field(default=0, ge=0, le=3600)
    drain_wait: Seconds = Field(default=120.0, gt=0)
    drain_most: int = Field(default=100, ge=0)
    lease: Seconds = Field(default=30.0, ge=0.5, le=3600)
    spool_max_bytes: int = Field(default=1024 * 1024 * 1024, ge=1024 * 1024)
    background_wait: Seconds = Field(default=86_400.0, gt=0)
    objects_age: Seconds = Field(default=31 * 86_400.0, ge=0)
    shutdown_wait: Seconds = Field(default=30.0, ge=0)
    change_feed: Literal["auto", "poll"] = "auto"
    change_poll: Seconds = Field(default=1.0, gt=0)
    log_time_zone: Annotated[str, AfterValidator(known_zone)] = "UTC"
    platform_key_column: str | None = Field(default=None, max_length=63, pattern=r"^[^\x00-\x1f]+$")
    platform_key_format: Literal["plain", "sha256"] = "plain"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_calls: bool = True
    metrics_access: Literal["token", "open"] = "token"
    metrics_token: SecretStr | None = Field(default=None, min_length=16)
    notify_webhook: SecretStr | None = None
    notify_webhook_format: Literal["json", "slack", "feishu", "dingtalk", "wecom"] = "json"
    notify_webhook_secret: SecretStr | None = None
    notify_smtp: SecretStr | None = None
    notify_from: str | None = None
    notify_to: str = ""
    notify_low_balance: Decimal | None = Field(default=None, gt=0, le=1_000_000_000)
    notify_again: Seconds = Field(default=21_600.0, ge=1)

    @field_validator("database_url")
    @classmethod
    def _asyncpg_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith("postgresql+asyncpg://"):
            raise ValueError(f"must start with postgresql+asyncpg://, {_URL_EXAMPLE}")
        try:
            parsed = make_url(url)
            parsed.get_dialect()().create_connect_args(parsed)
        except (ArgumentError, ValueError):
            raise ValueError(f"can't be read: check its host and port, {_URL_EXAMPLE}") from None
        if unknown := sorted(parsed.query.keys() - _URL_PARAMETERS):
            raise ValueError(f"has the parameter `{unknown[0]}`; known are {', '.join(sorted(_URL_PARAMETERS))}")
        return url

    @field_validator("notify_webhook", "notify_smtp")
    @classmethod
    def _way_out(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        schemes = ("http", "https") if info.field_name == "notify_webhook" else ("smtp", "smtps")
        if url is not None:
            parts = urlsplit(url.get_secret_value())
            if parts.scheme not in schemes or not parts.hostname:
                raise ValueError(f"must be an address that starts with {schemes[1]}:// or {schemes[0]}://")
        return url

    @property
    def former_secret_keys(self) -> list[str]:
        """Of `SECRET_KEY_OLD`: separated by commas, or one that has commas itself."""
        text = self.secret_key_old.get_secret_value() if self.secret_key_old else ""
        return list(dict.fromkeys(key for key in (*map(str.strip, text.split(",")), text) if key))

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Reads environment and `.env`; `overrides` win over both."""
        try:
            cls._check_env_file()
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as invalid:
            raise StartupError("; ".join(_explain(error) for error in invalid.errors())) from invalid

    @classmethod
    def _check_env_file(cls) -> None:
        """What reads it passes over lines that it can't read: a secret that is set in one would be generated instead."""
        if not ENV_FILE.is_file():
            return
        try:
            bindings = list(parse_stream(StringIO(ENV_FILE.read_text("utf-8"))))
        except (OSError, UnicodeError) as unreadable:
            raise StartupError(f"{ENV_FILE} can't be read as UTF-8 text") from unreadable
        for binding in bindings:
            if binding.error or (binding.value is None and (binding.key or "").lower() in cls.model_fields):
                text = binding.original.string
                line = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
                raise StartupError(f"{ENV_FILE}, line {line}: can't be read; write NAME=value, with quotes closed")


def _explain(error: ErrorDetails) -> str:
    name = "_".join(str(part) for part in error["loc"]).upper()
    if error["type"] == "too_short":
        return f"{name}: must have at least {error['ctx']['min_length']} characters"  # pydantic counts the items of a secret
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"
