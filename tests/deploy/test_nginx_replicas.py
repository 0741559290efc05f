"""Two replicas on one PostgreSQL behind nginx, as `deploy/compose.yaml` has them: clients don't notice it."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from tests.deploy.nginx import Nginx, nginx
from tests.harness.answers import Gate
from tests.harness.books import wait_until
from tests.harness.proxy import Proxy, refuses
from tests.harness.scene import Scene
from tests.harness.tls import NO_TLS

PATH = "/v1/chat/completions"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def other(proxy: Proxy, proxies: Callable[..., Proxy]) -> Proxy:
    return proxies()


@pytest.fixture(scope="module")
def front(proxy: Proxy, other: Proxy) -> Iterator[Nginx]:
    with nginx(proxy.port, other.port) as running:
        yield running


def through(front: Nginx, scene: Scene) -> httpx.Client:
    return httpx.Client(base_url=front.url, headers=scene.http.headers, trust_env=False, verify=NO_TLS, timeout=30)


def test_events_of_a_stream_come_one_by_one(front: Nginx, other: Proxy, scene: Scene) -> None:
    """Each is sent when the client has the one before."""
    scene.known_to(other)
    events = [{"id": "c", "choices": [{"index": 0, "delta": {"content": word}}]} for word in ("one", "two", "three", "four")]
    gates = {index: Gate() for index in range(1, len(events))}
    scene.upstream.stream([*events, "[DONE]"], pauses=gates)
    with through(front, scene) as http, http.stream("POST", PATH, json=scene.chat(stream=True)) as answer:
        pieces = answer.iter_raw()
        got = b""
        for index in range(len(events)):
            if index in gates:
                gates[index].open()
            while got.count(b"\n\n") <= index:
                got += next(pieces)
        got += b"".join(pieces)
    assert got.endswith(b"data: [DONE]\n\n")
    assert scene.row()["end_reason"] == "completed"


def test_large_requests_pass_and_those_that_are_too_large_get_the_proxys_own_error(
    front: Nginx, other: Proxy, new_scene: Callable[..., Scene]
) -> None:
    scene = new_scene(credit="100000")
    scene.known_to(other)
    with through(front, scene) as http:
        large = scene.chat("a" * (20 * MIB), max_tokens=5)
        scene.upstream.answer(json={"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}})
        assert http.post(PATH, json=large).status_code == 200
        assert scene.upstream.requests[0].json["messages"] == large["messages"]
        refused = http.post(PATH, content=b" " * (32 * MIB + 1))
    assert refused.status_code == 413
    assert refused.json()["error"]["code"] == "body_too_large"


def test_official_clients_notice_nothing_of_a_replica_that_stops(proxy: Proxy, proxies: Callable[..., Proxy], scene: Scene) -> None:
    """What it has in flight ends there; what comes meanwhile, and what it refuses, goes to the other."""
    leaving = proxies()
    scene.known_to(leaving)
    gate = Gate()
    for _ in range(4):
        scene.upstream.answer(json={"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}, before=gate)
    with nginx(proxy.port, leaving.port) as front, through(front, scene) as http, ThreadPoolExecutor(8) as pool:
        in_flight = [pool.submit(http.post, PATH, json=scene.chat()) for _ in range(4)]
        wait_until(lambda: len(scene.upstream.requests) == 4, what="two calls in each replica are upstream")
        client = openai.OpenAI(api_key=scene.key, base_url=f"{front.url}/v1", http_client=http, max_retries=2)
        messages: list[dict[str, str]] = scene.chat()["messages"]
        calls = [pool.submit(client.chat.completions.create, model=scene.model, messages=messages) for _ in range(20)]
        leaving.process.send_signal(signal.SIGTERM)
        assert all(call.result(20).id for call in calls)
        wait_until(lambda: refuses(leaving.port), what="the port is given back")
        assert [http.post(PATH, json=scene.chat()).status_code for _ in range(10)] == [200] * 10
        assert leaving.process.poll() is None
        gate.open()
        assert [call.result(20).status_code for call in in_flight] == [200] * 4
    assert leaving.stop() == 0
    ended = [(row["status"], row["end_reason"]) for row in scene.rows()]
    assert ended == [("success", "completed")] * 34
