"""Where the proxy asks for usage on its own account (`stream_usage: inject`), the client gets the bytes of an upstream that was
not asked, wherever the provider puts what it was asked for, and however its stream is framed and cut."""

import json
from typing import Any

import pytest

from tests.harness.answers import Usage
from tests.harness.scene import Scene

USAGE = Usage(input=5, output=3)
HEAD = '"id":"c","object":"chat.completion.chunk","created":1,"model":"m","service_tier":"default"'
TOLD = json.dumps(USAGE.chat(), separators=(",", ":"))
NASTY = json.dumps('a,"usage":null}],"usage":null,\n')


def choice(content: str, rest: str = "") -> str:
    return f'"choices":[{{"index":0,"delta":{{"content":{content}}},"finish_reason":null{rest}}}]'


FIRST, SECOND = choice('"hi"'), choice(NASTY)
FINAL = '"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]'
SPACED = '{"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}}]'
Data = list[str]

SHAPES: dict[str, tuple[Data, Data]] = {
    "OpenAI": (
        [
            *(f'{{{HEAD},{said},"usage":null,"obfuscation":"x7Q"}}' for said in (FIRST, SECOND, FINAL)),
            f'{{{HEAD},"choices":[],"usage":{TOLD}}}',
        ],
        [f'{{{HEAD},{said},"obfuscation":"x7Q"}}' for said in (FIRST, SECOND, FINAL)],
    ),
    "OpenAI, without obfuscation": (
        [
            *(f'{{{HEAD},{said},"usage":null}}' for said in (FIRST, SECOND, FINAL)),
            f'{{{HEAD},"choices":[],"usage":{TOLD},"obfuscation":""}}',
        ],
        [f"{{{HEAD},{said}}}" for said in (FIRST, SECOND, FINAL)],
    ),
    "OpenAI, before the choices": (
        [
            *(f'{{{HEAD},"usage":null,{said}}}' for said in (FIRST, SECOND)),
            f'{{{HEAD},{FINAL},"usage":null}}',
            f'{{{HEAD},"choices":[],"usage":{TOLD}}}',
        ],
        [f"{{{HEAD},{said}}}" for said in (FIRST, SECOND, FINAL)],
    ),
    "spaced": (
        [SPACED + ', "usage": null}', '{"id": "c", "choices": [], "usage": ' + TOLD + "}"],
        [SPACED + "}"],
    ),
    "vLLM, nothing but the last event": (
        [f"{{{HEAD},{FIRST}}}", f"{{{HEAD},{FINAL}}}", f'{{{HEAD},"choices":[],"usage":{TOLD}}}'],
        [f"{{{HEAD},{FIRST}}}", f"{{{HEAD},{FINAL}}}"],
    ),
    "Mistral, in the last chunk whether asked or not": (
        [f"{{{HEAD},{FIRST}}}", f'{{{HEAD},{FINAL},"usage":{TOLD}}}'],
        [f"{{{HEAD},{FIRST}}}", f'{{{HEAD},{FINAL},"usage":{TOLD}}}'],
    ),
    "Groq, in a field of its own, and in an event when asked": (
        [f"{{{HEAD},{FIRST}}}", f'{{{HEAD},{FINAL},"x_groq":{{"id":"r","usage":{TOLD}}}}}', f'{{{HEAD},"choices":[],"usage":{TOLD}}}'],
        [f"{{{HEAD},{FIRST}}}", f'{{{HEAD},{FINAL},"x_groq":{{"id":"r","usage":{TOLD}}}}}'],
    ),
    "Moonshot, in the choice": (
        [
            f"{{{HEAD},{choice(NASTY, ',' + json.dumps('usage') + ':null')}}}",
            f'{{{HEAD},"choices":[{{"index":0,"delta":{{}},"usage":{TOLD}}}]}}',
        ],
        [
            f"{{{HEAD},{choice(NASTY, ',' + json.dumps('usage') + ':null')}}}",
            f'{{{HEAD},"choices":[{{"index":0,"delta":{{}},"usage":{TOLD}}}]}}',
        ],
    ),
}


def framed(data: Data, line_end: str) -> bytes:
    first = f": a comment{line_end * 2}"
    return (first + "".join(f"data: {one}{line_end * 2}" for one in [*data, "[DONE]"])).encode()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("split", [1, 97, None], ids=["byte by byte", "in pieces", "event by event"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_client_that_did_not_ask_gets_what_an_upstream_sends_that_was_not_asked(
    scene: Scene, shape: str, split: int | None, line_end: str
) -> None:
    asked, unasked = (framed(data, line_end) for data in SHAPES[shape])
    events = [event + (line_end * 2).encode() for event in asked.split((line_end * 2).encode())[:-1]]
    scene.upstream.stream([*events], split=split, usage=USAGE)

    answer = scene.post(scene.chat(stream=True))

    assert answer.content == unasked
    assert scene.upstream.requests[0].json["stream_options"] == {"include_usage": True}
    row = scene.row()
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (5, 3, "provider")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_client_that_asked_gets_it_all(scene: Scene, shape: str) -> None:
    asked = framed(SHAPES[shape][0], "\n")
    scene.upstream.stream([asked], usage=USAGE)
    body: dict[str, Any] = scene.chat(stream=True, stream_options={"include_usage": True})

    assert scene.post(body).content == asked
