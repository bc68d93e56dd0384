"""The address of the node that a command speaks to."""

import os
from urllib.parse import SplitResult, urlsplit

import click


def default_url() -> str:
    """The address of the node on this machine."""
    return f"http://127.0.0.1:{os.environ.get('LISTEN_PORT') or 1234}"


def checked_url(url: str, *schemes: str) -> SplitResult:
    """The parts of a node's address; raises ClickException for what is none."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if is_address and url.isprintable() and " " not in url:
        return parts
    # The default is made of a setting of the server, which may be a bad one.
    own = os.environ.get("LISTEN_PORT") if url == default_url() else None
    wrong = f"--url {url!r} is not an address" if own is None else f"LISTEN_PORT={own!r} is no port"
    raise click.ClickException(f"{wrong}; write --url http://HOST:PORT")
