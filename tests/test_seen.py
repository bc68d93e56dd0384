"""Recent viewers that a node missed: it finds and asks for them, whatever is lost."""

import random
import re
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from counter.node.recent import Recent
from counter.protocol.messages import Body, Delta, Envelope, Report, decode, encode
from counter.protocol.seen_messages import ENTRY, MAX_IN_PAGE, SeenPage, SeenRequest
from lab.clients import post, until
from lab.cluster import start
from lab.servers import Node
from tests.test_viewers import SECRET, all_know, counts, metric

pytestmark = pytest.mark.nodes(3, REPEAT_WINDOW="3600", CLUSTER_SECRET=SECRET, DEV_MODE="1")
SENDER = "{}~7q2m9f2ck3x8a.01j0000000000000000{:04}"


class Place:
    """A node's recent viewers in virtual time; nothing arrives but by `Network`."""

    def __init__(self, network: "Network", name: str) -> None:
        self.network, self.name, self.run = network, name, 0
        network.places[name] = self
        self.start()

    def start(self) -> None:
        """Start, or start again after a kill: the memory is lost."""
        self.run += 1
        writer = self.network.source.getrandbits(52)
        self.recent = Recent(self.network.window, writer=writer, silence=3.0)

    def visit(self, viewer: int) -> bool:
        """Whether a visit counts."""
        if not self.recent.take(viewer, (), self.network.now):
            return False
        self.recent.tell(viewer)
        return True

    def publish(self) -> None:
        while seen := self.recent.told(self.network.now):
            since = self.recent.told_from(seen)
            self.network.send(self, "", Delta({}, 1, seen=seen, seen_from=since))

    def report(self) -> None:
        self.recent.forget(self.network.now)
        self.network.send(self, "", Report("ready", {}, {}, None, seen=self.recent.places()))

    def receive(self, envelope: Envelope) -> None:
        body, now = envelope.body, self.network.now
        said: Body | None = None
        if isinstance(body, Delta):
            self.recent.heard(body.seen, now, body.seen_from)
        elif isinstance(body, Report):
            said = self.recent.heard_places(envelope.sender, envelope.address, body.seen, now)
        elif isinstance(body, SeenRequest):
            said = self.recent.answer(body, now)
        elif isinstance(body, SeenPage):
            said = self.recent.answered(body, envelope.address, now)
        if said is not None:
            self.network.send(self, envelope.address, said)


class Network:
    """Loses, repeats and delays messages; some nodes may not hear each other."""

    def __init__(self, seed: int = 0, *, loss: float = 0.0, window: float = 600) -> None:
        self.source = random.Random(seed)
        self.loss, self.window, self.now = loss, window, 1_000.0
        self.places: dict[str, Place] = {}
        self.down: set[str] = set()
        self.cut: set[str] = set()
        self.pages: list[SeenPage] = []
        self.questions = 0
        self._waiting: list[tuple[float, str, bytes]] = []

    def send(self, sender: Place, address: str, body: Body) -> None:
        self.questions += isinstance(body, SeenRequest)
        if isinstance(body, SeenPage):
            self.pages.append(body)
        envelope = Envelope(SENDER.format(sender.name, sender.run), sender.name, 1, body)
        message = encode(envelope, None)
        for name in [address] if address else self.places:
            apart = (name in self.cut) != (sender.name in self.cut)
            if name == sender.name or apart or self.source.random() < self.loss:
                continue
            for _ in range(1 + (self.source.random() < self.loss)):
                delay = self.source.random() * (3 * self.loss) + 0.01
                self._waiting.append((self.now + delay, name, message))

    def pass_time(self, seconds: float) -> None:
        for tenth in range(round(10 * seconds)):
            up = [place for name, place in self.places.items() if name not in self.down]
            for place in up:
                place.publish()
                if tenth % 10 == 0:
                    place.report()
            for _ in range(10):
                self.now += 0.01
                due = [one for one in self._waiting if one[0] <= self.now]
                self._waiting = [one for one in self._waiting if one[0] > self.now]
                for _, name, message in due:
                    if name not in self.down:
                        self.places[name].receive(decode(message, None, 1, 1_000))


