"""Rows tell the tool, its session and the end user that a call was made for; odd ones keep no call from its row."""

from tests.harness.admin import Admin
from tests.harness.scene import Scene

SESSION = "11111111-2222-4333-8444-555555555555"


def test_a_call_of_claude_code(scene: Scene, admin: Admin) -> None:
    packed = f"user_{'ab' * 32}_account__session_{SESSION}"
    body = {"model": scene.model, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "metadata": {"user_id": packed}}

    answer = scene.post(body, "/v1/messages", headers={"User-Agent": "claude-cli/1.2.3 (external, cli)", "anthropic-version": "2023-06-01"})

    assert answer.status_code == 200
    [row] = admin.logs(end_user="ab" * 32)
    assert row["tags"] == {"client": "claude-cli/1.2.3", "session": SESSION}
    assert scene.upstream.requests[0].json["metadata"] == {"user_id": packed}


def test_a_call_of_codex(scene: Scene) -> None:
    headers = {
        "User-Agent": "codex_cli_rs/0.38.0 (Ubuntu)",
        "originator": "codex_cli_rs",
        "session_id": SESSION,
        "conversation_id": SESSION,
    }

    assert scene.post({"model": scene.model, "input": "hi"}, "/v1/responses", headers=headers).status_code == 200

    tags = scene.http.get(f"/logs/{scene.row()['id']}").json()["tags"]
    assert tags == {"client": "codex_cli_rs/0.38.0", "originator": "codex_cli_rs", "session": SESSION, "thread": SESSION}


def test_a_tool_that_sends_what_no_database_takes(scene: Scene) -> None:
    body = scene.chat(user="a\0b", metadata={"x\0": "y\0z", "n": 1e308, "deep": {"a": [1]}}, session_id="\0")

    assert scene.post(body).status_code == 200

    row = scene.row()
    assert (row["end_user"], row["flags"], row["status"]) == ("ab", None, "success")
    assert scene.http.get(f"/logs/{row['id']}").json()["tags"]["metadata"] == {"x": "yz", "n": "1e+308"}


def test_the_key_is_in_no_row(scene: Scene) -> None:
    assert scene.post(scene.chat(user=scene.key, metadata={"k": scene.key}), headers={"X-Title": scene.key}).status_code == 200

    assert scene.key not in str(scene.row())
