"""Who asks: the bearer token of a request, and what it allows.

A `WRITE_TOKEN` allows what is too much for a stranger, an `ADMIN_TOKEN` everything.
"""

from flask import Request

from counter.config import Config
from counter.tokens import label_of
from counter.web.problems import Problem


class Tokens:
    """The tokens of a node. Any thread may call any method."""

    def __init__(self, config: Config) -> None:
        self._admin = config.admin_tokens()
        self._any = (*config.write_tokens(), *self._admin)

    @property
    def has_admin(self) -> bool:
        """Whether there is a token for operators at all."""
        return bool(self._admin)

    def label_of(self, request: Request) -> str | None:
        """The label of the valid token that came with a request, of either kind; None without.

        Raises a `Problem`, 401, for a bearer token that is none of this node's. Taken for none, a
        token that one node does not know yet would change what a request means there. A node
        without any token ignores what is sent: it may be meant for a proxy.
        """
        given = _bearer(request)
        if not given or not self._any:
            return None
        if (label := label_of(self._any, given)) is None:
            raise Problem(
                401,
                "Wrong token",
                "nothing was done: the token is no WRITE_TOKEN and no ADMIN_TOKEN of this node; "
                "send one of them, or no Authorization",
            )
        return label

    def check_any(self, request: Request) -> None:
        """Raise a `Problem`, 401, unless the request has a token of either kind."""
        if self.label_of(request) is None:
            raise Problem(
                401,
                "No token",
                "this is for who has a token: send Authorization: Bearer TOKEN"
                if self._any
                else "this is for who has a token, and this node has none: set WRITE_TOKEN",
            )

    def check_admin(self, request: Request) -> str:
        """The label of the operator's token of a request; raises a `Problem`, 401, without one."""
        given = _bearer(request)
        if not given:
            raise Problem(
                401, "No token", "this is for the operator: send Authorization: Bearer TOKEN"
            )
        label = label_of(self._admin, given)
        if label is None:
            raise Problem(401, "Wrong token", "the token is not the ADMIN_TOKEN of this node")
        return label


def _bearer(request: Request) -> bytes:
    """The bearer token of a request as it was sent; empty if there is none."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    # A header comes as latin-1, whatever its bytes mean.
    return given.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""
