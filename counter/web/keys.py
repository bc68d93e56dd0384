"""The idempotency key of a request, which makes it safe to send again."""

import re

from flask import Request

from counter.crdt.ids import KEY
from counter.web.problems import Problem

_HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
"""The header of an answer to a repeat of a request that was done before."""
_is_key = re.compile(KEY).fullmatch


def key_of(request: Request) -> str:
    """The key that a request has, "" for none; a `Problem` for one that is no key."""
    key = request.headers.get(_HEADER)
    if key is not None and not _is_key(key):
        raise Problem(400, "Bad key", f"an {_HEADER} is 1 to 128 visible characters of ASCII")
    return key or ""
