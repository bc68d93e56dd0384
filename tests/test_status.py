"""Status: what the console and the metrics show of a node."""

import time

import pytest

from counter.node import warn
from counter.node.rates import MemberRates
from counter.node.stage import Stage
from counter.node.status import Folding
from counter.node.warn import Warn
from counter.protocol.key_log import Key
from counter.transport.hub import Hub
from lab.clients import until
from tests.kept import Talking, talking


def test_before_the_store_is_open_there_is_nothing_to_show() -> None:
    status = Talking(Hub(), "a").status
    assert status.members() == []
    assert status.rates() == {}
    assert status.lacks() == []
    assert status.duplicate_names() == {}
    assert status.suspected() == []
    assert status.damage() == []
    assert status.folding() == Folding()
    assert status.keys() == (0, 0)
    assert status.unflushed() == 0
    assert not status.store_up
    assert not status.transport_up
    assert not status.complete
    assert not status.clock_wrong


def test_every_node_shows_every_member_with_its_health() -> None:
    with talking(Hub(), "a", "b") as [a, b]:

        def told() -> bool:
            a.gossip.sync()
            b.gossip.sync()
            members = a.status.members()
            return len(members) == 2 and all(member.health for member in members)

        until(told, 5, "both are known")
        for member in a.status.members():
            assert member.live
            assert member.health is not None
            assert member.health.store == ("memory", True)
            assert member.health.transport == ("hub", True)
        assert a.status.complete
        assert a.status.store_up
        assert a.status.transport_up
        assert set(a.status.rates()) == {a.replica.member, b.replica.member}


def test_visits_that_are_not_stored_are_shown_as_such() -> None:
    with talking(Hub(), "a", "b") as [a, _]:
        with a.lock:
            a.replica.count_many({"cats": 3})
        assert a.status.unflushed() == 3
        a.flusher.wake()
        until(lambda: a.status.unflushed() == 0, 5, "they are stored")


def test_a_key_is_shown_until_it_is_forgotten() -> None:
    with talking(Hub(), "a", "b") as [a, _]:
        with a.lock:
            a.replica.count_many({"cats": 1}, key=Key("key", b"", time.monotonic()))
        a.flusher.wake()
        until(lambda: a.status.unflushed() == 0, 5, "it is stored")
        assert a.status.keys() == (1, 0)


def test_a_node_is_joining_then_ready_then_leaving() -> None:
    stage = Stage()
    states = [stage.state]
    stage.ready = True
    states.append(stage.state)
    stage.draining.set()
    states.append(stage.state)
    assert states == ["joining", "ready", "leaving"]


def test_rates_of_members_are_those_of_visits_and_of_messages() -> None:
    rates = MemberRates()
    assert rates.due(0)
    rates.note({"a": 10, "b": 0}, {"a": 100}, 0)
    assert not rates.due(0.5)
    found = rates.rates({"a": 20, "b": 0, "c": 5}, {"a": 150, "c": 1}, 10)
    assert found["a"] == (1, 5)
    assert found["b"] == (0, None)
    assert found["c"] == (None, None)


def test_a_warning_is_logged_at_most_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    warn_of = Warn(lambda: now)
    for seconds in range(int(2 * warn.INTERVAL) + 1):
        now = float(seconds)
        warn_of("disk.full", f"second={seconds}")
        if seconds == 1:
            warn_of("clock.set", "another event")
    assert [record.message for record in caplog.records] == [
        "disk.full second=0",
        "clock.set another event",
        "disk.full second=60",
        "disk.full second=120",
    ]
