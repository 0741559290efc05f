"""Prices, counts and bounds as hypothesis draws them: from the usual to the extreme that `Price.parse` still takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from hypothesis import strategies as st

from app.billing.price import Bound, Price
from app.billing.usage import LARGEST_COUNT, Usage
from tests.billing import exact
from tests.billing.exact import EACH, INPUT_KINDS, OUTPUT_KINDS, Rates

counts = st.one_of(st.integers(0, 20), st.integers(0, 300_000), st.integers(0, LARGEST_COUNT))
usual_rates = st.decimals(0, 100, places=4)
any_rates = st.integers(0, 10).flatmap(lambda places: st.decimals(0, 10_000_000, places=places))
rate_texts = st.one_of(usual_rates, any_rates).map(lambda rate: f"{rate:f}")
multipliers = st.decimals(0, 10, places=4).map(str)


def rate_tables(meters: Sequence[str] = (*INPUT_KINDS, *OUTPUT_KINDS, *EACH)) -> st.SearchStrategy[Rates]:
    return st.dictionaries(st.sampled_from(meters), rate_texts, min_size=1)


@dataclass(frozen=True)
class Tariff:
    """A price as the operator wrote it."""

    rates: Rates
    tiers: Sequence[tuple[int, Rates]] = ()

    @property
    def price(self) -> Price:
        return exact.price(self.rates, *self.tiers)

    def rates_for(self, input_tokens: int) -> Rates:
        return exact.rates_for(input_tokens, self.rates, self.tiers)


steps = st.one_of(st.integers(1, 20), st.integers(1, 300_000))
tariffs = st.builds(Tariff, rate_tables(), st.lists(st.tuples(steps, rate_tables()), max_size=3, unique_by=lambda tier: tier[0]).map(tuple))
token_meters = st.dictionaries(st.sampled_from((*INPUT_KINDS, *OUTPUT_KINDS)), counts)
each_meters = st.dictionaries(st.sampled_from([meter for meter in EACH if meter != "request"]), st.integers(0, 10_000))

reported_usages = st.builds(
    Usage,
    input_tokens=counts,
    output_tokens=counts,
    cache_read_tokens=counts,
    cache_write_tokens=counts,
    reasoning_tokens=counts,
    audio_input_tokens=counts,
    audio_output_tokens=counts,
)
"""As providers report them: the parts know nothing of their wholes."""


@dataclass(frozen=True)
class BoundedUse:
    """`meters`: disjoint quantities of a call within `bound`, of the kinds that it allows. `input_tokens`: its whole input."""

    bound: Bound
    meters: Mapping[str, int]
    input_tokens: int


@st.composite
def bounded_uses(draw: st.DrawFn) -> BoundedUse:
    bound = Bound(draw(counts), draw(counts), frozenset(draw(st.sets(st.sampled_from((*INPUT_KINDS, *OUTPUT_KINDS))))))
    inputs = draw(_split(bound.input_tokens, [kind for kind in INPUT_KINDS if kind in bound.kinds | {"input"}]))
    outputs = draw(_split(bound.output_tokens, [kind for kind in OUTPUT_KINDS if kind in bound.kinds | {"output"}]))
    return BoundedUse(bound, inputs | outputs, sum(inputs.values()))


@st.composite
def _split(draw: st.DrawFn, most: int, kinds: Sequence[str]) -> dict[str, int]:
    """At most `most` tokens, over `kinds` in any order; often all of them, and often of one kind."""
    left = draw(st.one_of(st.just(most), st.integers(0, most)))
    parts = {}
    for kind in draw(st.permutations(kinds)):
        parts[kind] = draw(st.one_of(st.just(left), st.integers(0, left)))
        left -= parts[kind]
    return {kind: count for kind, count in parts.items() if count}


def money(low: str, high: str) -> st.SearchStrategy[Decimal]:
    return st.decimals(low, high, places=10)
