"""The operator's commands, as Flask's own command groups: `flask cluster`, `flask visits`.

The code may be changed without asking; commands, options and messages are what operators use. It
speaks HTTP to a running node, and imports only `crdt` and `backoff`.
"""

from counter.cli.cluster import cluster as _cluster
from counter.cli.listing import listed_first, with_version
from counter.cli.visits import visits as _visits
from counter.cli.why import why as _why

_cluster.add_command(_why)

COMMANDS = (with_version(_cluster), with_version(_visits))
"""All command groups."""

__all__ = ["COMMANDS", "listed_first"]
