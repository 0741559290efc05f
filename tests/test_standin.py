"""The stand-in upstream itself: honest unless told otherwise, and exact on the wire when told to misbehave. (A test
double that is wrong makes every test above it wrong.)"""

import httpx
import openai
import pytest

from tests.harness.answers import Gate
from tests.harness.books import wait_until
from tests.standin import StandIn

CHAT = {"model": "m", "messages": [{"role": "user", "content": "one two"}]}


def test_the_official_client_is_content_with_it(upstream: StandIn) -> None:
    with openai.OpenAI(base_url=f"{upstream.url}/v1", api_key="k", http_client=httpx.Client(trust_env=False)) as client:
        whole = client.chat.completions.create(**CHAT)
        streamed = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))

    assert whole.choices[0].message.content == "You said one two"
    assert streamed[-1].usage == whole.usage
    assert [usage.input for usage in upstream.ledger] == [5, 5]


def test_bytes_are_split_where_the_test_says(upstream: StandIn) -> None:
    upstream.stream(["abc", "def"], split=[1, 9], gap=0.02)
    with httpx.Client(trust_env=False) as client, client.stream("POST", upstream.url, json=CHAT) as answer:
        pieces = list(answer.iter_raw())

    assert pieces == [b"d", b"ata: abc", b"\n\ndata: def\n\n"]


def test_a_gate_holds_the_answer_back_and_leaving_is_noticed(upstream: StandIn) -> None:
    upstream.stream(["a", "b"], pauses={1: Gate()})
    with httpx.Client(trust_env=False) as client, client.stream("POST", upstream.url, json=CHAT) as answer:
        assert next(answer.iter_raw()) == b"data: a\n\n"

    wait_until(upstream.requests[0].gone.is_set)
    assert upstream.requests[0].json == CHAT


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_cut_connection_is_cut(upstream: StandIn, how: str) -> None:
    upstream.cut(["a", "b"], after=1, how=how, bytes_of_next=3)
    got = b""
    with httpx.Client(trust_env=False) as client, client.stream("POST", upstream.url, json=CHAT) as answer:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            for piece in answer.iter_raw():
                got += piece

    assert got == b"data: a\n\ndat"
