"""Others that carry the same calls in the same run: nginx as a bare reverse proxy, Portkey's gateway, LiteLLM's proxy.

One worker each, before the same stand-in; none of them keeps books. What isn't installed is left out: nginx comes from the
system, the others by `make bench-peers` into `.venv/peers`. A peer that doesn't start is a `Failure`.
"""

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from bench.processes import Child, Cost, cost_of, environment, free_port
from bench.proxy import ROOT, Upstream, wait_until
from bench.wire import MODEL

INSTALLED = ROOT / ".venv" / "peers"
_KEY = f"sk-{secrets.token_hex(16)}"

_NGINX = """daemon off; worker_processes 1; error_log stderr error; pid {directory}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {directory}/nginx-body; proxy_temp_path {directory}/nginx-proxy; fastcgi_temp_path {directory}/nginx-fastcgi;
    uwsgi_temp_path {directory}/nginx-uwsgi; scgi_temp_path {directory}/nginx-scgi;
    upstream standin {{ server {upstream}; keepalive 512; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{port}; keepalive_requests 1000000;
        location / {{ proxy_pass http://standin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
    }}
}}
"""


@dataclass(frozen=True)
class Peer:
    """`headers`: what a call must carry beside its key, as `name: value`."""

    name: str
    url: str
    child: Child
    headers: tuple[str, ...] = ()
    key: str = _KEY

    def cost(self) -> Cost:
        return cost_of(self.child)


@dataclass(frozen=True)
class _Start:
    command: list[str]
    headers: tuple[str, ...] = ()
    settings: dict[str, str] | None = None


def _nginx(directory: Path, upstream: str, port: int) -> _Start | None:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        return None
    written = directory / "nginx.conf"
    written.write_text(_NGINX.format(directory=directory, upstream=upstream, port=port))
    return _Start([program, "-p", str(directory), "-c", str(written)])


def _portkey(directory: Path, upstream: str, port: int) -> _Start | None:
    program, node = INSTALLED / "node/node_modules/@portkey-ai/gateway/build/start-server.js", shutil.which("node")
    if node is None or not program.exists():
        return None
    headers = ("x-portkey-provider: openai", f"x-portkey-custom-host: http://{upstream}/v1")
    return _Start([node, str(program), f"--port={port}", "--headless"], headers, {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"})


def _litellm(directory: Path, upstream: str, port: int) -> _Start | None:
    program = INSTALLED / "litellm/bin/litellm"
    if not program.exists():
        return None
    where = {"model": f"openai/{MODEL}", "api_base": f"http://{upstream}/v1", "api_key": "sk-bench-upstream"}
    written = directory / "litellm.json"  # JSON is YAML
    written.write_bytes(msgspec.json.encode({"model_list": [{"model_name": MODEL, "litellm_params": where}]}))
    command = [str(program), "--config", str(written), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return _Start(command, settings={"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": _KEY})


_KNOWN: dict[str, Callable[[Path, str, int], _Start | None]] = {"nginx": _nginx, "Portkey": _portkey, "LiteLLM": _litellm}


@contextlib.contextmanager
def running_peer(name: str, directory: Path, upstream: Upstream) -> Iterator[Peer | None]:
    """None where it isn't installed."""
    port = free_port()
    start = _KNOWN[name](directory, upstream.url.removeprefix("http://"), port)
    if start is None:
        yield None
        return
    settings = environment(DATABASE_URL=None, **(start.settings or {}))
    child = Child(start.command, log=directory / f"{name}.log", cwd=directory, env=settings)
    peer = Peer(name, f"http://127.0.0.1:{port}", child, start.headers)
    try:
        wait_until(child, lambda: _answers(peer), name)
        yield peer
    finally:
        child.stop()


def _answers(peer: Peer) -> bool:
    headers = {"Authorization": f"Bearer {peer.key}"} | dict(header.split(": ", 1) for header in peer.headers)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Is anybody there?"}]}
    try:
        answer = httpx.post(f"{peer.url}/v1/chat/completions", json=body, headers=headers, timeout=10.0, trust_env=False)
    except httpx.TransportError:
        return False
    return answer.is_success
