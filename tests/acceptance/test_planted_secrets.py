"""Secrets that an upstream or a client puts where they don't belong: they reach no client, no row and no log."""

import json
from collections.abc import Callable
from typing import Any

from tests.harness import honest_responses
from tests.harness.answers import Usage
from tests.harness.books import wait_until
from tests.harness.scene import UPSTREAM_SECRET as SECRET
from tests.harness.scene import Scene

USAGE = Usage(input=30, output=12)
COUNTS = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}


def rows_with(scene: Scene, secret: str) -> list[str]:
    """Of all tables in which calls leave something."""
    tables = ("api_call_log", "upstream_object", "background_call", "call_hold", "usage_hourly")
    query = "SELECT to_jsonb(t)::text AS row FROM aigcspace.{} t WHERE user_id = $1"
    found = [row["row"] for table in tables for row in scene.db.fetch(query.format(table), scene.user)]
    return [row for row in found if secret in row]


def test_what_an_upstream_says_of_its_own_key_stays_here(scene: Scene) -> None:
    said = honest_responses.message(f"It is {SECRET}.", id=f"msg_{SECRET}")
    kept = honest_responses.response({"model": "m"}, "completed", output=[said], usage=USAGE) | {"id": f"resp_{scene.model}"}
    spoken = {"message": {"role": "assistant", "content": SECRET, "audio": {"id": f"audio_{SECRET}", "data": "AA"}}}
    advised = {"input_tokens": 5, "output_tokens": 1, "iterations": [{"model": SECRET, "input_tokens": 5, "output_tokens": 1}]}
    message = {"id": "msg_1", "type": "message", "content": [{"type": "text", "text": "4"}], "usage": advised}
    failed = kept | {"status": "failed", "error": {"code": "x", "message": SECRET}}
    told: list[str] = []

    def take(path: str, asked: dict[str, Any]) -> None:
        answer = scene.post({"model": scene.model, **asked}, path)
        told.append(f"{answer.headers} {answer.text}")

    chat = {"messages": [{"role": "user", "content": "hi"}]}
    scene.upstream.answer(json={"error": {"message": SECRET}}, status=400, headers={"x-debug": SECRET})
    take("/v1/chat/completions", chat)
    scene.upstream.answer(json={"id": "c", "choices": [spoken], "usage": COUNTS, "service_tier": SECRET})
    take("/v1/chat/completions", chat | {"modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}})
    scene.upstream.answer(json=message)
    take("/v1/messages", chat | {"max_tokens": 5})
    scene.upstream.answer(json=scene.upstream.kept.put(kept))
    take("/v1/responses", {"input": "hi"})
    scene.upstream.stream([honest_responses.event("response.failed", 0, response=failed)])
    take("/v1/responses", {"input": "hi", "stream": True})
    told.append(scene.http.get(f"/v1/responses/{kept['id']}").text)

    wait_until(lambda: len(scene.rows()) == 5, what="a row of each")
    assert [text for text in told if SECRET in text] == []
    assert rows_with(scene, SECRET) == []
    assert SECRET not in scene.proxy.output()


def test_a_background_response_that_its_client_asks_for_tells_no_key_to_its_row(scene: Scene) -> None:
    queued = honest_responses.response({"model": "m"}, "queued") | {"id": f"resp_{scene.model}", "background": True}
    scene.upstream.answer(json=scene.upstream.kept.put(queued))
    scene.upstream.kept.finish(queued["id"], "failed", usage=USAGE)
    scene.upstream.kept.objects[queued["id"]]["error"] = {"code": "x", "message": f"not with {SECRET}"}
    assert scene.post({"model": scene.model, "input": "hi", "background": True}, "/v1/responses").status_code == 200

    assert SECRET not in scene.http.get(f"/v1/responses/{queued['id']}").text

    assert scene.row()["error_message"] == f"not with {'*' * len(SECRET)}"


def test_a_client_that_puts_its_key_elsewhere_leaves_it_in_no_row(scene: Scene) -> None:
    for asked in (
        {"model": scene.key, "input": "hi"},
        {"model": scene.model, "input": "hi", "previous_response_id": scene.key},
        {"model": scene.model, "input": [{"type": "item_reference", "id": scene.key}]},
        {"model": scene.model, "input": "hi", "user": scene.key, "metadata": {scene.key: scene.key}, "store": False},
    ):
        scene.post(asked, "/v1/responses")

    wait_until(lambda: len(scene.rows()) == 4, what="a row of each")
    assert rows_with(scene, scene.key) == []
    assert scene.key not in scene.proxy.output()


def test_a_word_that_an_upstream_is_given_as_its_key_stays_in_its_answers(new_scene: Callable[..., Scene]) -> None:
    """Local servers want some key, whichever."""
    scene = new_scene(api_key="none")
    answer = {"id": "c", "choices": [{"message": {"role": "assistant", "content": "none"}}], "usage": COUNTS}
    event = f"data: {json.dumps(answer)}\n\n".encode()
    scene.upstream.answer(json=answer)
    scene.upstream.stream([event, b"data: [DONE]\n\n"])

    assert scene.post(scene.chat()).json() == answer
    assert scene.post(scene.chat(stream=True, stream_options={"include_usage": True})).content == event + b"data: [DONE]\n\n"
