"""Where a request comes from: an address, or the network that stands for it."""

from functools import lru_cache

from flask import Request, current_app

from counter.addresses import Trusted, one
from counter.config import Config


def address_of(request: Request, config: Config) -> str:
    """The address of a client, behind `TRUSTED_PROXIES` too; of IPv6 the network of 64 bits."""
    forwarded = request.headers.get("X-Forwarded-For", "")
    trusted = trusted_by(config)
    return one(trusted.client(request.remote_addr or "", forwarded))


def trusted() -> Trusted:
    """The trusted proxies of this node."""
    return trusted_by(current_app.extensions["node"].config)


def trusted_by(config: Config) -> Trusted:
    """The trusted proxies of these settings."""
    return _trusted(config.trusted_proxies)


_trusted = lru_cache(maxsize=8)(Trusted)
