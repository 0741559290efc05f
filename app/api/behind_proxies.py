"""Who calls, where proxies stand before this one: what they say is believed from them alone.

Each proxy appends whom it has heard of to a header, so that the right end is what the nearest one says and the left end is
what anybody may have written. The caller is the rightmost address that is no trusted proxy's. Only one header is read, the
one that the operator's proxies write: they pass the other on as the client has sent it.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

Networks = tuple[IPv4Network | IPv6Network, ...]


def behind_proxies(app: ASGIApp, networks: str, *, header: str) -> ASGIApp:
    """`networks`: as `TRUSTED_PROXIES` has them. `header`: `x-forwarded-for`, or `forwarded` (RFC 7239)."""
    trusted = tuple(ip_network(text.strip(), strict=False) for text in networks.split(",") if text.strip())
    name = header.encode()
    named_in = _named_in_forwarded if header == "forwarded" else _named_in_list

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["client"] and _is_in(scope["client"][0], trusted):
            text = ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)
            if (caller := caller_of(named_in(text), trusted)) is not None:
                scope["client"] = (caller, 0)
        await app(scope, receive, send)

    return serve


def caller_of(hops: Iterable[str], trusted: Networks) -> str | None:
    """`hops`: from the nearest on. None where they name nobody. What is beyond a hop that is no address, such as `unknown`, is
    anybody's word: then it is the last trusted one before it."""
    caller = None
    for hop in hops:
        if (address := _address(hop)) is None:
            break
        caller = address
        if not _is_in(address, trusted):
            break
    return caller


def _named_in_list(text: str) -> Iterable[str]:
    return reversed(text.split(","))


def _named_in_forwarded(text: str) -> Iterable[str]:
    """The `for` of each element; one without it names nobody."""
    for element in reversed(text.split(",")):
        pairs = (pair.partition("=") for pair in element.split(";"))
        yield next((value.strip().strip('"') for key, _, value in pairs if key.strip().lower() == "for"), "")


def _address(hop: str) -> str | None:
    """Without a port, in the usual form: `203.0.113.7`, `203.0.113.7:5000`, `2001:db8::7`, `[2001:db8::7]`, `[2001:db8::7]:5000`."""
    host = hop.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return None if address.scope_id else str(address.ipv4_mapped or address)
    return str(address)


def _is_in(host: str, networks: Networks) -> bool:
    address = _address(host)
    return address is not None and any(ip_address(address) in network for network in networks)
