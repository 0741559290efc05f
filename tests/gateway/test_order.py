"""In which order routes are tried, which of them a call's protocol leaves, and which secret an attempt takes."""

from collections import Counter

import pytest

from app.catalog.routing import Route, Target
from app.errors import NotFound
from app.gateway.admission.order import in_order
from app.gateway.admission.spoken import spoken
from app.gateway.forwarding.keyring import SET_ASIDE, Keyring
from app.gateway.protocols.chat_completions import ChatCompletions


def target(number: int, *, secrets: tuple[str, ...] = (), protocols: frozenset[str] | None = None) -> Target:
    first = secrets[0] if secrets else None
    return Target(number, f"u{number}", "http://u", "auto", False, "inject", "cancel", first, secrets=secrets, protocols=protocols)


def route(number: int, *, priority: int = 0, weight: int = 1, protocols: frozenset[str] | None = None) -> Route:
    return Route(target(number, protocols=protocols), "m", 1, None, priority, weight)


def first(routes: list[Route], affinity: str | None) -> int:
    return in_order(routes, affinity)[0].target.id


def test_priority_goes_before_weight() -> None:
    routes = [route(1, priority=1, weight=1000), route(2), route(3, priority=2, weight=1000)]
    assert all([one.target.id for one in in_order(routes, None)] == [2, 1, 3] for _ in range(50))


@pytest.mark.parametrize("sticky", [True, False])
def test_each_comes_first_as_often_as_its_weight_says(sticky: bool) -> None:
    routes = [route(1, weight=1), route(2, weight=3)]
    found = Counter(first(routes, f"session-{number}" if sticky else None) for number in range(4000))
    assert 0.72 < found[2] / 4000 < 0.78


def test_a_session_goes_the_same_way_and_one_that_loses_its_upstream_alone_moves() -> None:
    routes = [route(1), route(2), route(3)]
    sessions = [f"session-{number}" for number in range(300)]
    before = {session: first(routes, session) for session in sessions}

    assert before == {session: first(routes[::-1], session) for session in sessions}
    after = {session: first(routes[:2], session) for session in sessions}
    assert all(after[session] == before[session] for session in sessions if before[session] != 3)


def test_routes_that_do_not_speak_the_protocol_are_left_out() -> None:
    left = spoken(
        (route(1, protocols=frozenset({"anthropic"})), route(2), route(3, protocols=frozenset({"openai"}))), ChatCompletions(), "m"
    )
    assert [one.target.id for one in left] == [2, 3]


def test_where_none_is_left_the_error_names_the_path_that_works() -> None:
    with pytest.raises(NotFound, match="POST /v1/messages here"):
        spoken((route(1, protocols=frozenset({"anthropic"})),), ChatCompletions(), "m")


def test_secrets_take_turns_and_a_refused_one_sits_out() -> None:
    now = [0.0]
    keyring = Keyring(clock=lambda: now[0])
    upstream = target(1, secrets=("a", "b", "c"))
    assert Counter(keyring.take(upstream) for _ in range(9)) == {"a": 3, "b": 3, "c": 3}

    assert keyring.refused(upstream, "b")
    assert {keyring.take(upstream) for _ in range(9)} == {"a", "c"}

    now[0] += SET_ASIDE + 1
    assert {keyring.take(upstream) for _ in range(9)} == {"a", "b", "c"}


def test_where_all_secrets_were_refused_they_are_tried_all_the_same() -> None:
    keyring = Keyring()
    upstream = target(1, secrets=("a", "b"))
    assert keyring.refused(upstream, "a")
    assert not keyring.refused(upstream, "b")
    assert keyring.take(upstream) in ("a", "b")
