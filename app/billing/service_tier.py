"""Service tiers: the same model, sooner or later, at other rates.

Which tier a call ran at is what its answer says, whatever the request asked for. A price may have rates for a tier;
meters that they lack keep the base rates. Sources: `service_tier` of OpenAI (https://platform.openai.com/docs/guides/flex-processing,
.../priority-processing), Groq (https://console.groq.com/docs/service-tiers), Anthropic (https://docs.anthropic.com/en/api/service-tiers,
and `speed` of its fast mode), Gemini (`serviceTier` in `usageMetadata`).
"""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.billing.rates import parse_rates, plain

Rates = Mapping[str, Decimal]
_Written = Mapping[str, Mapping[str, str]] | None
Steps = Sequence[tuple[int, Rates]]
"""Rates above so many tokens of input, ascending."""

ANY = "auto"
"""What a request asks for that leaves the tier to the provider, as one does that names none."""
_BASE = frozenset({"", "auto", "default", "standard", "standard_only", "unspecified", "on_demand"})
"""Names of no tier: the base rates."""
_BY_NAME_ALONE = frozenset({"fast", "ultrafast", "batch"})
"""Tiers at which no call runs that didn't ask for them."""
_SAME = {"fast": "priority", "priority": "fast"}
"""OpenAI's answers say `priority` where `fast` was asked for; some relays have it the other way round."""
LONGEST_NAME = 40
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")


def tier_named(reported: object) -> str | None:
    """The tier that an answer tells, None for the base. What no price could name is cut to what can be written down."""
    if not isinstance(reported, str):
        return None
    name = reported[:LONGEST_NAME].strip().lower()
    if name in _BASE:
        return None
    return name if _NAME.fullmatch(name) else "".join(letter if letter.isprintable() else "?" for letter in name)


def tier_asked(requested: object) -> str:
    """The tier that a request names; `auto` where it leaves that open, or what it says can't be understood."""
    if not isinstance(requested, str):
        return ANY
    name = requested.strip().lower()
    return name if name and len(name) <= LONGEST_NAME else ANY


def is_reachable(tier: str, asked: str) -> bool:
    """Whether a call that asks for `asked` may run at `tier`. It may run at the base rates in any case."""
    if asked == ANY:
        return tier not in _BY_NAME_ALONE
    return tier == asked or _SAME.get(asked) == tier


def tier_supposed(asked: str, priced: Container[str]) -> str | None:
    """At which tier a call ran that broke off before its answer told: the one that it asked for by name, if it did."""
    name = tier_named(asked)
    same = _SAME.get(name or "")
    return same if name not in priced and same in priced else name


@dataclass(frozen=True, slots=True)
class ServiceTier:
    """`rates` stand above the base rates, `steps` above both where the input is that large."""

    rates: Rates
    steps: tuple[tuple[int, Rates], ...] = ()


def rates_above(rates: Rates, steps: Steps, input_tokens: int) -> Rates:
    """`rates`, overridden by those of the highest step that the input reaches."""
    reached = rates
    for above, step_rates in steps:
        if input_tokens > above:
            reached = {**rates, **step_rates}
    return reached


def parse_service_tiers(whole: _Written, by_context: Sequence[tuple[int, _Written]]) -> dict[str, ServiceTier]:
    """Of a price's `service_tiers`, and of those of its context tiers, ascending. Raises `ValueError`."""
    by_step = [(above, _parse(written)) for above, written in by_context]
    base = _parse(whole)
    names = [*base, *(name for _, found in by_step for name in found)]
    return {
        name: ServiceTier(base.get(name, {}), tuple((above, found[name]) for above, found in by_step if name in found))
        for name in dict.fromkeys(names)
    }


def _parse(service_tiers: _Written) -> dict[str, dict[str, Decimal]]:
    parsed = {}
    for name, rates in (service_tiers or {}).items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} can't be a service tier: it needs 1 to {LONGEST_NAME} of a-z, 0-9, `_`, `.` and `-`")
        if name in _BASE:
            raise ValueError(f"the service tier {name!r} is the base: put its rates into `rates`")
        parsed[name] = parse_rates(rates)
    return parsed


def service_tiers_as_json(service_tiers: Mapping[str, ServiceTier], above: int | None = None) -> dict[str, dict[str, str]]:
    """Their rates, or those of the step `above`, as a price's JSON has them."""
    if above is None:
        return {name: plain(tier.rates) for name, tier in service_tiers.items() if tier.rates}
    return {name: plain(dict(tier.steps)[above]) for name, tier in service_tiers.items() if above in dict(tier.steps)}
