"""What an upstream says that it offers, and which protocols it is asked in."""

from collections.abc import Callable

from tests.harness.scene import UPSTREAM_SECRET, Scene


def test_an_upstreams_models_are_listed_with_their_names_here_and_whether_they_have_a_price(scene: Scene) -> None:
    scene.upstream.answer(json={"data": [{"id": "unknown"}, {"id": "stand-in"}]})

    listed = scene.admin.ask("GET", f"/admin/upstreams/{scene.upstream_id}/models")["data"]

    assert listed == [
        {"id": "stand-in", "name": scene.model, "has_price": True},
        {"id": "unknown", "name": None, "has_price": False},
    ]
    asked = scene.upstream.requests[0]
    assert (asked.method, asked.path, asked.header("authorization")) == ("GET", "/v1/models", f"Bearer {UPSTREAM_SECRET}")


def test_an_upstream_that_lists_nothing_is_a_bad_gateway_without_its_words(scene: Scene) -> None:
    scene.upstream.answer(json={"error": f"wrong key {UPSTREAM_SECRET}"}, status=401)

    answer = scene.admin.http.get(f"/admin/upstreams/{scene.upstream_id}/models")

    assert answer.status_code == 502
    assert "401" in answer.text
    assert UPSTREAM_SECRET not in answer.text


def test_a_model_that_is_served_in_another_protocol_is_found_by_the_error(new_scene: Callable[..., Scene]) -> None:
    scene = new_scene(protocols=["anthropic"])

    refused = scene.post(scene.chat())
    served = scene.post(scene.chat(max_tokens=20), path="/v1/messages")

    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "other_protocol")
    assert "POST /v1/messages here" in refused.json()["error"]["message"]
    assert served.status_code == 200
