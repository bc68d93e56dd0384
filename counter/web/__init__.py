"""HTTP and WebSocket endpoints: one blueprint for each noun of the URL space.

The code may be changed without asking; paths, answers, headers and error pages are what clients
use. It imports node and all that node imports.
"""

from flask import Blueprint

from counter.node.node import Node
from counter.web import (
    badge,
    catalogue,
    cluster,
    corrections,
    health,
    live,
    mesh,
    site,
    videos,
    visits,
    why,
)


def blueprints(node: Node) -> list[Blueprint]:
    """All endpoints of this node."""
    nouns = (videos, live, badge, site, visits, catalogue, corrections, cluster, why, health)
    pages = [noun.blueprint(node) for noun in nouns]
    return [*pages, mesh.blueprint(node.mesh)] if node.mesh else pages


__all__ = ["blueprints"]
