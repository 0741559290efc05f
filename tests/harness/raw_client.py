"""A client that is no more than a socket: it leaves when a test wants it to, not when a timeout does."""

import json
import socket
from collections.abc import Callable
from typing import Any

import psutil

from tests.harness.books import wait_until
from tests.harness.proxy import Proxy
from tests.harness.scene import Scene


def raw(scene: Scene, line: str, body: bytes = b"") -> bytes:
    """A request as it goes over the wire. `line`: method and path."""
    lines = [f"{line} HTTP/1.1", "Host: proxy", f"Authorization: Bearer {scene.key}", f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def raw_call(scene: Scene, call: dict[str, Any]) -> bytes:
    return raw(scene, "POST /v1/chat/completions", json.dumps(call).encode())


def ask_and_leave(scene: Scene, call: dict[str, Any], *, until: Callable[[], Any] | None = None, proxy: Proxy | None = None) -> None:
    """Makes a call, closes the connection once `until` is true, by default when the call is upstream, and waits until the proxy has
    noticed that."""
    proxy, until = proxy or scene.proxy, until or (lambda: scene.upstream.requests)
    with socket.create_connection(("127.0.0.1", proxy.port), 10) as connection:
        connection.sendall(raw_call(scene, call))
        wait_until(until, what="the call upstream")
    wait_until(lambda: has_noticed(proxy), what="the proxy has noticed it")


def has_noticed(proxy: Proxy) -> bool:
    """Whether no client of this process has left the proxy without its knowing."""
    connections = psutil.Process(proxy.process.pid).net_connections("tcp")
    clients = {one.raddr.port for one in connections if one.laddr.port == proxy.port and one.raddr}
    return clients <= {one.laddr.port for one in psutil.Process().net_connections("tcp")}
