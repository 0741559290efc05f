"""What the client of upstreams makes of answers: where they end, what is none, and when a connection serves again."""

import pytest

from app.gateway.forwarding.http1 import Cut, NotHttp
from tests.harness.raw_server import OK, Step, body_of, client, on_uvloop, raw_server

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        ((HEAD + b"Content-Length: 5\r\n\r\nab", b"cde"), 200, b"abcde"),
        ((HEAD + b"Content-Length : 2 \r\n\r\nab",), 200, b"ab"),
        ((CHUNKED + b"2\r\nab\r\n", b"3;x=y\r\ncde\r\n0\r\nX-Sum: 1\r\n\r\n"), 200, b"abcde"),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), 204, b""),
        ((b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,), 200, b"ok"),
        ((b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",), 200, b"ok"),
    ],
    ids=["length", "odd length", "chunks and a trailer", "no body", "words before it", "bare line feeds"],
)
@on_uvloop
async def test_an_answer_that_ends_where_it_says_leaves_its_connection_to_the_next(
    answer: tuple[Step, ...], status: int, body: bytes
) -> None:
    async with raw_server(answer, (OK,)) as server, client() as http:
        first = await http.send("POST", server.url, headers={}, body=b"x")
        assert (first.status, await body_of(first), first.received) == (status, body, len(body))
        await body_of(await http.send("POST", server.url, headers={}, body=b"y"))
        assert [number for number, _ in server.requests] == [0, 0]


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        ((HEAD + b"\r\nabc", b"de", "fin"), b"abcde"),
        ((HEAD + b"Connection: close\r\n" + OK[17:],), b"ok"),
        ((b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",), b"ok"),
        ((OK + b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret",), b"ok"),
        ((OK + b"surplus",), b"ok"),
        ((b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nok",), b""),
    ],
    ids=["until the end", "closing", "old", "one more answer", "surplus", "another protocol"],
)
@on_uvloop
async def test_after_anything_else_the_next_call_has_a_connection_of_its_own(answer: tuple[Step, ...], body: bytes) -> None:
    async with raw_server(answer, (OK,)) as server, client() as http:
        assert await body_of(await http.send("POST", server.url, headers={}, body=b"x")) == body
        assert await body_of(await http.send("POST", server.url, headers={}, body=b"y")) == b"ok"
        assert [number for number, _ in server.requests] == [0, 1]


@on_uvloop
async def test_bytes_that_nobody_asked_for_are_nobodys_answer() -> None:
    late = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret"
    async with raw_server((OK, late, "stall"), (OK,)) as server, client() as http:
        assert await body_of(await http.send("POST", server.url, headers={}, body=b"x")) == b"ok"
        await server.until(lambda: len(server.requests) == 1)
        assert await body_of(await http.send("POST", server.url, headers={}, body=b"y")) == b"ok"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Content-Length: 3, 3\r\n\r\nabc",
        HEAD + b"Content-Length: -1\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"X: y\r\n" * 300 + b"Content-Length: 0\r\n\r\n",
        HEAD + b"X: " + b"y" * 2_000_000,
        HEAD + b"X: " + b"y" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100_000,
    ],
    ids=[
        "ssh", "length and coding", "two lengths", "list", "negative", "two codings in one", "other coding", "two codings", "odd space",
        "many headers", "endless header", "large header", "endless words before it",
    ],
)  # fmt: skip
@on_uvloop
async def test_what_could_be_read_in_two_ways_or_has_no_end_is_no_answer(answer: bytes) -> None:
    async with raw_server((answer, "stall")) as server, client() as http:
        with pytest.raises(NotHttp):
            await http.send("POST", server.url, headers={}, body=b"x")
        await server.until(lambda: len(server.requests) == 1)


@pytest.mark.parametrize(
    ("answer", "came", "fault"),
    [
        ((HEAD + b"Content-Length: 5\r\n\r\nab", "fin"), b"ab", Cut),
        ((CHUNKED + b"2\r\nab\r\n", "fin"), b"ab", Cut),
        ((CHUNKED + b"2\r\nab\r\nno chunk\r\n", "stall"), b"ab", NotHttp),
        ((CHUNKED + b"2\r\nab\r\n1;" + b"x" * 2_000_000, "stall"), b"ab", NotHttp),
        ((CHUNKED + b"2\r\nab\r\n0\r\n" + b"X: y\r\n" * 400_000, "stall"), b"ab", NotHttp),
    ],
    ids=["short of its length", "short of its last chunk", "no chunk", "endless chunk size", "endless trailers"],
)
@on_uvloop
async def test_what_came_of_an_answer_is_read_before_its_fault(answer: tuple[Step, ...], came: bytes, fault: type[Exception]) -> None:
    async with raw_server(answer) as server, client() as http:
        exchange = await http.send("POST", server.url, headers={}, body=b"x")
        assert await exchange.read() == came
        with pytest.raises(fault):
            await body_of(exchange)


@pytest.mark.parametrize("answer", [("rst",), (HEAD + b"\r\n", "rst"), ("fin",)], ids=["no answer", "a body without length", "closed"])
@on_uvloop
async def test_a_connection_that_is_lost_is_no_end(answer: tuple[Step, ...]) -> None:
    async with raw_server(answer) as server, client() as http:
        with pytest.raises(Cut):
            await body_of(await http.send("POST", server.url, headers={}, body=b"x"))
