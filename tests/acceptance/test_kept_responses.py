"""What an upstream keeps belongs to the user who made it: by id, in requests that refer to it, and to nobody else."""

import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.acceptance.conftest import Connect, done
from tests.harness import honest_responses
from tests.harness.answers import Usage
from tests.harness.books import charge
from tests.harness.scene import Scene
from tests.standin import StandIn

USAGE = Usage(input=30, output=12, cached=10, reasoning=4)


def made(scene: Scene, number: int = 1, **fields: Any) -> dict[str, Any]:
    """A response of the scene's user, which its upstream keeps."""
    response_id = f"resp_{scene.model}_{number}"
    item = honest_responses.message("Hello.", id=f"msg_{scene.model}_{number}")
    response = honest_responses.response({"model": "stand-in"}, "completed", output=[item], usage=USAGE) | {"id": response_id} | fields
    scene.upstream.answer(json=scene.upstream.kept.put(response))
    assert scene.post({"model": scene.model, "input": "hello"}, "/v1/responses").status_code == 200
    return response


def serve_elsewhere_too(scene: Scene, elsewhere: StandIn) -> None:
    """Nearly every call of the scene's model goes there from now on."""
    scene.admin.add_upstream(f"second-{scene.model}", f"{elsewhere.url}/v1", [scene.model], weight=1000)


async def test_a_conversation_goes_on_where_it_lies(scene: Scene, connect: Connect, upstream: StandIn) -> None:
    response = made(scene)
    serve_elsewhere_too(scene, upstream)

    for _ in range(3):
        following = await done(connect(scene).responses.create(model=scene.model, input="and then?", previous_response_id=response["id"]))
        assert following.status == "completed"

    assert [call.json.get("previous_response_id") for call in scene.upstream.requests] == [None, *[response["id"]] * 3]
    assert upstream.requests == []
    assert scene.rows()[1]["charge"] == charge(scene.rates, scene.rows()[1]) > 0


async def test_what_is_kept_is_shown_listed_and_deleted_by_its_user(scene: Scene, connect: Connect) -> None:
    response = made(scene)
    client = connect(scene)

    shown = scene.http.get(f"/v1/responses/{response['id']}", params={"include[]": "reasoning.encrypted_content"})
    assert json.loads(shown.content) == response
    assert scene.upstream.requests[-1].target == f"/v1/responses/{response['id']}?include%5B%5D=reasoning.encrypted_content"
    assert scene.upstream.requests[-1].header("authorization") == "Bearer upstream-secret-7c1d"
    assert (await done(client.responses.retrieve(response["id"]))).output_text == "Hello."
    assert [item.id for item in (await done(client.responses.input_items.list(response["id"]))).data] == ["msg_in"]
    await done(client.responses.delete(response["id"]))
    with pytest.raises(openai.NotFoundError):
        await done(client.responses.retrieve(response["id"]))

    assert len(scene.rows()) == 1  # none of it is billed
    assert scene.upstream.kept.asked[-1] == ("DELETE", f"/v1/responses/{response['id']}")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items"), ("GET", "?stream=true")]
)
def test_nobody_reaches_what_another_made(new_scene: Callable[..., Scene], method: str, path: str) -> None:
    owner, other = new_scene(), new_scene()
    response = made(owner)

    refused = other.http.request(method, f"/v1/responses/{response['id']}{path}")
    unknown = other.http.request(method, f"/v1/responses/resp_unknown{path}")

    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
    assert refused.text.replace(response["id"], "resp_unknown") == unknown.text
    assert owner.upstream.kept.asked == []


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "{response}"},
        {"conversation": "{response}"},
        {"conversation": {"id": "{response}"}},
        {"input": [{"type": "item_reference", "id": "{item}"}]},
        {"input": [{"id": "{item}"}]},
        {"input": [{"type": "reasoning", "id": "{item}", "summary": []}, {"role": "user", "content": "go on"}]},
        {"tools": [{"type": "code_interpreter", "container": "{response}"}]},
        {"tools": [{"type": "shell", "environment": {"type": "container_reference", "container_id": "{response}"}}]},
        {"input": [{"type": "image_generation_call", "id": "{item}"}, {"role": "user", "content": "now in blue"}]},
    ],
)
def test_a_request_cant_refer_to_what_another_made(new_scene: Callable[..., Scene], fields: dict[str, Any]) -> None:
    owner, other = new_scene(), new_scene()
    response = made(owner)
    text = json.dumps(fields).replace("{response}", response["id"]).replace("{item}", response["output"][0]["id"])

    for path in ("/v1/responses", "/v1/responses/input_tokens", "/v1/responses/compact"):
        refused = other.post({"model": other.model, "input": "hello"} | json.loads(text), path)
        assert refused.status_code == 400, refused.text
        assert refused.json()["error"]["code"] in ("previous_response_not_found", "item_not_found")
    assert other.upstream.requests == []


