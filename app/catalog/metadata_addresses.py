"""Addresses at which no upstream can be unless the operator says so: link-local ones, and the metadata services of clouds.

Whoever may name an upstream's address could else read, through the proxy, the credentials that a cloud hands to its
machines. Loopback and private networks are allowed: local servers are what many upstreams are. Checked when an address is
saved, as far as it can be told from its text, and at each connection, of what the name has come to.

Metadata services: 169.254.169.254 of most clouds (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html,
which has fd00:ec2::254 too; https://cloud.google.com/compute/docs/metadata/querying-metadata, with fd20:ce::254), 100.100.100.200
of Alibaba Cloud, 168.63.129.16 of Azure.
"""

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

REFUSED = "is link-local or a cloud's metadata service; where that is meant, set ALLOW_LINK_LOCAL_UPSTREAMS=true"

_NETWORKS = tuple(
    map(
        ip_network,
        ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "fe80::/10", "fd00:ec2::/32", "fd20:ce::254/128"),
    )
)
_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"})
_NAT64 = ip_network("64:ff9b::/96")
_NUMBERS = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+)){0,3}", re.IGNORECASE)


def is_refused(host: str) -> bool:
    """`host`: a name, or an address in any form that a resolver takes, such as `169.254.169.254`, `0xa9fea9fe` or `::ffff:a9fe:a9fe`."""
    name = host.lower().rstrip(".")
    address = _address(name)
    if address is None:
        return name in _NAMES
    return any(address in network for network in _NETWORKS)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """What an IPv6 address stands for, where it only wraps an IPv4 address."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return _of_numbers(host)
    if isinstance(address, IPv6Address) and address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return getattr(address, "ipv4_mapped", None) or address


def _of_numbers(host: str) -> IPv4Address | None:
    """One to four numbers, also octal and hexadecimal, as `inet_aton` has them."""
    if not _NUMBERS.fullmatch(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


class RefusedAddressError(Exception):
    """Where an upstream's name leads."""


def looking_where(*, allow_link_local: bool) -> dict[str, Any]:
    """Extensions of an httpx request, which end it with `RefusedAddressError` before anything is sent, where the connection has
    come to an address that is refused. https://www.encode.io/httpcore/extensions/#trace"""
    return {} if allow_link_local else {"trace": _look_where}


async def _look_where(event: str, information: dict[str, Any]) -> None:
    match event:
        case "connection.connect_tcp.started":
            host = information["host"]
        case "connection.connect_tcp.complete":
            host = information["return_value"].get_extra_info("server_addr")[0]
        case _:
            return
    if is_refused(host):
        raise RefusedAddressError(f"The address {REFUSED}.")
