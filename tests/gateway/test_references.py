"""What a request names of what providers keep is seen however a parser reads it, or the request is refused."""

import json
from typing import Any

import pytest

from app.errors import InvalidRequest
from app.gateway.protocols.base import Protocol
from app.gateway.protocols.chat_completions import ChatCompletions
from app.gateway.protocols.kept import References, kept_in
from app.gateway.protocols.messages import CountTokens, Messages
from app.gateway.protocols.responses import Responses

RESPONSES = '{"model":"m","input":[%s]}'
TOOLS = '{"model":"m","input":"x","tools":[%s]}'
CHAT = '{"model":"m","messages":[%s]}'
MESSAGES = '{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[%s]}]}'


def refused(protocol: Protocol, body: str) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        protocol.read(body.encode())
    return refusal.value.code


@pytest.mark.parametrize(
    "item",
    [
        '{"type":"item_reference","id":"mine","id":"theirs"}',
        '{"type":"item_reference","id":"mine","ID":"theirs"}',
        r'{"type":"item_reference","id":"mine","\u0069d":"theirs"}',
        r'{"type":"item_reference","id":"mine","\u0049D":"theirs"}',
        '{"type":"item_reference","Id":"theirs"}',
        '{"type":"item_reference","id":"theirs","type":"message","role":"user","content":"x"}',
        '{"type":"message","role":"user","content":"x","TYPE":"item_reference","id":"theirs"}',
        '{"id":"theirs","content":"x","content":null}',
        '{"type":"code_interpreter_call","container_id":"mine","container_id":"theirs","code":"1"}',
        '{"type":"code_interpreter_call","Container_ID":"theirs","code":"1"}',
        '{"type":"shell_call","environment":{"container_id":"mine","container_id":"theirs"}}',
        '{"role":"user","content":[{"type":"input_file","file_id":"mine","file_id":"theirs"}]}',
    ],
)
def test_a_reference_that_parsers_read_in_two_ways(item: str) -> None:
    assert refused(Responses(), RESPONSES % item) in ("ambiguous_field", "invalid_reference")


@pytest.mark.parametrize(
    "tool",
    [
        '{"type":"code_interpreter","container":"mine","container":"theirs"}',
        '{"type":"code_interpreter","container":"mine","Container":"theirs"}',
        '{"type":"code_interpreter","container":{"type":"auto","file_ids":[],"file_ids":["theirs"]}}',
        '{"type":"shell","environment":{"type":"container_auto","File_Ids":["theirs"]}}',
    ],
)
def test_a_container_that_parsers_read_in_two_ways(tool: str) -> None:
    assert refused(Responses(), TOOLS % tool) == "ambiguous_field"


def test_a_conversation_that_parsers_read_in_two_ways() -> None:
    assert refused(Responses(), '{"model":"m","input":"x","conversation":{"id":"mine","id":"theirs"}}') == "ambiguous_field"


@pytest.mark.parametrize(
    "message",
    [
        '{"role":"assistant","audio":{"id":"mine"},"audio":{"id":"theirs"}}',
        '{"role":"assistant","audio":{"id":"mine","id":"theirs"}}',
        '{"role":"assistant","audio":{"id":"mine","ID":"theirs"}}',
        '{"role":"assistant","Audio":{"id":"theirs"}}',
        r'{"role":"assistant","audio":{"id":"mine"},"\u0061udio":{"id":"theirs"}}',
        '{"role":"user","content":[{"type":"file","file":{"file_id":"mine","File_id":"theirs"}}]}',
    ],
)
def test_a_message_that_parsers_read_in_two_ways(message: str) -> None:
    assert refused(ChatCompletions(), CHAT % message) == "ambiguous_field"