def test_items_are_the_users_own(scene: Scene) -> None:
    response = made(scene)
    items = [{"type": "item_reference", "id": response["output"][0]["id"]}, {"role": "user", "content": "go on"}]

    assert scene.post({"model": scene.model, "input": items}, "/v1/responses").status_code == 200
    assert scene.upstream.requests[-1].json["input"] == items


def test_what_is_not_kept_is_nobodys(scene: Scene) -> None:
    assert scene.post({"model": scene.model, "input": "hello", "store": False}, "/v1/responses").status_code == 200

    refused = scene.post({"model": scene.model, "input": "go on", "previous_response_id": "resp_standin"}, "/v1/responses")

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "previous_response_not_found")
    assert len(scene.upstream.requests) == 1


def test_a_stream_is_kept_too(scene: Scene) -> None:
    streamed = scene.post({"model": scene.model, "input": "hello", "stream": True}, "/v1/responses")
    assert "response.completed" in streamed.text

    assert scene.post({"model": scene.model, "input": "go on", "previous_response_id": "resp_standin"}, "/v1/responses").status_code == 200


def test_what_lies_at_another_upstream_than_the_model_is_refused(scene: Scene, upstream: StandIn) -> None:
    response = made(scene)
    other = f"other-{scene.model}"
    scene.admin.set_price(other, {"input": "1", "output": "1"})
    scene.admin.add_upstream(other, f"{upstream.url}/v1", [other])

    refused = scene.post({"model": other, "input": "go on", "previous_response_id": response["id"]}, "/v1/responses")

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "reference_elsewhere")
    assert upstream.requests == []


def test_a_conversation_is_its_makers(new_scene: Callable[..., Scene]) -> None:
    owner, other = new_scene(), new_scene()
    conversation = {"id": f"conv_{owner.model}", "object": "conversation", "created_at": 1, "metadata": {}}
    owner.upstream.answer(json=owner.upstream.kept.put(conversation))
    without_model = owner.http.post("/v1/conversations", json={})
    assert (without_model.status_code, without_model.json()["error"]["code"]) == (400, "missing_model")
    assert owner.http.post("/v1/conversations", json={}, headers={"X-Model": owner.model}).json() == conversation

    asked = {"input": "hello", "conversation": conversation["id"]}
    assert owner.post({"model": owner.model} | asked, "/v1/responses").status_code == 200
    assert other.post({"model": other.model} | asked, "/v1/responses").status_code == 400
    assert owner.http.get(f"/v1/conversations/{conversation['id']}/items").json()["object"] == "list"
    assert other.http.get(f"/v1/conversations/{conversation['id']}/items").status_code == 404


def test_what_another_made_cant_be_put_into_a_conversation(new_scene: Callable[..., Scene]) -> None:
    owner, other = new_scene(), new_scene()
    item = made(owner)["output"][0]["id"]

    asked = {"items": [{"type": "item_reference", "id": item}]}
    refused = other.http.post("/v1/conversations", json=asked, headers={"X-Model": other.model})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "item_not_found")
    assert other.upstream.requests == []


def test_a_compacted_conversation_is_billed(scene: Scene) -> None:
    compacted = {"id": "resp_compacted", "object": "response.compaction", "output": [], "usage": honest_responses.counts(USAGE)}
    scene.upstream.answer(json=compacted)

    answer = scene.post({"model": scene.model, "input": [{"role": "user", "content": "a long talk"}]}, "/v1/responses/compact")

    assert answer.json() == compacted
    row = scene.row()
    assert (row["api"], row["input_tokens"], row["output_tokens"]) == ("responses.compact", USAGE.input, USAGE.output)
    assert row["charge"] == charge(scene.rates, row)


