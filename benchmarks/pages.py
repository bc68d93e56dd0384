"""Ten thousand live pages on one node: their memory, the last to hear, the visits beside them."""

import time
from contextlib import ExitStack
from statistics import median

from benchmarks import Limits
from benchmarks.contenders import Load, node, wrk
from benchmarks.report import Goal, Part, Row, ratio
from lab.clients import Apart, Client, LivePages, OpenLoop, Target, fetch
from lab.clients.live_pages import Reached
from lab.cluster import start
from lab.servers import Node

WATCHED = "watched"
CHANGES = 10
"""Changes a second."""
CONNECTIONS = 32
VIDEOS = 100
_PATIENCE = 30
"""Seconds for a change to reach all pages."""


def measure(limits: Limits) -> Part:
    """Open pages of one video in another process, and change its number."""
    with ExitStack() as stack:
        one = node(limits.folder / "pages", "counter1")
        start(stack, [one])
        alone = [_load(one, limits) for _ in range(limits.rounds)]
        watchers = stack.enter_context(Apart(LivePages, one.port))
        began = time.monotonic()
        opened, refused = watchers.call("open", f"/live/{WATCHED}", limits.pages)
        took = time.monotonic() - began
        assert opened, f"no page could be opened: {refused} were refused"
        heard, still, changing, frames = [], [], [], []
        for _ in range(limits.rounds):
            heard.append(_change(one, watchers))
            still.append(_load(one, limits))
            watchers.call("messages")
            changing.append(_load_while_changing(one, limits))
            frames.append(watchers.call("messages") / limits.seconds)
            _settle(one, watchers)
        weight = one.memory() / 2**20
        left = watchers.call("reach", 0).open
    rates = {
        "no pages": [load.rate for load in alone],
        "pages, no change": [load.rate for load in still],
        f"pages, {CHANGES} changes a second": [load.rate for load in changing],
    }
    return _part(limits, left, weight, heard, rates, took, median(frames))


def _load(one: Node, limits: Limits) -> Load:
    return wrk(one, "gets.lua", "/video/", VIDEOS, connections=CONNECTIONS, seconds=limits.seconds)


def _load_while_changing(one: Node, limits: Limits) -> Load:
    with Apart(OpenLoop, Target("changes", [one.port], CHANGES, 1, [f"/video/{WATCHED}"])):
        return _load(one, limits)


def _change(one: Node, watchers: Apart) -> float:
    """Return the seconds from the answer to a visit until the last open page has shown it."""
    visits = _visits(one)
    watchers.call("expect", visits + 1)
    with Client(one.url) as visitor:
        assert visitor.json(f"/video/{WATCHED}")["visits"] == visits + 1
    answered = time.monotonic()
    return _last(watchers) - answered


def _settle(one: Node, watchers: Apart) -> None:
    """Wait until every page has shown the newest number."""
    watchers.call("expect", _visits(one))
    _last(watchers)


def _last(watchers: Apart) -> float:
    told: Reached = watchers.call("reach", _PATIENCE)
    assert told.pages == told.open, f"not every page has shown it: {told}"
    return told.last


def _visits(one: Node) -> int:
    return int(fetch(one.url, f"/count/{WATCHED}")["visits"])


def _part(
    limits: Limits,
    opened: int,
    weight: float,
    heard: list[float],
    rates: dict[str, list[float]],
    took: float,
    frames: float,
) -> Part:
    without, still, changing = rates.values()
    kept = ("without changes", median(still), ratio(changing, still))
    rows = [
        Row("live pages open on one node", opened, "pages", Goal(least=limits.pages)),
        Row(f"resident, with {opened:,} pages", weight, "MiB", Goal(most=600)),
        Row("a change reaches the last page within", median(heard), "s", Goal(most=1.5)),
        Row(
            f"visits while the pages' video changes {CHANGES} times a second",
            median(changing),
            "a second",
            Goal(least=0.5),
            *kept,
        ),
    ]
    how = (
        f"{limits.pages:,} pages were asked for; it took {took:.1f} s to open {opened:,}, all of "
        f"one video. Medians of {limits.rounds} rounds, visits for {limits.seconds:g} s of each, "
        f"to other videos; without any page {median(without):,.0f} a second. While the video "
        f"changed, the pages got {frames:,.0f} numbers a second: one that is behind skips some. "
        "The pages offer permessage-deflate, as browsers do."
    )
    return Part("pages", rows, how)
