"""Where a request comes from: an address, or the network that stands for it."""

import ipaddress

from flask import Request

_TRUSTED = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
"""Proxies in these say for whom they ask."""
_HOST_BITS = 64
"""Of an IPv6 address: one host may have all of them, and take another one for each request."""


def address_of(request: Request) -> str:
    """The address of a client; of IPv6 the network of 64 bits that it is in."""
    address = request.remote_addr or ""
    forwarded = request.headers.get("X-Forwarded-For", "")
    if forwarded and _is_trusted(address):
        # The last one is what the proxy itself has seen; those before it are a client's own words.
        address = forwarded.rpartition(",")[2].strip()
    return _network(address)


def _is_trusted(address: str) -> bool:
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(known in network for network in _TRUSTED)


def _network(address: str) -> str:
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:45]
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((known, 128 - _HOST_BITS), strict=False))
    return str(known)