def test_a_container_that_ran_code_is_its_makers(new_scene: Callable[..., Scene]) -> None:
    """Anthropic's: told in the answer, or at the end of a stream, and named in the next call."""
    owner, other = new_scene(), new_scene()
    said = [{"role": "user", "content": "run it"}]
    asked = {"max_tokens": 100, "messages": said, "tools": [{"type": "code_execution_20250825", "name": "code_execution"}]}
    container = f"container_{owner.model}"
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "4"}]}
    answer |= {"stop_reason": "end_turn", "container": {"id": container}, "usage": {"input_tokens": 5, "output_tokens": 1}}
    owner.upstream.answer(json=answer, always=True)
    assert owner.post({"model": owner.model} | asked, "/v1/messages").status_code == 200

    for named in (container, {"id": container}):
        assert owner.post({"model": owner.model} | asked | {"container": named}, "/v1/messages").status_code == 200
        assert other.post({"model": other.model} | asked | {"container": named}, "/v1/messages").status_code == 400
    assert other.upstream.requests == []


@pytest.mark.parametrize("item", [{"type": "code_interpreter_call", "id": "ci_1", "container_id": "{response}", "code": "1"}])
def test_code_that_was_run_elsewhere_is_not_ones_own(new_scene: Callable[..., Scene], item: dict[str, Any]) -> None:
    owner, other = new_scene(), new_scene()
    named = json.loads(json.dumps(item).replace("{response}", made(owner)["id"]))

    assert other.post({"model": other.model, "input": [named]}, "/v1/responses").status_code == 400


def test_tokens_of_a_reference_that_stands_twice_are_not_counted(scene: Scene) -> None:
    body = f'{{"model": "{scene.model}", "input": "x", "previous_response_id": null, "previous_response_id": "resp_of_somebody"}}'

    refused = scene.http.post("/v1/responses/input_tokens", content=body)

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ambiguous_field")


def test_a_conversation_goes_to_no_upstream_that_is_closed_to_its_group(scene: Scene) -> None:
    scene.admin.ask("POST", "/admin/groups", json={"name": scene.user, "upstream_tags": ["premium"]})
    scene.admin.ask("PATCH", f"/admin/users/{scene.user}", json={"group": scene.user})

    refused = scene.http.post("/v1/conversations", json={}, headers={"X-Model": scene.model})

    assert refused.status_code == 400
    assert scene.upstream.requests == []


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
def test_a_spoken_answer_is_its_makers(new_scene: Callable[..., Scene], streamed: bool) -> None:
    owner, other = new_scene(), new_scene()
    spoken = {"id": f"audio_{owner.model}", "data": "AAAA", "transcript": "Hello.", "expires_at": 1}
    told = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m"}
    if streamed:
        pieces = [{"id": spoken["id"], "transcript": "Hello."}, {"data": "AAAA"}, {"expires_at": 1}]
        chunks: list[dict[str, Any]] = [told | {"choices": [{"index": 0, "delta": {"audio": piece}}]} for piece in pieces]
        chunks.append(told | {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}})
        owner.upstream.stream([*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks), b"data: [DONE]\n\n"])
    else:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None, "audio": spoken}}
        usage = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}
        owner.upstream.answer(json=told | {"choices": [choice], "usage": usage})
    voice = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
    assert owner.post(owner.chat(stream=streamed, **voice)).status_code == 200
    said = [{"role": "user", "content": "hi"}, {"role": "assistant", "audio": {"id": spoken["id"]}}, {"role": "user", "content": "again?"}]

    assert owner.post({"model": owner.model, "messages": said, **voice}).status_code == 200
    refused = other.post({"model": other.model, "messages": said, **voice})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "item_not_found")
    assert other.upstream.requests == []
    assert [row["usage_source"] for row in owner.rows()] == ["provider"] * 2


