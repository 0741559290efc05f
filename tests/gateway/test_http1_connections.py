"""The client of upstreams: which connection a request takes, how long it waits, how it sends, and how it ends."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import app.gateway.forwarding.http1.client
from app.gateway.forwarding.http1 import AddressRefused, Cut, Stalled, Streamed, TooLong, Unreachable
from app.gateway.forwarding.http1.exchange import MOST_UNREAD
from app.gateway.forwarding.http1.origin import place_of
from tests.harness.raw_server import OK, body_of, client, on_uvloop, raw_server

HEAD = b"HTTP/1.1 200 OK\r\n"
LARGEST_READ = 262_144
"""Bytes that uvloop reads at once."""


@on_uvloop
async def test_a_request_that_may_be_repeated_is_made_again_where_its_connection_was_stale() -> None:
    async with raw_server((OK,), ("fin",), (OK,)) as server, client() as http:
        await body_of(await http.send("GET", server.url, headers={}))
        assert await body_of(await http.send("GET", server.url, headers={})) == b"ok"
        assert [number for number, _ in server.requests] == [0, 0, 1]


@pytest.mark.parametrize("method", ["GET", "POST"])
@on_uvloop
async def test_a_request_that_a_new_connection_lost_is_not_made_again(method: str) -> None:
    async with raw_server(("fin",), (OK,)) as server, client() as http:
        with pytest.raises(Cut):
            await http.send(method, server.url, headers={})
        assert len(server.requests) == 1


@on_uvloop
async def test_a_call_is_never_made_twice() -> None:
    async with raw_server((OK,), ("fin",), (OK,)) as server, client() as http:
        await body_of(await http.send("POST", server.url, headers={}, body=b"x"))
        with pytest.raises(Cut):
            await http.send("POST", server.url, headers={}, body=b"y")
        assert len(server.requests) == 2


@on_uvloop
async def test_a_connection_is_kept_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.gateway.forwarding.http1.client, "KEPT_FOR", 0.0)
    async with raw_server((OK,), (OK,)) as server, client() as http:
        for _ in range(2):
            await body_of(await http.send("POST", server.url, headers={}, body=b"x"))
        assert [number for number, _ in server.requests] == [0, 1]
        await server.until(lambda: server.ended == {0, 1})


@on_uvloop
async def test_a_silent_server_is_not_waited_for() -> None:
    async with raw_server(("stall",), (HEAD + b"Content-Length: 5\r\n\r\nab", "stall")) as server, client(idle=0.1) as http:
        with pytest.raises(Stalled):
            await http.send("POST", server.url, headers={}, body=b"x")
        exchange = await http.send("POST", server.url, headers={}, body=b"x")
        assert await exchange.read() == b"ab"
        with pytest.raises(Stalled):
            await exchange.read()
        await server.until(lambda: len(server.requests) == 2)


@on_uvloop
async def test_an_answer_has_a_longest_time() -> None:
    async with raw_server((HEAD + b"Content-Length: 5\r\n\r\nab", "stall")) as server, client(total=0.5) as http:
        with pytest.raises(TooLong):
            await body_of(await http.send("POST", server.url, headers={}, body=b"x"))


@on_uvloop
async def test_a_connection_has_a_longest_time_to_be_made() -> None:
    """A server that takes the connection and never speaks TLS."""
    async with raw_server(("stall",)) as server, client(connect=0.1) as http:
        with pytest.raises(Stalled):
            await http.send("POST", server.url.replace("http", "https"), headers={}, body=b"x")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://name.invalid.", "http://a..b"])
@on_uvloop
async def test_a_server_that_is_not_there_is_unreachable(url: str) -> None:
    async with client() as http:
        with pytest.raises(Unreachable):
            await http.send("POST", url, headers={}, body=b"x")


@on_uvloop
async def test_an_address_that_no_upstream_may_have_is_refused() -> None:
    async with client() as http:
        with pytest.raises(AddressRefused):
            await http.send("POST", "http://169.254.169.254", headers={}, body=b"x")


@on_uvloop
async def test_who_reads_slowly_slows_the_server_down_and_is_no_silence() -> None:
    size = 8 * 1024 * 1024
    answer = HEAD + b"Content-Length: %d\r\n\r\n" % size
    async with raw_server((answer, b"x" * size), (OK,)) as server, client(idle=0.1) as http:
        exchange = await http.send("POST", server.url, headers={}, body=b"x")
        seen = -1
        for _ in range(4):  # four times as long as a silence may be
            await asyncio.wait([asyncio.ensure_future(asyncio.Event().wait())], timeout=0.1)
            seen = exchange.received
        assert seen <= MOST_UNREAD + LARGEST_READ + len(answer)
        assert len(await body_of(exchange)) == size
        assert await body_of(await http.send("POST", server.url, headers={}, body=b"y")) == b"ok"
        assert server.connections == 1


@on_uvloop
async def test_a_body_in_pieces_arrives_whole() -> None:
    asked = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal asked
        for number in range(64):
            asked += 1
            yield bytes([number]) * 65_536

    async with raw_server((OK,), (OK,)) as server, client() as http:
        for _ in range(2):
            assert (await http.send("POST", server.url, headers={}, body=Streamed(pieces, 64 * 65_536))).status == 200
        heads, bodies = zip(*(request.split(b"\r\n\r\n", 1) for _, request in server.requests), strict=True)
        assert all(b"Content-Length: 4194304" in head for head in heads)
        assert set(bodies) == {b"".join(bytes([number]) * 65_536 for number in range(64))}
        assert ([number for number, _ in server.requests], asked) == ([0, 0], 128)


@on_uvloop
async def test_a_server_that_refuses_early_gets_no_more_of_the_body() -> None:
    asked = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal asked
        for _ in range(1000):
            asked += 1
            yield b"x" * 65_536

    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
    async with raw_server(("unread", refusal, "stall"), (OK,)) as server, client() as http:
        exchange = await http.send("POST", server.url, headers={}, body=Streamed(pieces, 1000 * 65_536))
        assert (exchange.status, await body_of(exchange)) == (413, b"no")
        assert asked < 1000
        await body_of(await http.send("POST", server.url, headers={}, body=b"y"))
        assert [number for number, _ in server.requests] == [0, 1]


@on_uvloop
async def test_a_large_body_is_sent_whole() -> None:
    async with raw_server((OK,)) as server, client() as http:
        await http.send("POST", server.url, headers={}, body=b"x" * 3_000_000)
        assert server.requests[0][1].endswith(b"x" * 3_000_000)


@on_uvloop
async def test_a_call_that_is_cancelled_closes_its_connection() -> None:
    async with raw_server((b"",)) as server, client() as http:
        call = asyncio.ensure_future(http.send("POST", server.url, headers={}, body=b"x"))
        await server.until(lambda: len(server.requests) == 1)
        call.cancel()
        await server.until(lambda: server.ended == {0})


@on_uvloop
async def test_who_waits_for_an_answer_that_is_closed_is_told() -> None:
    async with raw_server((HEAD + b"Content-Length: 5\r\n\r\nab",)) as server, client() as http:
        exchange = await http.send("POST", server.url, headers={}, body=b"x")
        await exchange.read()
        asyncio.get_running_loop().call_soon(exchange.close)
        with pytest.raises(Cut):
            await exchange.read()
        await server.until(lambda: server.ended == {0})


@on_uvloop
async def test_closing_the_client_ends_what_is_free_and_what_is_under_way() -> None:
    async with raw_server((HEAD + b"Content-Length: 5\r\n\r\nab",), (OK,)) as server, client() as http:
        exchange = await http.send("POST", server.url, headers={}, body=b"x")
        await body_of(await http.send("POST", server.url, headers={}, body=b"y"))
        http.close()
        with pytest.raises(Cut):
            await body_of(exchange)
        await server.until(lambda: server.ended == {0, 1})


@on_uvloop
async def test_a_request_is_written_as_it_is_meant() -> None:
    async with raw_server((OK,), (OK,), (OK,)) as server, client() as http:
        await http.send("POST", f"{server.url}/v1/a b?x=ü#f", headers={"x-title": "\xe4"}, body=b"{}")
        await http.send("DELETE", f"{server.url}/v1/x", headers={"x-title": "\u4f60"})
        await http.send("GET", server.url, headers={})
        host = server.url.removeprefix("http://").encode()
        assert [request for _, request in server.requests] == [
            b"POST /v1/a%%20b?x=%%C3%%BC HTTP/1.1\r\nHost: %b\r\nx-title: \xe4\r\nContent-Length: 2\r\n\r\n{}" % host,
            b"DELETE /v1/x HTTP/1.1\r\nHost: %b\r\nx-title: \xe4\xbd\xa0\r\nContent-Length: 0\r\n\r\n" % host,
            b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host,
        ]


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\rb", "a\0b"])
@on_uvloop
async def test_a_header_can_not_become_two(value: str) -> None:
    async with raw_server() as server, client() as http:
        with pytest.raises(ValueError, match="header"):
            await http.send("POST", server.url, headers={"authorization": value}, body=b"x")
        assert server.connections == 0


def test_hosts_are_named_as_http_has_them() -> None:
    named = {
        url: place_of(url)[1].split(b"\r\n")[1]
        for url in ("https://a.b/x", "http://a.b:443", "https://[::1]:8443", "http://bücher.example")
    }
    assert list(named.values()) == [b"Host: a.b", b"Host: a.b:443", b"Host: [::1]:8443", b"Host: xn--bcher-kva.example"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of `localhost`, signed by itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now - datetime.timedelta(days=1), now + datetime.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    path = tmp_path / "localhost.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(
        made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@on_uvloop
async def test_tls_is_spoken_where_the_certificate_is_trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with raw_server((OK,), (OK,), tls=tls(certificate)) as server, client() as http:
        for _ in range(2):
            url = server.url.replace("127.0.0.1", "localhost")
            assert await body_of(await http.send("POST", url, headers={}, body=b"x" * 200_000)) == b"ok"
        assert ([number for number, _ in server.requests], server.names) == ([0, 0], ["localhost"])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["unknown issuer", "another name"])
@on_uvloop
async def test_a_certificate_that_proves_nothing_is_refused(certificate: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    if host == "127.0.0.1":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with raw_server((OK,), tls=tls(certificate)) as server, client() as http:
        with pytest.raises(Unreachable):
            await http.send("POST", server.url.replace("127.0.0.1", host), headers={}, body=b"x")
        assert server.requests == []
