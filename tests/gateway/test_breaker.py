"""When an upstream is left alone, and when it is tried again, by a clock of the test's own."""

import pytest

from app.gateway.forwarding.breaker import ENOUGH, IN_A_ROW, JITTER, LONGEST_PAUSE, WINDOW, Breakers

PAUSE = 4.0
LATEST = PAUSE * (1 + JITTER)
HERE, THERE = 1, 2


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(pause=PAUSE, clock=clock)


def fail(breakers: Breakers, times: int = IN_A_ROW) -> None:
    for _ in range(times):
        breakers.failed(HERE)


def test_opens_after_failures_in_a_row_and_only_there(breakers: Breakers) -> None:
    fail(breakers, IN_A_ROW - 1)
    assert (breakers.state(HERE), breakers.may_try(HERE)) == ("closed", True)

    breakers.failed(HERE)

    assert (breakers.state(HERE), breakers.may_try(HERE)) == ("open", False)
    assert (breakers.state(THERE), breakers.may_try(THERE)) == ("closed", True)


def test_a_success_starts_the_row_anew(breakers: Breakers) -> None:
    for _ in range(3):
        fail(breakers, IN_A_ROW - 1)
        for _ in range(IN_A_ROW):
            breakers.succeeded(HERE)
    assert breakers.state(HERE) == "closed"


def test_opens_where_half_of_many_calls_fail(breakers: Breakers) -> None:
    for _ in range(ENOUGH // 2):
        assert breakers.state(HERE) == "closed"
        breakers.failed(HERE)
        breakers.succeeded(HERE)
    breakers.failed(HERE)
    assert breakers.state(HERE) == "open"


def test_failures_far_apart_add_up_only_while_nothing_succeeds(breakers: Breakers, clock: Clock) -> None:
    for _ in range(3 * ENOUGH):
        breakers.failed(HERE)
        clock.now += WINDOW + 1
        breakers.succeeded(HERE)
    assert breakers.state(HERE) == "closed"

    for _ in range(IN_A_ROW):
        breakers.failed(HERE)
        clock.now += WINDOW + 1
    assert breakers.state(HERE) == "half_open"


def test_when_due_one_call_tries_and_its_success_closes(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now += LATEST

    assert breakers.state(HERE) == "half_open"
    assert [breakers.may_try(HERE) for _ in range(3)] == [True, False, False]
    breakers.succeeded(HERE)
    assert (breakers.state(HERE), breakers.may_try(HERE)) == ("closed", True)


def test_a_trial_that_says_nothing_leaves_the_next_to_another(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now += LATEST
    assert breakers.may_try(HERE)
    breakers.undecided(HERE)
    assert breakers.may_try(HERE)


def test_failed_trials_double_the_pause_up_to_the_longest(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    pause = PAUSE
    for _ in range(8):
        clock.now += pause * (1 + JITTER)
        assert breakers.may_try(HERE)
        breakers.failed(HERE)
        pause = min(2 * pause, LONGEST_PAUSE)
        clock.now += pause * (1 - JITTER) - 0.01
        assert not breakers.may_try(HERE)
        clock.now -= pause * (1 - JITTER) - 0.01


def test_failures_that_were_under_way_do_not_lengthen_the_pause(breakers: Breakers, clock: Clock) -> None:
    fail(breakers, 3 * IN_A_ROW)
    clock.now += LATEST
    assert breakers.may_try(HERE)


def test_of_open_upstreams_the_one_due_soonest_is_known(breakers: Breakers, clock: Clock) -> None:
    fail(breakers)
    clock.now += LATEST
    for _ in range(IN_A_ROW):
        breakers.failed(THERE)
    assert breakers.soonest([THERE, HERE]) == HERE
