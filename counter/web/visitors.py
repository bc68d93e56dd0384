"""Who visits, as far as repeats and viewers are told apart: an address and an agent."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from counter.addresses import one
from counter.node.node import Node
from counter.node.viewers import Visitor
from counter.web.addresses import trusted_by
from counter.web.clients import Who

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_UNKNOWN = "dnt=1"
"""In the query of a visit: its page respects Do-Not-Track, and the browser has it on."""
_NOBODY = Visitor("", "", unknown=True)

Visitors = Callable[["WSGIEnvironment"], Visitor]


def visitors(node: Node, who: Who) -> Visitors:
    """Says who sends a visit.

    Nobody is told apart where nobody asks, with a mark that the visitor does not want it, and with
    a token: then a program sends visits that others have made.
    """
    if not node.viewers.asked:
        return lambda _: _NOBODY
    trusted = trusted_by(node.config)

    def visitor(environ: "WSGIEnvironment") -> Visitor:
        query = environ.get("QUERY_STRING")
        if query and _UNKNOWN in query.split("&"):
            return _NOBODY
        if "HTTP_AUTHORIZATION" in environ and who(environ).has_token:
            return _NOBODY
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "")
        address = one(trusted.client(environ.get("REMOTE_ADDR", ""), forwarded))
        return Visitor(address, environ.get("HTTP_USER_AGENT", ""))

    return visitor
