"""Clients with real connections, of three kinds, and the books of what they were told.

`closed_loop` sends its next request after an answer, `open_loop` at a rate whatever the answers
take, `live_pages` watches counts. Only the standard library is needed, as `make traffic` uses it.
"""

from lab.clients.books import Books, Post, Posts
from lab.clients.bulk import AUTHORIZED, fill
from lab.clients.closed_loop import Posters, Traffic, Watcher, agree, send
from lab.clients.connection import (
    STRETCH,
    Client,
    counted,
    fetch,
    metric,
    metrics,
    post,
    until,
)
from lab.clients.live_pages import LivePages
from lab.clients.looped import Apart
from lab.clients.open_loop import OpenLoop, Target, percentile

__all__ = [
    "AUTHORIZED",
    "STRETCH",
    "Apart",
    "Books",
    "Client",
    "LivePages",
    "OpenLoop",
    "Post",
    "Posters",
    "Posts",
    "Target",
    "Traffic",
    "Watcher",
    "agree",
    "counted",
    "fetch",
    "fill",
    "metric",
    "metrics",
    "percentile",
    "post",
    "send",
    "until",
]
