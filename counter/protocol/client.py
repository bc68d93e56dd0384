"""Who sends a request, as far as that decides what it may ask of a node.

Pure: no I/O.
"""

import re
from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import NamedTuple

_WITH_TOKEN, _PLAIN = "~t", "~p"
"""How the hash of a key begins: of one that came with a token, and of any other."""
_is_hash = re.compile(r"~[tp][A-Za-z0-9_-]{43}").fullmatch


class Client(NamedTuple):
    """The sender of a request: its address, and the label of its token, None without one."""

    address: str = ""
    label: str | None = None

    @property
    def has_token(self) -> bool:
        """Whether it came with a valid token."""
        return self.label is not None

    def key(self, given: str) -> str:
        """The key under which the cluster knows what this client has given as one.

        The label of a token is the scope of its keys, so nobody else can take them. Scope and key
        together are hashed into one key of the same form, which every version understands. Without
        a token a key stays as it is, unless it looks like such a hash.
        """
        if self.label is not None:
            return _WITH_TOKEN + _hash(self.label, given)
        return _PLAIN + _hash("", given) if _is_hash(given) else given


STRANGER = Client()
"""A client of whom nothing is known."""


def has_token(key: str) -> bool:
    """Whether a key, as the cluster knows it, came with a token."""
    return key.startswith(_WITH_TOKEN) and _is_hash(key) is not None


def _hash(scope: str, key: str) -> str:
    # A key has no line feeds, so no other scope and key make the same text.
    content = f"{scope}\n{key}".encode()
    return urlsafe_b64encode(blake2b(content, digest_size=32).digest()).decode().rstrip("=")
