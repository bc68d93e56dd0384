"""Who sends a request: its address, and the label of its token."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Request

from counter.node.node import Node
from counter.protocol.client import Client
from counter.web.addresses import address_of
from counter.web.tokens import Tokens

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

Who = Callable[["WSGIEnvironment"], Client]


def clients(node: Node) -> Who:
    """Says who sends a request; a `Problem`, 401, for a token that is none of this node's."""
    tokens = Tokens(node.config)

    def client(environ: "WSGIEnvironment") -> Client:
        request = Request(environ)
        return Client(address_of(request, node.config), tokens.label_of(request))

    return client
