"""What LiteLLM's proxy writes down: rows of its tables `LiteLLM_UserTable` and `LiteLLM_VerificationToken`, and prices as in
`model_prices_and_context_window.json`, or as `GET /model/info` answers.

It stores a key's SHA-256 in hexadecimal, as is done here, so that its keys go on working. A budget with a duration is a limit of a
day or a month here; one without is what may be spent at all. Costs are dollars a token.
https://docs.litellm.ai/docs/proxy/virtual_keys, `schema.prisma`.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from app.catalog.moving import Fault, MovedKey, MovedPrice, MovedUser, cents

Row = Mapping[str, Any]
NOBODY = "litellm"
"""Who owns keys that belong to no user and no team."""
_ANY_MODEL = {"all-proxy-models", "all-team-models", "*"}
_DIGEST = re.compile("[0-9a-f]{64}")
_DURATIONS = {"1d": "daily_limit", "24h": "daily_limit", "1mo": "monthly_limit", "30d": "monthly_limit"}
_PER_TOKEN = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
}
_EACH = {
    "output_cost_per_image": "image",
    "input_cost_per_second": "second",
    "input_cost_per_character": "character",
    "input_cost_per_query": "search",
    "input_cost_per_request": "request",
}
_TWO_PRICES = "has another price before; a model has one here, and what an upstream charges is set at the upstream"
_ABOVE = re.compile(r"(.+)_above_(\d+)k_tokens")


def users(rows: Iterable[tuple[str, Row]], faults: list[Fault], *, rate: Decimal) -> list[MovedUser]:
    """`rate`: what a dollar costs."""
    found = []
    for where, row in rows:
        try:
            budget, policy, notes = _budget(row, rate)
            policy |= _limits(row)
        except ValueError as wrong:
            faults.append((where, str(wrong)))
            continue
        if budget is None:
            notes = (*notes, "had no budget to spend from: give credit, or a credit limit")
        name = _text(row, "user_alias") or _text(row, "user_email") or None
        found.append(MovedUser(where, _text(row, "user_id"), name, cents(budget or Decimal(0)), policy=policy, notes=notes))
    return found


def keys(rows: Iterable[tuple[str, Row]], faults: list[Fault], *, rate: Decimal) -> list[MovedKey]:
    found = []
    for where, row in rows:
        try:
            found.append(_key(where, row, rate))
        except ValueError as wrong:
            faults.append((where, str(wrong)))
    return found


def owners(found: Iterable[MovedKey], known: Iterable[MovedUser]) -> list[MovedUser]:
    """Those of keys that are no users there: teams, mostly."""
    there = {user.id for user in known}
    missing = dict.fromkeys(key.user_id for key in found if key.user_id not in there)
    return [MovedUser(f"owner {owner}", owner, notes=("is no user in the files: give credit, or a credit limit",)) for owner in missing]


def _key(where: str, row: Row, rate: Decimal) -> MovedKey:
    token = _text(row, "token")
    if not _DIGEST.fullmatch(token):
        raise ValueError("token: is no SHA-256 in hexadecimal; export the table LiteLLM_VerificationToken from the database")
    budget, policy, notes = _budget(row, rate)
    if budget is not None:
        policy["spend_limit"] = cents(budget)
    if expires := _text(row, "expires"):
        policy["expires_at"] = _moment(expires)
    models = _words(row.get("models"))
    if models and not _ANY_MODEL & set(models):
        policy["models"] = models
    return MovedKey(
        where,
        user_id=_text(row, "user_id") or _text(row, "team_id") or NOBODY,
        key_hash=token,
        prefix=_text(row, "key_name")[:10] or "sk-",
        name=_text(row, "key_alias") or None,
        disabled=_text(row, "blocked").lower() in ("true", "t", "1"),
        policy=policy | _limits(row),
        notes=notes,
    )


def _budget(row: Row, rate: Decimal) -> tuple[Decimal | None, dict[str, Any], tuple[str, ...]]:
    """What is left to be spent at all, else a limit of a day or a month, else what can't be taken over."""
    most, duration = _number(row, "max_budget"), _text(row, "budget_duration")
    if most is None:
        return None, {}, ()
    if not duration:
        return max(most - (_number(row, "spend") or Decimal(0)), Decimal(0)) * rate, {}, ()
    if limit := _DURATIONS.get(duration):
        return None, {limit: cents(most * rate)}, ()
    return None, {}, (f"its budget of {most} for each {duration} has no counterpart here: set another limit",)


def _limits(row: Row) -> dict[str, Any]:
    named = {"rpm": "rpm_limit", "tpm": "tpm_limit", "max_concurrency": "max_parallel_requests"}
    found = {name: _number(row, column) for name, column in named.items()}
    return {name: int(value) for name, value in found.items() if value is not None}


def prices(rows: Iterable[tuple[str, Row]], faults: list[Fault], *, rate: Decimal) -> list[MovedPrice]:
    """Rows as of `model_prices_and_context_window.json` or of `/model/info`; models without a price are left out."""
    found: dict[str, MovedPrice] = {}
    for where, row in rows:
        model, told = _text(row, "model_name"), {**(row.get("model_info") or {}), **(row.get("litellm_params") or {}), **row}
        try:
            price = _price(where, model, told, rate)
        except ValueError as wrong:
            faults.append((where, str(wrong)))
            continue
        if not price.rates:
            continue
        if found.setdefault(model, price).rates != price.rates:
            faults.append((where, f"{model}: {_TWO_PRICES}"))
    return list(found.values())


def _price(where: str, model: str, row: Row, rate: Decimal) -> MovedPrice:
    rates: dict[str, str] = {}
    tiers: dict[int, dict[str, str]] = {}
    for column in row:
        above = _ABOVE.fullmatch(column)
        name = above[1] if above else column
        if (meter := _PER_TOKEN.get(name)) and (cost := _number(row, column)) is not None:
            into = tiers.setdefault(int(above[2]) * 1000, {}) if above else rates
            into[meter] = _rate(cost * 1_000_000 * rate)
        elif (meter := _EACH.get(column)) and (cost := _number(row, column)):
            rates[meter] = _rate(cost * rate)
    return MovedPrice(where, model, rates, tuple(sorted(tiers.items())))


def _rate(amount: Decimal) -> str:
    return f"{round(amount, 10).normalize():f}"


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None or value == "NULL" else str(value).strip()


def _number(row: Row, name: str) -> Decimal | None:
    text = _text(row, name)
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        raise ValueError(f"{name}: {text!r} is no number") from None


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expires: {text!r} is no moment, such as 2030-01-01T00:00:00") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _words(value: object) -> list[str]:
    """JSON's, or PostgreSQL's array as CSV has it: `{a,b}`."""
    if isinstance(value, list):
        return [str(word) for word in value]
    text = "" if value is None else str(value).strip().removeprefix("{").removesuffix("}").removeprefix("[").removesuffix("]")
    return [word for word in (part.strip().strip('"') for part in text.split(",")) if word]
