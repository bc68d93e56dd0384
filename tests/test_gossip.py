"""Gossip: what a node says to the others, and what it does with what they say."""

import logging
import time
from typing import Any

import pytest

from counter.node import gossip
from counter.node.gossip import LiveMemberError, NotReadyError, UnknownMemberError
from counter.protocol import messages
from counter.protocol.messages import Delta, Envelope, ReportRequest
from counter.transport.hub import Hub
from lab.clients import until
from tests.kept import Talking, talking

SECRET = "a secret of the cluster"


def metric(counter: Any) -> float:
    value: float = counter._value.get()
    return value


def sent(node: Talking, body: Any, ago: float = 0.0) -> bytes:
    """A message as this node would have sent it so many seconds ago."""
    when = int((time.time() - ago) * 1000)
    return messages.encode(Envelope(node.replica.id, node.transport.address, when, body), None)


def count(node: Talking, video: str, visits: int) -> None:
    """Count visits, and wait until they are stored."""
    with node.lock:
        node.replica.count_many({video: visits})
    node.flusher.wake()
    until(lambda: node.status.unflushed() == 0, 5, "the visits are stored")


def test_what_is_stored_is_published_and_shown_by_the_others() -> None:
    with talking(Hub(), "a", "b", "c") as [a, b, c]:
        count(a, "cats", 3)
        assert b.shows("cats") == 0
        a.gossip.publish()
        own = a.replica.id
        until(lambda: b.shows("cats") == c.shows("cats") == 3, 5, "the visits arrive")
        assert b.grew == c.grew == ["cats"]
        stored = {"cats": 3}
        until(lambda: b.store.counts.get(own) == stored, 5, "b stores them")
        until(lambda: c.store.counts.get(own) == stored, 5, "c stores them")


def test_what_is_not_stored_is_not_published() -> None:
    with talking(Hub(), "a", "b") as [a, b]:
        count(a, "cats", 1)
        with a.lock:
            a.replica.visit("cats")
        a.gossip.publish()
        until(lambda: b.shows("cats") == 1, 5, "what is stored arrives")
        assert b.shows("cats") == 1


def test_a_lost_message_is_repaired_after_a_report() -> None:
    hub = Hub()
    with talking(hub, "a", "b") as [a, b]:
        hub.link = lambda _source, _target: False
        count(a, "cats", 2)
        a.gossip.publish()
        assert b.shows("cats") == 0
        hub.link = lambda _source, _target: True

        def repaired() -> bool:
            a.gossip.sync()
            b.gossip.sync()
            return b.shows("cats") == 2

        until(repaired, 10, "the gap is repaired")


def test_a_node_that_is_cut_off_neither_sends_nor_takes() -> None:
    with talking(Hub(), "a", "b") as [a, b]:
        a.gossip.cut = True
        count(a, "cats", 1)
        count(b, "dogs", 1)
        before = metric(a.metrics.messages_out)
        a.gossip.publish()
        assert metric(a.metrics.messages_out) == before
        assert a.gossip.receive(sent(b, Delta({"dogs": 1}, 1))) == "cut"
        assert not a.status.transport_up
        assert (a.shows("dogs"), b.shows("cats")) == (0, 0)


def test_a_bad_message_is_counted_and_dropped() -> None:
    with talking(Hub(), "a", "b") as [a, b]:
        assert a.gossip.receive(b"junk") is not None
        old = a.gossip.receive(sent(b, ReportRequest(), ago=3600))
        assert old is not None
        assert metric(a.metrics.dropped.labels(old)) == 1
        assert a.gossip.receive(sent(b, ReportRequest())) is None


def test_ready_is_announced_once() -> None:
    with talking(Hub(), "a", "b") as [a, b]:
        for _ in range(3):
            a.gossip.sync()
            b.gossip.sync()
        assert a.was_ready == b.was_ready == [True]


def test_a_leaving_node_is_not_waited_for_any_more() -> None:
    with talking(Hub(), "a", "b") as [a, b]:
        until(lambda: bool(a.replica.peers.staying(time.monotonic())), 5, "a hears b")
        b.stage.draining.set()
        b.gossip.leave()
        until(lambda: not a.replica.peers.staying(time.monotonic()), 5, "a hears that b leaves")


def test_only_a_member_that_is_known_and_silent_can_be_removed() -> None:
    with talking(Hub(), "a", "b") as [a, b]:
        with pytest.raises(UnknownMemberError):
            a.gossip.remove("nobody~0000000000000")
        with pytest.raises(LiveMemberError, match="this node"):
            a.gossip.remove(a.replica.member)
        with pytest.raises(LiveMemberError, match="was heard"):
            a.gossip.remove(b.replica.member)
        b.gossip.leave()
        until(lambda: not a.replica.peers.staying(time.monotonic()), 5, "a hears that b leaves")
        assert a.gossip.remove(b.replica.member) is True
        assert a.gossip.remove(b.replica.member) is False
        a.stage.draining.set()
        with pytest.raises(NotReadyError, match="leaving"):
            a.gossip.remove(b.replica.member)


def test_a_wall_clock_that_was_set_is_noticed_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "counter")
    with talking(Hub(), "a", "b") as [a, _]:
        zero = gossip.wall_clock_zero() + 5.0
        monkeypatch.setattr(gossip, "wall_clock_zero", lambda: zero)
        before = metric(a.metrics.messages_out)
        a.gossip.publish()
        a.gossip.publish()
        assert [record.message for record in caplog.records if "clock.set" in record.message] == [
            "clock.set seconds=+5.0"
        ]
        assert metric(a.metrics.messages_out) > before, "the others are told"