def network(*names: str, seed: int = 0, loss: float = 0.0, window: float = 600) -> Network:
    made = Network(seed, loss=loss, window=window)
    for name in names:
        Place(made, name)
    return made


def test_what_a_split_hid_is_a_repeat_at_both_sides_when_it_is_healed() -> None:
    net = network("a", "b", "c")
    a, b, c = net.places.values()
    net.pass_time(2)
    net.cut = {"a"}
    assert all(a.visit(viewer) for viewer in range(20))
    assert all(b.visit(viewer) for viewer in range(20, 40))
    net.pass_time(10)
    net.cut = set()
    net.pass_time(3)
    for place in (a, b, c):
        assert not any(place.visit(viewer) for viewer in range(40))


def test_a_node_that_starts_again_knows_what_it_counted_itself_and_what_others_did() -> None:
    net = network("a", "b", "c")
    a, b, _ = net.places.values()
    assert all(a.visit(viewer) for viewer in range(5_000))
    assert all(b.visit(viewer) for viewer in range(5_000, 5_010))
    net.pass_time(2)
    a.start()
    net.pass_time(5)
    assert not any(a.visit(viewer) for viewer in range(5_010))
    assert len(net.pages) <= 5_000 / MAX_IN_PAGE + 2, "from one peer, once"


def test_what_a_node_told_that_is_gone_now_is_known_by_who_heard_it() -> None:
    net = network("a", "b", "c")
    a, _, c = net.places.values()
    net.pass_time(2)
    net.cut = {"c"}
    assert a.visit(7)
    net.pass_time(10)
    net.down = {"a"}
    net.cut = set()
    net.pass_time(3)
    assert not c.visit(7)


def test_while_all_arrives_nothing_is_asked() -> None:
    net = network("a", "b", "c")
    net.pass_time(2)
    for viewer in range(300):
        net.source.choice(list(net.places.values())).visit(viewer)
        net.pass_time(0.1)
    assert net.questions <= 2
    assert sum(len(page.seen) for page in net.pages) == 0


def test_the_window_goes_on_from_the_visit_that_counted() -> None:
    net = network("a", "b", window=60)
    a, b = net.places.values()
    net.pass_time(1)
    net.cut = {"a"}
    begun = net.now
    assert a.visit(7)
    net.pass_time(30)
    net.cut = set()
    net.pass_time(3)
    assert not b.visit(7)
    net.pass_time(begun + 59 - net.now)
    assert not b.visit(7)
    net.pass_time(2)
    assert b.visit(7)


def test_an_age_of_a_day_is_told_as_it_is() -> None:
    """A delta has 16 bits for it, which are less than two hours."""
    one, other = Recent(86_400, writer=1), Recent(86_400, writer=2)
    assert one.take(7, (), 1_000.0)
    one.tell(7)
    one.told(1_000.0)
    late = 1_000.0 + 80_000
    question = other.heard_places("one", "one", one.places(), 5.0)
    assert question is not None
    page = one.answer(question, late)
    assert page is not None
    other.answered(page, "one", 5.0)
    assert other.has(7, (), 5.0 + 6_390), "also where the clock began after the visit"
    assert not other.has(7, (), 5.0 + 6_401)
    third = Recent(86_400, writer=3)
    question = third.heard_places("other", "other", other.places(), 90_000.0)
    assert question is not None
    page = other.answer(question, 6_000.0)
    assert page is not None
    third.answered(page, "other", 90_000.0)
    assert third.has(7, (), 90_000 + 390)
    assert not third.has(7, (), 90_000 + 410)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_lost_repeated_late_split_or_killed_all_know_the_same_in_the_end(
    seed: int,
) -> None:
    net = network("a", "b", "c", "d", seed=seed, loss=0.3)
    counted: set[int] = set()
    names = list(net.places)
    for viewer in range(200):
        name = net.source.choice(names)
        if name not in net.down and net.places[name].visit(viewer):
            counted.add(viewer)
        net.pass_time(0.2)
        if viewer % 20 == 10:
            net.cut = set(net.source.sample(names, 2)) if not net.cut else set()
        if viewer % 50 == 30:
            # Once it has told what it counted: what nobody has heard is gone.
            net.loss, net.cut = 0.0, set()
            net.pass_time(8)
            net.places[net.source.choice(names)].start()
            net.loss = 0.3
    net.cut = set()
    net.pass_time(60)
    for place in net.places.values():
        missing = [viewer for viewer in counted if not place.recent.has(viewer, (), net.now)]
        assert missing == []
    pages = len(net.pages)
    net.loss = 0.0
    net.pass_time(10)
    net.pages.clear()
    net.pass_time(30)
    assert net.pages == [], f"after {pages} pages there is nothing to ask for"