def test_files_that_code_made_go_into_no_other_users_container(new_scene: Callable[..., Scene]) -> None:
    owner, other = new_scene(), new_scene()
    file_id = f"cfile_{owner.model}"
    note = {"type": "container_file_citation", "file_id": file_id, "container_id": f"cntr_{owner.model}", "filename": "a.csv"}
    text = {"type": "output_text", "text": "See a.csv.", "annotations": [note]}
    answer = made(
        owner, output=[{"id": f"msg_{owner.model}", "type": "message", "role": "assistant", "status": "completed", "content": [text]}]
    )
    asked = {"input": "read it", "tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [file_id]}}]}
    shown = {
        "input": [{"role": "user", "content": [{"type": "input_file", "file_id": file_id}, {"type": "input_text", "text": "read it"}]}]
    }

    owner.upstream.answer(json=answer, always=True)
    assert owner.post({"model": owner.model} | asked, "/v1/responses").status_code == 200
    assert owner.post({"model": owner.model} | shown, "/v1/responses").status_code == 200
    for theirs in (asked, shown):
        assert other.post({"model": other.model} | theirs, "/v1/responses").json()["error"]["code"] == "item_not_found"
    assert other.upstream.requests == []


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "streamed"])
def test_files_that_code_of_anthropics_made_are_their_makers(new_scene: Callable[..., Scene], streamed: bool) -> None:
    owner, other = new_scene(), new_scene()
    file_id = f"file_{owner.model}"
    ran = {"type": "bash_code_execution_result", "stdout": "", "content": [{"type": "bash_code_execution_output", "file_id": file_id}]}
    block = {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": ran}
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    usage = {"input_tokens": 5, "output_tokens": 3}
    if streamed:
        events = [
            {"type": "message_start", "message": answer | {"content": [], "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "container": {"id": f"cntr_{owner.model}"}}, "usage": usage},
            {"type": "message_stop"},
        ]
        owner.upstream.stream([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events])
    else:
        owner.upstream.answer(json=answer | {"content": [block], "container": {"id": f"cntr_{owner.model}"}, "usage": usage})
    tools = [{"type": "code_execution_20250825", "name": "code_execution"}]
    plain: dict[str, Any] = {"max_tokens": 100, "messages": [{"role": "user", "content": "plot it"}], "tools": tools, "stream": streamed}
    assert owner.post({"model": owner.model} | plain, "/v1/messages").status_code == 200
    uploaded = [{"role": "user", "content": [{"type": "container_upload", "file_id": file_id}, {"type": "text", "text": "again"}]}]
    asked: dict[str, Any] = {"max_tokens": 100, "messages": uploaded, "tools": tools, "container": f"cntr_{owner.model}"}

    owner.upstream.answer(json=answer | {"content": [{"type": "text", "text": "Done."}], "usage": usage}, always=True)
    assert owner.post({"model": owner.model} | asked, "/v1/messages").status_code == 200
    del asked["container"]
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        assert other.post({"model": other.model} | asked, path).status_code == 400
    assert other.upstream.requests == []


def test_items_lie_where_their_conversation_does(scene: Scene, upstream: StandIn) -> None:
    item = made(scene)["output"][0]["id"]
    serve_elsewhere_too(scene, upstream)
    other = f"other-{scene.model}"
    scene.admin.add_upstream(other, f"{upstream.url}/v1", [other])
    elsewhere = {"id": f"conv_{scene.model}_2", "object": "conversation", "created_at": 1, "metadata": {}}
    upstream.answer(json=upstream.kept.put(elsewhere))
    assert scene.http.post("/v1/conversations", json={}, headers={"X-Model": other}).json() == elsewhere
    asked = {"items": [{"type": "item_reference", "id": item}]}

    refused = scene.http.post(f"/v1/conversations/{elsewhere['id']}/items", json=asked)
    unserved = scene.http.post("/v1/conversations", json=asked, headers={"X-Model": other})
    beside = {"id": f"conv_{scene.model}", "object": "conversation", "created_at": 1, "metadata": {}}
    scene.upstream.answer(json=scene.upstream.kept.put(beside))
    made_there = scene.http.post("/v1/conversations", json=asked, headers={"X-Model": scene.model})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "references_apart")
    assert (unserved.status_code, unserved.json()["error"]["code"]) == (400, "reference_elsewhere")
    assert made_there.json() == beside
    assert len(upstream.requests) == 1


def test_items_that_are_put_into_a_conversation_are_the_users_own_and_stay(scene: Scene) -> None:
    conversation = {"id": f"conv_{scene.model}", "object": "conversation", "created_at": 1, "metadata": {}}
    scene.upstream.answer(json=scene.upstream.kept.put(conversation))
    headers = {"X-Model": scene.model}
    assert scene.http.post("/v1/conversations", json={}, headers=headers).status_code == 200
    items = {"items": [{"type": "message", "role": "user", "content": "hello"}]}

    listed = scene.http.post(f"/v1/conversations/{conversation['id']}/items", json=items).json()["data"]
    made(scene, conversation={"id": conversation["id"]})

    asked = [{"type": "item_reference", "id": listed[0]["id"]}, {"role": "user", "content": "go on"}]
    assert scene.post({"model": scene.model, "input": asked}, "/v1/responses").status_code == 200
    kept = scene.db.fetch("SELECT object_id, is_lasting FROM aigcspace.upstream_object WHERE user_id = $1", scene.user)
    lasting = {row["object_id"] for row in kept if row["is_lasting"]}
    assert lasting == {conversation["id"], listed[0]["id"], f"resp_{scene.model}_1", f"msg_{scene.model}_1"}
