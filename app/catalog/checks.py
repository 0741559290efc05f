"""What the catalog accepts as names, patterns, addresses and limits: the same for REST, command line and dashboard.

Each raises `UnacceptableValue`, whose message starts with the field and says what to change.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_network

from app.errors import UnacceptableValue

LARGEST_INTEGER = 2**31 - 1
LARGEST_LIMIT = Decimal(1_000_000_000)
FIRST_MOMENT, LAST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Between which moments can be told in any zone."""


def text(field: str, value: str, *, longest: int) -> str:
    """Printable text of 1 to `longest` characters, without space at its ends."""
    if not 1 <= len(value) <= longest:
        raise UnacceptableValue(f"{field}: must have 1 to {longest} characters")
    if not value.isprintable() or value != value.strip():
        raise UnacceptableValue(f"{field}: must be printable, without line breaks, control characters or space at its ends")
    return value


def name(field: str, value: str, *, longest: int, not_below: Sequence[str] = ()) -> str:
    """Text by which a thing is asked for over REST, as the last part of a path: clients take `.` and `..` there for directories, and
    `x/credits` is what `not_below` has of `x`."""
    text(field, value, longest=longest)
    if not {".", ".."}.isdisjoint(value.split("/")):
        raise UnacceptableValue(f"{field}: must have no part `.` or `..` between slashes, which clients take out of a path")
    if taken := next((part for part in not_below if value.endswith(f"/{part}")), None):
        raise UnacceptableValue(f"{field}: must not end in `/{taken}`, where something else of another one is found")
    return value


def pattern(field: str, value: str) -> str:
    """A model's name, or a prefix that ends in `*`."""
    name(field, value, longest=255)
    if "*" in value[:-1]:
        raise UnacceptableValue(f"{field}: `*` may only be the last character, as in `openai/*`, not as in {value!r}")
    return value


def patterns(field: str, values: Sequence[str]) -> list[str]:
    if not values:
        raise UnacceptableValue(f"{field}: name at least one model; `*` stands for all")
    return list(dict.fromkeys(pattern(field, value) for value in values))


def networks(field: str, values: Sequence[str]) -> list[str]:
    """Addresses and CIDR networks, as Python writes them."""
    if not values:
        raise UnacceptableValue(f"{field}: name at least one address or network; lift the restriction to allow all")
    return list(dict.fromkeys(_network(field, value) for value in values))


def _network(field: str, value: str) -> str:
    try:
        return str(ip_network(value, strict=True))
    except ValueError:
        raise UnacceptableValue(
            f"{field}: {value!r} is neither an IP address nor a network whose host bits are zero, such as 10.0.0.0/8"
        ) from None


def count(field: str, value: int) -> int:
    if not 1 <= value <= LARGEST_INTEGER:
        raise UnacceptableValue(f"{field}: must be from 1 to {LARGEST_INTEGER}; lift the limit for more")
    return value


def limit(field: str, value: int | Decimal) -> int | Decimal:
    """Of calls, tokens, or money in a period, by the name of the column."""
    if field in ("rpm", "tpm", "max_concurrency"):
        return count(field, int(value))
    return money(field, Decimal(value), decimals=10)


def money(field: str, value: Decimal, *, decimals: int) -> Decimal:
    """From 0 to a thousand millions."""
    if not value.is_finite() or not 0 <= value <= LARGEST_LIMIT:
        raise UnacceptableValue(f"{field}: must be from 0 to {LARGEST_LIMIT}")
    if value != round(value, decimals):
        raise UnacceptableValue(f"{field}: must have at most {decimals} decimals")
    return value