def known(recent: Recent) -> list[int]:
    return [viewer for viewer in range(10) if recent.has(viewer, (), 1_000.0)]


def test_a_page_that_was_not_asked_for_is_dropped() -> None:
    recent = Recent(60, writer=1)
    page = SeenPage(9, 0, 1, ENTRY.pack(7, 0))
    assert recent.answered(page, "peer", 1_000.0) is None
    assert known(recent) == []
    asked = recent.heard_places("peer", "peer", {9: 1}, 1_000.0)
    assert asked == SeenRequest(9, 0)
    for wrong, address in (
        (page, "another"),
        (SeenPage(8, 0, 1, page.seen), "peer"),
        (SeenPage(9, 1, 2, page.seen), "peer"),
        (SeenPage(9, 0, 0, page.seen), "peer"),
    ):
        assert recent.answered(wrong, address, 1_000.0) is None
        assert known(recent) == []
    recent.answered(page, "peer", 1_000.0)
    assert known(recent) == [7]
    again = SeenPage(9, 0, 2, ENTRY.pack(8, 0))
    assert recent.answered(again, "peer", 1_000.0) is None
    assert known(recent) == [7], "nor a second time"


def test_junk_in_a_page_is_no_viewer() -> None:
    recent = Recent(60, writer=1)
    recent.heard_places("peer", "peer", {9: 5}, 1_000.0)
    old = ENTRY.pack(7, 2**32 - 1) + ENTRY.pack(8, 600) + ENTRY.pack(6, 0) + b"junk"
    recent.answered(SeenPage(9, 0, 2**53, old), "peer", 1_000.0)
    assert known(recent) == [6]


def test_one_page_is_under_way_at_most_and_one_that_is_lost_is_asked_for_again() -> None:
    recent = Recent(60, writer=1)
    assert recent.heard_places("x", "x", {9: 1}, 1_000.0) is not None
    assert recent.heard_places("y", "y", {9: 1, 8: 1}, 1_000.5) is None
    assert recent.heard_places("y", "y", {9: 1, 8: 1}, 1_001.5) is None
    assert recent.heard_places("y", "y", {9: 1, 8: 1}, 1_003.5) == SeenRequest(9, 0)


def test_a_delta_that_a_report_has_overtaken_is_not_asked_for() -> None:
    one, other = Recent(60, writer=1), Recent(60, writer=2)
    other.heard_places("one", "one", {}, 1_000.0)
    one.take(7, (), 1_000.0)
    one.tell(7)
    told = one.told(1_000.0)
    assert other.heard_places("one", "one", one.places(), 1_001.0) is None
    other.heard(told, 1_001.0, one.told_from(told))
    assert other.heard_places("one", "one", one.places(), 1_002.0) is None
    one.take(8, (), 1_002.0)
    one.tell(8)
    one.told(1_002.0)
    assert other.heard_places("one", "one", one.places(), 1_003.0) is None
    assert other.heard_places("one", "one", one.places(), 1_004.0) == SeenRequest(1, 1)


def test_what_is_kept_for_others_is_bounded_and_forgotten_with_its_window() -> None:
    recent = Recent(60, most=1_000, writer=1)
    for writer in range(2_000):
        recent.heard(bytes(8) + b"\0\0", 1_000.0, (writer + 2, 0))
    assert len(recent._repairs._logs) <= 1_000
    for viewer in range(3_000):
        recent.take(viewer, (), 1_001.0)
        recent.tell(viewer)
    recent.told(1_001.0)
    recent.forget(1_001.0)
    assert len(recent._repairs) <= 1_000
    recent.forget(1_061.2)
    assert len(recent._repairs) == 0
    assert recent.places() == {}


