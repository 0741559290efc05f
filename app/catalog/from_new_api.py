"""What new-api (and one-api, which it comes from) writes down: rows of its tables `users`, `tokens` and `options`.

Quota: 500,000 are a US dollar (`QuotaPerUnit`). A `ModelRatio` of 1 is 0.002 dollars for 1,000 tokens of input, which is 2 for a
million; `CompletionRatio` multiplies it for output, `CacheRatio` for what is read from a cache, `CreateCacheRatio` for what is
written to one. `ModelPrice` is dollars a call. Keys are stored without the `sk-` that clients send.
https://docs.newapi.pro, `model/token.go`, `model/user.go`, `setting/ratio_setting`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from app.catalog.moving import Fault, MovedKey, MovedPrice, MovedUser, cents

Row = Mapping[str, Any]
QUOTA_OF_A_DOLLAR = 500_000
DOLLARS_OF_A_RATIO = 2
ENABLED = 1
_OPTIONS = ("ModelRatio", "CompletionRatio", "CacheRatio", "CreateCacheRatio", "ModelPrice")
_NO_COMPLETION = "has no CompletionRatio; new-api takes one of its own code: set it there, and export again"
SHOWN = 10
"""Characters of a key."""


def users(rows: Iterable[tuple[str, Row]], faults: list[Fault], *, rate: Decimal) -> list[MovedUser]:
    """`rate`: what a dollar costs."""
    found = []
    for where, row in rows:
        if _is_deleted(row):
            continue
        try:
            quota = _number(row, "quota")
        except ValueError as wrong:
            faults.append((where, str(wrong)))
            continue
        group = _text(row, "group")
        found.append(
            MovedUser(
                where,
                id=_text(row, "id"),
                name=_text(row, "display_name") or _text(row, "username") or None,
                credit=cents(max(quota, Decimal(0)) / QUOTA_OF_A_DOLLAR * rate),
                disabled=_number(row, "status", ENABLED) != ENABLED,
                policy={} if group in ("", "default") else {"group": group},
                notes=("was in debt, and begins with nothing",) if quota < 0 else (),
            )
        )
    return found


def keys(rows: Iterable[tuple[str, Row]], faults: list[Fault], *, rate: Decimal) -> list[MovedKey]:
    found = []
    for where, row in rows:
        if _is_deleted(row):
            continue
        try:
            found.append(_key(where, row, rate))
        except ValueError as wrong:
            faults.append((where, str(wrong)))
    return found


def _key(where: str, row: Row, rate: Decimal) -> MovedKey:
    stored = _text(row, "key").removeprefix("sk-")
    if not stored or "*" in stored:
        raise ValueError("key: is missing or masked; export the table `tokens` from the database, not from the web page")
    policy: dict[str, Any] = {}
    if not _truth(row, "unlimited_quota"):
        policy["spend_limit"] = cents(max(_number(row, "remain_quota"), Decimal(0)) / QUOTA_OF_A_DOLLAR * rate)
    if (expired := int(_number(row, "expired_time", -1))) > 0:
        policy["expires_at"] = datetime.fromtimestamp(expired, UTC)
    if _truth(row, "model_limits_enabled"):
        policy["models"] = [name for name in map(str.strip, _text(row, "model_limits").split(",")) if name]
    if addresses := _text(row, "allow_ips").replace(",", "\n").split():
        policy["allowed_ips"] = addresses
    group = _text(row, "group")
    notes = ("tried several groups; takes its user's",) if group == "auto" else ()
    if group not in ("", "default", "auto"):
        policy["group"] = group
    presented = f"sk-{stored}"
    return MovedKey(
        where,
        user_id=_text(row, "user_id"),
        key_hash=hashlib.sha256(presented.encode()).hexdigest(),
        prefix=presented[:SHOWN],
        name=_text(row, "name") or None,
        disabled=_number(row, "status", ENABLED) not in (ENABLED, 3, 4),  # expired and used up are told by the limits
        policy=policy,
        notes=notes,
    )


def prices(rows: Iterable[tuple[str, Row]], faults: list[Fault], *, rate: Decimal) -> list[MovedPrice]:
    """Of the options that tell any."""
    options: dict[str, dict[str, Decimal]] = {name: {} for name in _OPTIONS}
    for where, row in rows:
        name = _text(row, "key")
        if name in options:
            try:
                read = json.loads(_text(row, "value") or "{}", parse_float=Decimal, parse_int=Decimal)
                options[name] = {model: ratio for model, ratio in read.items() if isinstance(ratio, Decimal)}
            except (ValueError, AttributeError):
                faults.append((where, f"{name}: is no JSON object of numbers"))
    each = [MovedPrice(f"ModelPrice of {model}", model, {"request": _rate(price * rate)}) for model, price in options["ModelPrice"].items()]
    priced = {price.model for price in each}
    for model, ratio in options["ModelRatio"].items():
        if model in priced:  # there, a price goes before a ratio
            continue
        if (completion := options["CompletionRatio"].get(model)) is None:
            faults.append((f"ModelRatio of {model}", _NO_COMPLETION))
            continue
        base = ratio * DOLLARS_OF_A_RATIO * rate
        rates = {"input": _rate(base), "output": _rate(base * completion)}
        if (cached := options["CacheRatio"].get(model)) is not None:
            rates["cache_read"] = _rate(base * cached)
        if (written := options["CreateCacheRatio"].get(model)) is not None:
            rates["cache_write"] = _rate(base * written)
        each.append(MovedPrice(f"ModelRatio of {model}", model, rates))
    return each


def _rate(amount: Decimal) -> str:
    return f"{round(amount, 10).normalize():f}"


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None or value == "NULL" else str(value).strip()


def _number(row: Row, name: str, missing: int | None = None) -> Decimal:
    text = _text(row, name)
    if not text and missing is not None:
        return Decimal(missing)
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{name}: {text!r} is no number; export the table with its column names") from None


def _truth(row: Row, name: str) -> bool:
    return _text(row, name).lower() in ("1", "true", "t")


def _is_deleted(row: Row) -> bool:
    return bool(_text(row, "deleted_at") or _text(row, "DeletedAt"))
