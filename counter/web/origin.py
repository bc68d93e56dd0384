"""Whether a page of another site may be what makes a browser ask: it must change nothing here.

Pages, numbers, visits and beacons are for all sites, and are answered under any name. Everything
else that changes something is asked under a name of this node's own (`Host`), against names that
somebody else has pointed at this machine (DNS rebinding), and by a page of this node if it is a
page (`Origin`).
"""

import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from flask import Flask, request

from counter.config import ANY_HOST, Config, is_loopback
from counter.web.addresses import trusted
from counter.web.problems import Problem

_READS = frozenset(("GET", "HEAD", "OPTIONS"))
_GUARDED = ("/mesh", "/dev/")
"""By any method."""
_VISITS = ("/video/", "/visits", "/hit/")


def install(app: Flask, config: Config) -> None:
    """Check each request that is no visit and may change something, whichever route it is for."""
    allowed = config.allowed_hosts
    if not allowed:
        own = (socket.gethostname().lower(),)
        allowed = own if is_loopback(config.listen_host) else (ANY_HOST,)

    @app.before_request
    def check() -> None:
        path = request.path
        if not path.startswith(_GUARDED) and (request.method in _READS or path.startswith(_VISITS)):
            return
        check_host(request.environ.get("HTTP_HOST"), allowed)
        _check_origin()


def check_host(asked: str | None, allowed: Collection[str]) -> None:
    """Raise a `Problem` for a name that is not one of this node's.

    An address, or a name of loopback, is one: no other site can have it. No name at all is one,
    too: browsers send one.
    """
    if asked is None or ANY_HOST in allowed:
        return
    name = _name(asked)
    if name in allowed or name.endswith(".localhost") or is_loopback(name) or _is_address(name):
        return
    raise Problem(
        421,
        "Misdirected Request",
        f"{asked[:200]!r} is none of the names of this node for what changes it; if it is one, "
        "add it to ALLOWED_HOSTS",
    )


def _check_origin() -> None:
    """Raise a `Problem` if a page of another site makes this request."""
    origin = request.environ.get("HTTP_ORIGIN")
    if origin is None:
        return
    hosts = [request.environ.get("HTTP_HOST", "")]
    if (request.remote_addr or "") in trusted():
        hosts.append(request.headers.get("X-Forwarded-Host", ""))
    try:
        asks = urlsplit(origin).netloc.lower()
    except ValueError:
        asks = ""
    if not asks or asks not in [host.lower() for host in hosts]:
        raise Problem(403, "Another site", "only a page of this node may ask for that")


def _name(host: str) -> str:
    """The name or address in a `Host`, without the port and a last dot."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()
