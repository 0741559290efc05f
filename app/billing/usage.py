"""What a call used, as disjoint parts that a price can be put on."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

LARGEST_COUNT = 2_147_483_647
"""The largest count that a row's INTEGER column holds."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts as the provider reported them, or as they were estimated.

    `input_tokens` is the whole input: uncached, cache read, cache write, audio. `output_tokens` the whole output:
    reasoning and audio included. Of what was written to the cache, `cache_write_1h_tokens` stay for an hour. `extra` holds
    counts of other meters that are not tokens, such as `web_search`; `others` what models beside the one that was called
    have used, by their names, which is in no other count. `units` measure the same as the tokens in another way: images,
    seconds, characters or searches, by which some models are priced. `service_tier`: at which the call ran, where the answer
    says so; None: the base.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    extra: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, "Usage"] = field(default_factory=dict)
    service_tier: str | None = field(default=None, compare=False)  # two reports that differ in it alone count the same
    units: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_consistent(self) -> bool:
        """Whether no part is larger than its whole. Media from the cache are in both parts, so these two may overlap."""
        read_or_written = self.cache_read_tokens + self.cache_write_tokens
        of_input = self.audio_input_tokens + self.image_input_tokens
        of_output = self.reasoning_tokens + self.audio_output_tokens + self.image_output_tokens
        return max(read_or_written, of_input) <= self.input_tokens and of_output <= self.output_tokens

    def at_least(self, other: Self) -> Self:
        """Each count at the larger of the two. The tier is the last that was told: `other` is the earlier report."""
        counts = {name: max(getattr(self, name), getattr(other, name)) for name in _COUNTS}
        extra = {name: max(self.extra.get(name, 0), other.extra.get(name, 0)) for name in {**self.extra, **other.extra}}
        units = {name: max(self.units.get(name, 0), other.units.get(name, 0)) for name in {**self.units, **other.units}}
        tier = self.service_tier or other.service_tier
        return replace(self, **counts, extra=extra, others={**other.others, **self.others}, units=units, service_tier=tier)

    def plus(self, other: Self) -> Self:
        counts = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        extra = {name: self.extra.get(name, 0) + other.extra.get(name, 0) for name in {**self.extra, **other.extra}}
        units = {name: self.units.get(name, 0) + other.units.get(name, 0) for name in {**self.units, **other.units}}
        return replace(self, **counts, extra=extra, units=units)

    @property
    def has_tokens(self) -> bool:
        return bool(self.input_tokens or self.output_tokens)

    def meters(self) -> dict[str, int]:
        """Meter -> quantity, disjoint: no token is in two meters, whatever the provider reported.

        A part is cut at what is left of its whole, so that a part reported larger than the whole is billed once.
        """
        read = min(self.cache_read_tokens, self.input_tokens)
        write = min(self.cache_write_tokens, self.input_tokens - read)
        write_1h = min(self.cache_write_1h_tokens, write)
        audio_in = min(self.audio_input_tokens, self.input_tokens - read - write)
        image_in = min(self.image_input_tokens, self.input_tokens - read - write - audio_in)
        reasoning = min(self.reasoning_tokens, self.output_tokens)
        audio_out = min(self.audio_output_tokens, self.output_tokens - reasoning)
        image_out = min(self.image_output_tokens, self.output_tokens - reasoning - audio_out)
        quantities = {
            "input": self.input_tokens - read - write - audio_in - image_in,
            "cache_read": read,
            "cache_write": write - write_1h,
            "cache_write_1h": write_1h,
            "audio_input": audio_in,
            "image_input": image_in,
            "output": self.output_tokens - reasoning - audio_out - image_out,
            "reasoning": reasoning,
            "audio_output": audio_out,
            "image_output": image_out,
            **self.extra,
        }
        return {meter: quantity for meter, quantity in quantities.items() if quantity}


NO_USAGE = Usage()
_COUNTS = tuple(counted.name for counted in fields(Usage) if counted.name not in ("extra", "others", "units", "service_tier"))
