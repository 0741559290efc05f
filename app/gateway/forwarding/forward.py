"""Step 3, forward: the request goes to the upstream as the client wrote it, save what must change.

What must: the model's name where it is mapped, the credentials, usage asked for in streams, an output limit where one
was applied. Headers pass by the tables below, in either direction.
"""

from collections.abc import Iterable
from urllib.parse import quote

from app.catalog.addresses import auth_headers, join_url
from app.catalog.routing import Target
from app.errors import UpstreamFailed
from app.gateway.admission.admit import AdmittedCall
from app.gateway.forwarding.transport import Transport, UpstreamAnswer
from app.gateway.masking import without_secret

REQUEST_HEADERS = frozenset(
    {
        b"accept",
        b"content-type",
        b"user-agent",
        b"openai-beta",
        b"anthropic-beta",
        b"anthropic-version",
        b"traceparent",
        b"tracestate",
        b"http-referer",
        b"x-title",
        b"x-codex-turn-state",
    }
)
"""What of a client's headers goes on. All else stays: its key and cookies, its organisation, proxies' and hop-by-hop
headers. `HTTP-Referer` and `X-Title` name the application to OpenRouter; `X-Codex-Turn-State` is what the upstream itself told
Codex in its last answer, to find the same server again."""

HIDDEN_ANSWER_HEADERS = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
        b"set-cookie", b"server", b"date", b"alt-svc", b"strict-transport-security", b"www-authenticate", b"location",
        b"openai-organization", b"openai-project", b"anthropic-organization-id", b"x-request-id", b"request-id", b"x-groq-region",
    }
)  # fmt: skip
HIDDEN_ANSWER_PREFIXES = (b"x-ratelimit-", b"anthropic-ratelimit-", b"ratelimit-", b"cf-", b"access-control-")
"""What of an upstream's headers stays here: hop-by-hop, and all that tells of our account with it or of its own edge."""

_UNBUFFERED = (b"x-accel-buffering", b"no")
"""Tells an nginx before this proxy to pass events on at once."""
_PASSABLE = bytes(0x20 if (byte < 0x20 and byte != 0x09) or byte == 0x7F else byte for byte in range(256))
"""Control characters in a header's value go on as spaces (RFC 9110, 5.5)."""


async def forward(transport: Transport, call: AdmittedCall, client_headers: Iterable[tuple[bytes, bytes]]) -> UpstreamAnswer:
    """One attempt, by the route that the call takes. Raises `UpstreamFailed`, `UpstreamTimeout`."""
    target = call.route.target
    body = call.protocol.rewrite(
        call.request,
        model=call.route.upstream_model,
        output_limit=call.output_limit_applied,
        ask_usage=call.asks_usage,
    )
    headers = request_headers(client_headers, target, call.protocol.auth, call.secret)
    headers.setdefault("content-type", "application/json")
    return await transport.post(_url(call), headers=headers, body=body)


def request_headers(
    client_headers: Iterable[tuple[bytes, bytes]], target: Target, protocol_auth: str, secret: str | None
) -> dict[str, str]:
    """What goes on of the client's headers, and our own credentials in the place of theirs."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in client_headers if name in REQUEST_HEADERS}
    headers["accept-encoding"] = "identity"
    if secret is not None:
        headers |= auth_headers(target.auth, protocol_auth, secret)
    return headers


def refuse_unusable(answer: UpstreamAnswer) -> None:
    """Raises `UpstreamFailed` for an answer that is not the client's to see. An upstream that refuses our own credentials has
    failed, too: that is ours to mend, not the caller's."""
    if answer.status in (401, 402, 403) or not (200 <= answer.status < 300 or 400 <= answer.status < 600):
        answer.close()
        if answer.status not in (401, 402, 403):
            raise UpstreamFailed(f"The upstream answered with status {answer.status}, which is no answer.", code="upstream_status")
        raise UpstreamFailed(
            "The upstream refused this service's own credentials. The operator has to mend that; your key is fine.", code="upstream_auth"
        )


def _url(call: AdmittedCall) -> str:
    path = call.protocol.path
    if "{model}" in path:
        path = path.replace("{model}", quote(call.route.upstream_model or call.request.model))
    return join_url(call.route.target.base_url, path) + (f"?{call.request.query}" if call.request.query else "")


def answer_headers(answer: UpstreamAnswer, secret: str | None) -> list[tuple[bytes, bytes]]:
    """What of the upstream's headers the client gets. A stream's length isn't known: events may be taken out. `secret`: never
    goes with them."""
    hidden = HIDDEN_ANSWER_HEADERS | {b"content-length", b"x-accel-buffering"} if answer.is_stream else HIDDEN_ANSWER_HEADERS
    passing = [(name.lower(), value) for name, value in answer.raw_headers]
    headers = [
        (name, without_secret(value.translate(_PASSABLE), secret))
        for name, value in passing
        if name not in hidden and not name.startswith(HIDDEN_ANSWER_PREFIXES)
    ]
    return [*headers, _UNBUFFERED] if answer.is_stream else headers
