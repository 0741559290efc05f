"""Keys that are missing, wrong, expired or disabled, users that are disabled, paths and methods that don't exist: each
is told so in OpenAI's envelope, and nothing reaches the upstream."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.acceptance.refusals import assert_envelope, no_row
from tests.harness.admin import Admin
from tests.harness.books import wait_until
from tests.harness.scene import Scene
from tests.harness.tls import NO_TLS

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer sk-wrong", "Basic eA==", "sk-wrong", "Bearer \xe9"])
def test_a_missing_or_wrong_key(scene: Scene, authorization: str | None) -> None:
    headers = [] if authorization is None else [(b"authorization", authorization.encode("latin-1"))]
    with httpx.Client(base_url=scene.proxy.url, trust_env=False, verify=NO_TLS) as client:
        answer = client.post(CHAT, json=scene.chat(), headers=headers)

    assert_envelope(answer, 401, "invalid_api_key" if authorization == "Bearer sk-wrong" else None)
    scene.assert_nothing_happened()
    no_row(scene)


def test_an_expired_key(new_scene: Callable[..., Scene]) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    scene = new_scene(key_fields={"expires_at": yesterday})

    error = assert_envelope(scene.post(scene.chat()), 401)

    assert "expired" in error["message"]
    scene.assert_nothing_happened()
    no_row(scene)


def test_a_key_that_expires_while_it_is_in_use(new_scene: Callable[..., Scene]) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    scene = new_scene(key_fields={"expires_at": soon})
    before = scene.post(scene.chat()).status_code

    wait_until(lambda: scene.post(scene.chat()).status_code == 401, what="the key has expired", within=5)

    assert before in (200, 401)


def test_a_disabled_key_is_refused_at_once(scene: Scene, admin: Admin) -> None:
    assert scene.post(scene.chat()).status_code == 200
    admin.ask("DELETE", f"/admin/keys/{scene.key_id}")

    assert_envelope(scene.post(scene.chat()), 401)
    assert len(scene.upstream.requests) == 1
    assert len(scene.rows()) == 1


def test_a_disabled_user_is_refused_at_once(scene: Scene, admin: Admin) -> None:
    assert scene.post(scene.chat()).status_code == 200
    admin.ask("DELETE", f"/admin/users/{scene.user}")

    answer = scene.post(scene.chat())

    assert answer.status_code in (401, 403)
    assert_envelope(answer, answer.status_code)
    assert len(scene.upstream.requests) == 1


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/chat", "/v1/chat/completions/x/y/z", "/v1/", "/v1"])
def test_an_unknown_path(scene: Scene, path: str) -> None:
    assert_envelope(scene.post(scene.chat(), path), 404)
    scene.assert_nothing_happened()


@pytest.mark.parametrize(("method", "path"), [("DELETE", CHAT), ("PUT", "/v1/embeddings"), ("POST", "/v1/models")])
def test_a_wrong_method(scene: Scene, method: str, path: str) -> None:
    answer = scene.http.request(method, path, json=scene.chat())

    assert_envelope(answer, 405)
    assert answer.headers["allow"]
    scene.assert_nothing_happened()


def test_a_slash_too_many_is_not_sent_to_whatever_host_the_caller_named(scene: Scene) -> None:
    answer = scene.post(scene.chat(), f"{CHAT}/", headers={"Host": "elsewhere.example"})

    assert_envelope(answer, 404, "unknown_url")
    scene.assert_nothing_happened()


@pytest.mark.parametrize("path", ["/logs/", "/admin/keys/", "/internal/demo/"])
def test_a_slash_too_many_elsewhere(scene: Scene, path: str) -> None:
    assert scene.http.get(path).status_code in (401, 404, 405)
