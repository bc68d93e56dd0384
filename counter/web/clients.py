"""Who sends a request: its address, and the label of its token."""

from typing import TYPE_CHECKING

from flask import Request

from counter.addresses import one
from counter.node.node import Node
from counter.node.viewers import Person
from counter.protocol.client import Client
from counter.web.addresses import address_of, trusted_by
from counter.web.problems import Problem
from counter.web.tokens import Tokens

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_UNKNOWN = "dnt=1"
"""In the query of a visit: its page respects Do-Not-Track, and the browser has it on."""


class Who:
    """Says who sends a visit to a node.

    A token of somebody else's, of the site's own users perhaps, is none. Not so for many visits,
    which may have a key: there it is a 401.
    """

    def __init__(self, node: Node) -> None:
        self._config = node.config
        self._tokens = Tokens(node.config)
        self._trusted = trusted_by(node.config)
        self._asked = node.viewers.asked

    def __call__(self, environ: "WSGIEnvironment") -> Client:
        """The address of the client, and the label of its token."""
        request = Request(environ)
        try:
            label = self._tokens.label_of(request)
        except Problem:
            label = None
        return Client(address_of(request, self._config), label)

    def person(self, environ: "WSGIEnvironment") -> Person | None:
        """Who is to be known for a viewer, as far as anybody asks for viewers.

        Nobody is where the page says that the visitor does not want it; nor with a token, as then
        a program sends visits that others have made.
        """
        if not self._asked:
            return None
        query = environ.get("QUERY_STRING")
        if query and _UNKNOWN in query.split("&"):
            return None
        if "HTTP_AUTHORIZATION" in environ and self(environ).has_token:
            return None
        forwarded = environ.get("HTTP_X_FORWARDED_FOR", "")
        address = one(self._trusted.client(environ.get("REMOTE_ADDR", ""), forwarded))
        return Person(address, environ.get("HTTP_USER_AGENT", ""))


def clients(node: Node) -> Who:
    """Says who sends a visit to this node."""
    return Who(node)
