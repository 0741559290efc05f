"""What nginx does with calls, with stand-ins in the place of replicas: they see each byte that it sends."""

from collections.abc import Iterator

import httpx
import pytest

from tests.deploy.nginx import Nginx, nginx
from tests.harness.proxy import free_port
from tests.harness.tls import NO_TLS
from tests.standin import StandIn

CALL = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


class Scene:
    def __init__(self, replicas: tuple[StandIn, StandIn], front: Nginx, http: httpx.Client) -> None:
        self.replicas = replicas
        self.front = front
        self.http = http

    def post(self, **how: object) -> httpx.Response:
        return self.http.post(PATH, json=CALL, **how)  # type: ignore[arg-type]

    def received(self) -> int:
        return sum(len(replica.requests) for replica in self.replicas)


@pytest.fixture
def scene() -> Iterator[Scene]:
    with StandIn() as first, StandIn() as second, nginx(port_of(first), port_of(second)) as front, client(front) as http:
        yield Scene((first, second), front, http)


def test_replicas_are_told_the_clients_address_and_not_what_it_claims(scene: Scene) -> None:
    headers = {"X-Forwarded-For": "203.0.113.7", "Authorization": "Bearer sk-x", "traceparent": "00-1-2-3"}
    assert scene.post(headers=headers).status_code == 200
    (received,) = [*scene.replicas[0].requests, *scene.replicas[1].requests]
    assert [value for name, value in received.headers if name == "x-forwarded-for"] == ["127.0.0.1"]
    assert received.header("host") == scene.front.url.removeprefix("http://")
    assert (received.header("authorization"), received.header("traceparent")) == ("Bearer sk-x", "00-1-2-3")


def test_connections_to_replicas_are_kept(scene: Scene) -> None:
    """Six calls, one after the other, over one connection, and so through one process of nginx."""
    for _ in range(6):
        assert scene.post().status_code == 200
    assert scene.received() == 6
    assert [scene.front.connections_to(port_of(replica)) for replica in scene.replicas] == [1, 1]


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_call_that_was_handed_over_is_never_sent_again(scene: Scene, how: str) -> None:
    """It may have reached the provider, and the replica bills it."""
    for replica in scene.replicas:
        replica.raw(b"", how=how)  # type: ignore[arg-type]
    assert scene.post().status_code == 502
    assert scene.received() == 1


@pytest.mark.parametrize("status", [429, 500, 502, 504])
def test_answers_of_replicas_are_not_asked_for_again(scene: Scene, status: int) -> None:
    for replica in scene.replicas:
        replica.answer(status=status, body=b'{"error": 1}', headers={"Retry-After": "7"}, always=True)
    answer = scene.post()
    assert (answer.status_code, answer.content, answer.headers["retry-after"]) == (status, b'{"error": 1}', "7")
    assert scene.received() == 1


def test_a_replica_that_takes_no_calls_is_passed_over(scene: Scene) -> None:
    """Its 503 says that nothing was done. The other gets the very same bytes."""
    stopping, other = scene.replicas
    stopping.answer(status=503, body=b"{}", always=True)
    for _ in range(4):
        assert scene.post().status_code == 200
    assert stopping.requests
    assert len(other.requests) == 4
    assert {(seen.method, seen.target, seen.body) for seen in stopping.requests} == {("POST", PATH, other.requests[0].body)}


def test_where_both_take_no_calls_the_client_gets_the_proxys_own_words(scene: Scene) -> None:
    for replica in scene.replicas:
        replica.answer(status=503, body=b'{"error": "stopping"}', headers={"Retry-After": "1"}, always=True)
    answer = scene.post()
    assert (answer.status_code, answer.content, answer.headers["retry-after"]) == (503, b'{"error": "stopping"}', "1")
    assert scene.received() == 2


def test_a_replica_that_is_gone_costs_no_call() -> None:
    with StandIn() as replica, nginx(free_port(), port_of(replica)) as front, client(front) as http:
        answers = [http.post(PATH, json=CALL).status_code for _ in range(10)]
        assert answers == [200] * 10
        assert len(replica.requests) == 10


def port_of(replica: StandIn) -> int:
    return httpx.URL(replica.url).port or 80


def client(front: Nginx) -> httpx.Client:
    return httpx.Client(base_url=front.url, trust_env=False, verify=NO_TLS, timeout=10)
