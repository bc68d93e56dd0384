"""Addresses of clients: which proxies are trusted, for whom they ask, and who counts as one.

Pure: the strings come from sockets and headers.
"""

import ipaddress
import math
from collections.abc import Iterable
from functools import lru_cache
from socket import AF_INET, inet_pton

_HOST_BITS = 64
"""Of an IPv6 address: one host may have all of them, and take another one for each request."""
_LONGEST = 45
"""Characters that the text of an address has at most."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(text: str) -> Network:
    """The network that a setting names, such as `10.0.0.0/8` or one address.

    Raises ValueError.
    """
    return ipaddress.ip_network(text)


@lru_cache(maxsize=4096)
def one(address: str) -> str:
    """What counts as one client: an IPv4 address, or the IPv6 network of 64 bits."""
    if _is_ipv4(address):
        return address
    known = _read(address)
    if known is None:
        return address[:_LONGEST]
    if isinstance(known, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((known, 128 - _HOST_BITS), strict=False))
    return str(known)


class Trusted:
    """The proxies that are believed about whom they ask for. Immutable; any thread may ask."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Take the networks as text. Raises ValueError for one that is none."""
        self._networks = tuple(map(network, networks))
        self._has = lru_cache(maxsize=4096)(self._find)

    def __contains__(self, address: str) -> bool:
        return self._has(address)

    def client(self, address: str, forwarded: str) -> str:
        """Who asks, if `address` is connected and says `X-Forwarded-For: forwarded`.

        The last of a chain that is not itself a trusted proxy: what stands before it are its own
        words. What cannot be read ends the chain.
        """
        for hop in reversed(forwarded.split(",")):
            if address not in self:
                break
            hop = hop.strip()
            if not _is_ipv4(hop) and _read(hop) is None:
                break
            address = hop
        return address

    def _find(self, address: str) -> bool:
        known = _read(address)
        return known is not None and any(known in each for each in self._networks)


class Places:
    """How many places each client has taken, of connections or bytes, and whether there are more.

    For one thread, or greenlets that do not switch inside a call.
    """

    def __init__(self, limit: int, trusted: Trusted, in_all: float = math.inf) -> None:
        """Give each client `limit` places; those in `trusted` have as many as they like.

        All together, trusted ones among them, have `in_all`.
        """
        self._limit = limit
        self._trusted = trusted
        self._free = in_all
        self._taken: dict[str, int] = {}

    def take(self, address: str, count: int = 1) -> bool:
        """Whether this client may have so many more; they are counted if so."""
        if count > self._free:
            return False
        if address not in self._trusted:
            client = one(address)
            taken = self._taken.get(client, 0) + count
            if taken > self._limit:
                return False
            self._taken[client] = taken
        self._free -= count
        return True

    def leave(self, address: str, count: int = 1) -> None:
        """So many of those that `take` allowed are free again."""
        self._free += count
        if address in self._trusted:
            return
        client = one(address)
        left = self._taken.get(client, 0) - count
        if left > 0:
            self._taken[client] = left
        else:
            self._taken.pop(client, None)

    def __len__(self) -> int:
        """How many clients that are not trusted have places."""
        return len(self._taken)


def _is_ipv4(text: str) -> bool:
    """Whether a text is an IPv4 address as it is always written, found in a tenth of the time."""
    try:
        inet_pton(AF_INET, text)
    except (OSError, ValueError):  # ValueError: a NUL, or no ASCII
        return False
    return True


def _read(text: str) -> Address | None:
    """The address that a text is; one of IPv4 inside of IPv6 is the former."""
    try:
        known = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(known, "ipv4_mapped", None) or known
