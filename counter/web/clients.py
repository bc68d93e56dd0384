"""Who sends a request: its address, and the label of its token."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Request

from counter.node.node import Node
from counter.protocol.client import Client
from counter.web.addresses import address_of
from counter.web.problems import Problem
from counter.web.tokens import Tokens

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

Who = Callable[["WSGIEnvironment"], Client]


def clients(node: Node) -> Who:
    """Says who sends a visit. A token of somebody else's, of the site's own users perhaps, is none.

    Not so for many visits, which may have a key: there it is a 401.
    """
    tokens = Tokens(node.config)

    def client(environ: "WSGIEnvironment") -> Client:
        request = Request(environ)
        try:
            label = tokens.label_of(request)
        except Problem:
            label = None
        return Client(address_of(request, node.config), label)

    return client