@pytest.mark.parametrize("protocol", [Messages(), CountTokens()], ids=lambda protocol: protocol.api)
def test_a_file_that_parsers_read_in_two_ways(protocol: Protocol) -> None:
    assert refused(protocol, MESSAGES % '{"type":"container_upload","file_id":"mine","file_id":"theirs"}') == "ambiguous_field"
    twice = '{"model":"m","max_tokens":1,"messages":[],"container":{"id":"mine","ID":"theirs"}}'
    assert refused(protocol, twice) == "ambiguous_field"


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "name": "f", "parameters": {"properties": {"id": {}, "ID": {}, "Type": {}, "type": {}}}}]},
        {"metadata": {"ID": "1", "id": "2", "Container": "x"}},
    ],
    ids=["parameters", "metadata"],
)
def test_a_clients_own_names_are_no_matter(more: dict[str, Any]) -> None:
    body = {"model": "m", "input": [{"type": "item_reference", "id": "msg_1"}], **more}

    assert Responses().read(json.dumps(body).encode()).references == References(("msg_1",))


@pytest.mark.parametrize(
    ("protocol", "body", "needed", "mentioned"),
    [
        (Responses(), TOOLS % '{"type":"code_interpreter","container":{"type":"auto","file_ids":["file_1","file_2"]}}', 2, 0),
        (Responses(), TOOLS % '{"type":"shell","environment":{"type":"container_auto","file_ids":["file_1"]}}', 1, 0),
        (Responses(), RESPONSES % '{"type":"shell_call","environment":{"type":"container_reference","container_id":"cntr_1"}}', 1, 0),
        (Responses(), RESPONSES % '{"role":"user","content":[{"type":"input_image","file_id":"file_1"}]}', 0, 1),
        (Responses(), RESPONSES % '{"type":"computer_call_output","call_id":"c","output":{"file_id":"file_1"}}', 0, 1),
        (Responses(), RESPONSES % '{"type":"compaction","id":"cmp_1"}', 0, 1),
        (Responses(), RESPONSES % '{"type":"compaction","id":"cmp_1","encrypted_content":"gAAAAA"}', 0, 0),
        (Responses(), RESPONSES % '{"type":"message","role":"assistant","id":"msg_1","content":"x"}', 0, 0),
        (ChatCompletions(), CHAT % '{"role":"assistant","audio":{"id":"audio_1"}}', 1, 0),
        (ChatCompletions(), CHAT % '{"role":"assistant","audio": null,"content":"x"}', 0, 0),
        (ChatCompletions(), CHAT % r'{"role":"assistant","\u0061udio":{"id":"audio_1"}}', 1, 0),
        (ChatCompletions(), CHAT % '{"role":"user","content":[{"type":"file","file":{"file_id":"file_1"}}]}', 0, 1),
        (ChatCompletions(), CHAT % '{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA","format":"wav"}}]}', 0, 0),
        (Messages(), MESSAGES % '{"type":"document","source":{"type":"file","file_id":"file_1"}}', 0, 1),
        (Messages(), MESSAGES % '{"type":"tool_result","content":[{"type":"image","source":{"type":"file","file_id":"file_1"}}]}', 0, 1),
        (CountTokens(), MESSAGES % '{"type":"container_upload","file_id":"file_1"}', 0, 1),
    ],
)
def test_what_a_request_refers_to(protocol: Protocol, body: str, needed: int, mentioned: int) -> None:
    found = protocol.read(body.encode()).references

    assert (len(found.needed), len(found.mentioned)) == (needed, mentioned)


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ({"choices": [{"message": {"audio": {"id": "audio_1", "data": "AA"}}}]}, {"audio_1"}),
        ({"output": [{"type": "shell_call", "id": "sh_1", "environment": {"container_id": "cntr_1"}}]}, {"sh_1", "cntr_1"}),
        (
            {"output": [{"id": "msg_1", "content": [{"annotations": [{"type": "container_file_citation", "file_id": "cfile_1"}]}]}]},
            {"msg_1", "cfile_1"},
        ),
        ({"output": [{"id": "msg_1", "content": [{"annotations": [{"type": "file_citation", "file_id": "file_1"}]}]}]}, {"msg_1"}),
        ({"content": [{"type": "bash_code_execution_tool_result", "content": {"content": [{"file_id": "file_1"}]}}]}, {"file_1"}),
        ({"content": [{"type": "tool_use", "content": {"content": [{"file_id": "file_1"}]}}]}, set()),
    ],
)
def test_what_is_kept_of_an_answer(answer: dict[str, Any], ids: set[str]) -> None:
    kept = kept_in(json.dumps({"id": "made_1", **answer}).encode())

    assert kept is not None
    assert set(kept.ids) == ids | {"made_1"}
