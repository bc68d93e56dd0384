"""Bearer tokens: how a setting lists them, and whether one that was sent is among them.

A list is `secret` or `label:secret`, comma-separated. The label says whose token it is and may be
shown; two tokens may share one, so that a secret can be changed while both are valid.

Pure: no I/O, no clock.
"""

import hmac
import re
from collections.abc import Iterable
from typing import NamedTuple

SHORTEST = 8
"""Characters of the shortest secret."""

_is_label = re.compile(r"[A-Za-z0-9._-]{1,32}").fullmatch
_is_secret = re.compile(rf"[^\s,]{{{SHORTEST},}}").fullmatch


class Token(NamedTuple):
    """A secret, and the label that stands for it in keys and logs."""

    label: str
    secret: str

    def __repr__(self) -> str:
        return f"Token({self.label!r}, ...)"


def parse_tokens(text: str, label: str) -> tuple[Token, ...]:
    """The tokens of a list; those without a label of their own get `label`.

    Raises ValueError for a list that is none. Its message never shows a secret.
    """
    tokens: list[Token] = []
    for number, item in enumerate(text.split(","), 1):
        own, colon, secret = item.strip().rpartition(":")
        if colon and not _is_label(own):
            raise ValueError(
                f"the label of token {number} is not allowed; use 1 to 32 characters out of "
                "A-Z a-z 0-9 . _ - before its colon, and no colon in a secret"
            )
        if not _is_secret(secret):
            raise ValueError(
                f"token {number} is not allowed; use {SHORTEST} characters or more, no blanks, "
                "and write several as label:secret,label:secret"
            )
        if secret in (known.secret for known in tokens):
            raise ValueError(f"token {number} has the secret of one before it; write it once")
        tokens.append(Token(own or label, secret))
    return tuple(tokens)


def label_of(tokens: Iterable[Token], given: bytes) -> str | None:
    """The label of the token with this secret, in UTF-8; None if there is none.

    Takes the same time for every secret of one length: each token is compared, whole.
    """
    found = None
    for token in tokens:
        if hmac.compare_digest(given, token.secret.encode()):
            found = token.label
    return found
