"""Which calls a pause that an upstream has asked for concerns, and for how long, by a clock of the test's own."""

from typing import cast

import pytest

from app.gateway.forwarding.cooldown import LONGEST, MOST, Cooldowns, retry_after
from app.gateway.forwarding.transport import UpstreamAnswer
from tests.gateway.test_breaker import Clock
from tests.gateway.test_order import target


class Told:
    def __init__(self, **headers: str) -> None:
        self.raw_headers = tuple((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items())


def test_a_rate_is_that_of_one_model_and_one_secret_and_an_overload_that_of_one_model() -> None:
    cooldowns, upstream = Cooldowns(clock=Clock()), target(1, secrets=("a", "b"))
    cooldowns.begin(upstream, "m", "a", status=429, seconds=5)
    assert (cooldowns.secrets(upstream, "m"), cooldowns.left(upstream, "m")) == ({"a"}, 0)

    cooldowns.begin(upstream, "m", "b", status=429, seconds=3)
    assert cooldowns.left(upstream, "m") == 3
    cooldowns.begin(upstream, "n", "a", status=503, seconds=7)
    assert cooldowns.left(upstream, "n") == 7
    assert cooldowns.left(upstream, "o") == cooldowns.left(target(2, secrets=("a",)), "m") == 0


def test_a_long_one_is_told_whole_and_heeded_for_a_while() -> None:
    clock, upstream = Clock(), target(1)
    cooldowns = Cooldowns(clock=clock)
    cooldowns.begin(upstream, "m", None, status=429, seconds=3600)

    clock.now += LONGEST - 1
    assert cooldowns.left(upstream, "m") == 1
    assert cooldowns.refusal([cooldowns.of(upstream, "m")]).headers["Retry-After"] == str(3600 - int(LONGEST) + 1)
    clock.now += 1
    assert cooldowns.left(upstream, "m") == 0


def test_no_more_are_remembered_than_there_may_be() -> None:
    cooldowns, upstream = Cooldowns(clock=Clock()), target(1)
    for number in range(MOST + 1):
        cooldowns.begin(upstream, f"m-{number}", None, status=429, seconds=5)
    assert [cooldowns.left(upstream, f"m-{number}") for number in (0, 1, MOST)] == [0, 5, 5]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7),
        ({"retry_after": "7", "retry_after_ms": "250"}, 0.25),
        ({"retry_after": "7", "retry_after_ms": "soon"}, 7),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry_after": "-1"}, None),
        ({"retry_after": "9" * 400}, None),
        ({"retry_after_ms": "nan"}, None),
        ({}, None),
    ],
)
def test_what_is_told(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(cast(UpstreamAnswer, Told(**headers))) == seconds