@pytest.mark.alone
def test_many_viewers_come_in_short_steps() -> None:
    number = 200_000
    one, other = Recent(86_400, writer=1), Recent(86_400, writer=2)
    for viewer in range(number):
        one.take(viewer * 0x9E3779B97F4A7C15 % 2**64, (), 1_000.0 + viewer / 100)
        one.tell(viewer * 0x9E3779B97F4A7C15 % 2**64)
        if viewer % 3_000 == 0:
            one.told(1_000.0 + viewer / 100)
    now = 1_000.0 + number / 100
    one.told(now)
    question = other.heard_places("one", "one", one.places(), now)
    steps = []
    while question is not None:
        since = time.thread_time()
        page = one.answer(question, now)
        steps.append(time.thread_time() - since)
        assert page is not None
        since = time.thread_time()
        question = other.answered(page, "one", now)
        steps.append(time.thread_time() - since)
    steps.sort()
    print(
        f"in all {sum(steps):.2f} s in {len(steps)} steps, "
        f"99 in 100 below {1000 * steps[-len(steps) // 100]:.2f} ms, most {1000 * steps[-1]:.2f}"
    )
    assert len(other) == len(one)
    assert steps[-len(steps) // 100] < 0.005


# -- real nodes


def test_a_visit_on_one_side_of_a_split_is_a_repeat_everywhere_when_it_is_healed(
    nodes: list[Node],
) -> None:
    before = metric(nodes[0], "counter_recent_viewers")
    post(nodes[0].url, "/dev/cut")
    assert all(counts(nodes[0], "/video/split", f"10.1.0.{viewer}") for viewer in range(20))
    assert all(counts(nodes[1], "/video/split", f"10.2.0.{viewer}") for viewer in range(20))
    until(
        lambda: metric(nodes[2], "counter_recent_viewers") == before + 20, 5, "the third has heard"
    )
    assert metric(nodes[0], "counter_recent_viewers") == before + 20
    post(nodes[0].url, "/dev/heal")
    all_know(nodes, before + 40)
    for node in nodes:
        for viewer in range(20):
            assert not counts(node, "/video/split", f"10.1.0.{viewer}")
            assert not counts(node, "/video/split", f"10.2.0.{viewer}")


def test_a_node_that_was_killed_knows_its_viewers_and_others_when_it_starts_again(
    nodes: list[Node],
) -> None:
    before = metric(nodes[0], "counter_recent_viewers")
    assert all(counts(nodes[1], "/video/again", f"10.1.0.{viewer}") for viewer in range(20))
    all_know(nodes, before + 20)
    nodes[1].kill()
    assert all(counts(nodes[0], "/video/again", f"10.2.0.{viewer}") for viewer in range(20))
    nodes[1].start()
    nodes[1].wait_ready()
    all_know(nodes, before + 40)
    for viewer in range(20):
        assert not counts(nodes[1], "/video/again", f"10.1.0.{viewer}")
        assert not counts(nodes[1], "/video/again", f"10.2.0.{viewer}")


def test_a_node_without_a_window_beside_them_asks_and_drops_nothing(
    nodes: list[Node], tmp_path: Path, stack: ExitStack
) -> None:
    settings = {"CLUSTER_SECRET": SECRET, "PEERS": nodes[0].url, "DRAIN_TIME": "0"}
    without = Node(tmp_path / "without", "without", settings=settings)
    start(stack, [without], killed=True)
    before = metric(nodes[0], "counter_recent_viewers")
    assert counts(nodes[0], "/video/without")
    all_know(nodes, before + 1)
    assert counts(without, "/video/without")
    assert metric(without, "counter_recent_viewers") == 0
    for node in (*nodes, without):
        assert not re.search("message.dropped|entry.refused", node.log.read_text())
