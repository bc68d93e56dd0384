"""Viewers: sketches are a CRDT, and every node finds the ones that it missed."""

import random
from collections.abc import Callable, Iterable
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.sketch import Sketch
from counter.crdt.sketch_bytes import HEAD, LONGEST, identity_of, is_sound
from counter.node.salts import DAY, Salts
from counter.node.sketches import Sketches
from counter.protocol.messages import Body, Envelope, Report, decode, encode
from counter.protocol.sketch_messages import SketchesPage, SketchesRequest
from counter.store.memory import MemoryStore

TODAY = 20_000
SENDER = "{}~7q2m9f2ck3x8a.01j0000000000000000{:04}"

viewers = st.lists(st.integers(0, 2**64 - 1), max_size=600)


def sketch(viewers: Iterable[int]) -> Sketch:
    made = Sketch()
    for viewer in viewers:
        made.add(viewer)
    return made


def many(number: int, seed: int = 0) -> list[int]:
    source = random.Random(seed)
    return [source.getrandbits(64) for _ in range(number)]


def joined(*parts: Sketch) -> Sketch:
    whole = Sketch()
    for part in parts:
        whole.join(part.encoded())
    return whole


def held(of: Sketch) -> tuple[int, int]:
    return identity_of(of.encoded()), of.estimate()


# -- the law


@given(viewers, viewers, viewers)
def test_the_merge_of_sketches_is_a_join(one: list[int], two: list[int], three: list[int]) -> None:
    a, b, c = sketch(one), sketch(two), sketch(three)
    assert held(joined(a, b)) == held(joined(b, a)), "commutative"
    assert held(joined(joined(a, b), c)) == held(joined(a, joined(b, c))), "associative"
    assert held(joined(a, a)) == held(a), "idempotent"
    assert held(joined(a, b, c)) == held(sketch([*one, *two, *three])), "and what is added, joined"


@pytest.mark.parametrize("number", [1, 7, 8, 99, 384, 385, 386, 1_000, 50_000])
def test_an_estimate_depends_on_who_has_watched_and_on_nothing_else(number: int) -> None:
    """The library's own estimate does: it goes by the order in which a sketch was filled."""
    everybody = many(number)
    parts = [sketch(everybody[at::7]) for at in range(7)]
    added, merged = sketch(everybody), joined(*reversed(parts), *parts)
    assert held(added) == held(merged)
    merged.add(everybody[0])
    assert held(sketch(reversed(everybody))) == held(merged)


def test_up_to_a_hundred_viewers_the_estimate_is_exact() -> None:
    for number in range(101):
        for seed in range(20):
            assert sketch(many(number, seed)).estimate() == number


def test_a_sketch_takes_few_bytes_while_small_and_never_more_than_its_bound() -> None:
    assert len(sketch(many(3)).encoded()) <= 32
    assert len(sketch(many(90)).encoded()) <= 400
    sizes = [len(sketch(many(number)).encoded()) for number in (384, 385, 100_000, 1_000_000)]
    assert max(sizes) <= LONGEST <= 2.2 * 1024


@pytest.mark.proof
def test_the_error_at_100_000_viewers_is_at_most_1_8_percent() -> None:
    """Root mean square over 60 salts, as a visitor's address and agent are hashed."""
    from counter.config import Config
    from counter.node.viewers import Person, Viewers

    errors = []
    for number in range(60):
        hashes = Viewers(Config(cluster_secret=f"secret number {number}"))
        people = (Person(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", "F") for i in range(100_000))
        estimate = sketch(hashes.viewer("cats", one).today for one in people).estimate()
        errors.append(estimate / 100_000 - 1)
    error = sqrt(sum(one * one for one in errors) / len(errors))
    print(f"root mean square error at 100,000 viewers over 60 salts: {error:.2%}")
    assert error <= 0.018


@given(st.integers(0, 3), st.data())
def test_a_damaged_sketch_is_found_before_it_is_read(kind: int, data: st.DataObject) -> None:
    right = sketch(many((3, 50, 400, 5_000)[kind])).encoded()
    at = data.draw(st.integers(0, 8 * len(right) - 1))
    wrong = bytearray(right)
    wrong[at // 8] ^= 1 << at % 8
    assert is_sound(right)
    assert not is_sound(bytes(wrong))
    for junk in (bytes(wrong), right[:-1], right + b"x", b"", b"\0" * 40):
        with pytest.raises(ValueError, match="sketch"):
            Sketch().join(junk)


# -- nodes


class Place:
    """A node's sketches on a store in memory, in virtual time; nothing arrives but by `Network`."""

    def __init__(self, network: "Network", name: str) -> None:
        self.network, self.name, self.store = network, name, MemoryStore()
        self.store.open(name, lambda: "7q2m9f2ck3x8a")
        self.store.begin(SENDER.format(name, 0), {})
        self.run = 0
        network.places[name] = self
        self.start()

    def start(self) -> None:
        """Start, or start again after a kill: the memory is lost."""
        self.run += 1
        self.sketches = Sketches(
            Salts("a secret"),
            keep=3,
            sync_interval=1.0,
            wake=lambda: None,
            clock=lambda: self.network.now,
            wall=lambda: TODAY * DAY + self.network.now,
        )
        self.sketches.opened(self.store.known().facts)

    def flush(self, *, fails: bool = False) -> None:
        beside = self.sketches.batch(self.store)
        if fails:
            self.sketches.not_stored()
            return
        self.store.write({}, facts=beside.facts, sketches=beside.sketches, oldest=beside.oldest)
        self.sketches.stored()

    def report(self) -> None:
        days, parts = self.sketches.told(self.network.now, self.send)
        for part in parts or [{}]:
            self.network.send(
                self.name, "", Report("ready", {}, {}, None, days_of_sketches=days, sketches=part)
            )

    def send(self, address: str, body: Body) -> None:
        self.network.send(self.name, address, body)

    def receive(self, envelope: Envelope) -> None:
        body, now = envelope.body, self.network.now
        if isinstance(body, Report):
            self.sketches.heard(envelope.sender, envelope.address, body, now)
        elif isinstance(body, SketchesRequest):
            self.sketches.asked(body, envelope.address, self.send)
        elif isinstance(body, SketchesPage):
            self.sketches.answered(body, envelope.address, self.send, now)

    def held(self) -> dict[tuple[int, str], int]:
        return {
            (day, video): identity_of(sketch)
            for day, kept in self.store.days.items()
            for video, (_, sketch) in kept.items()
        }


class Network:
    """Loses and repeats as it is told; `cut` are those that nothing reaches."""

    def __init__(self, loses: float = 0.0, seed: int = 0) -> None:
        self.now = 1_000.0
        self.places: dict[str, Place] = {}
        self.cut: set[str] = set()
        self.loses = loses
        self.repeats = True
        self.bytes = 0
        self.sketches = 0
        self._random = random.Random(seed)

    def send(self, source: str, target: str, body: Body) -> None:
        run = self.places[source].run
        message = encode(Envelope(SENDER.format(source, run), source, 1, body), None)
        for name, place in self.places.items():
            if name == source or (target and name != target) or {name, source} & self.cut:
                continue
            for _ in range(self._random.choice((1, 1, 2)) if self.repeats else 1):
                if self._random.random() >= self.loses:
                    self.bytes += len(message)
                    told = decode(message, None, 1, 30_000)
                    if isinstance(told.body, SketchesPage):
                        self.sketches += len(told.body.sketches)
                    place.receive(told)

    def run(self, seconds: float, happens: Callable[[], None] = lambda: None) -> None:
        for tick in range(round(seconds * 5)):
            self.now += 0.2
            happens()
            for place in list(self.places.values()):
                place.flush()
                if tick % 5 == 0:
                    place.report()

    def agree(self) -> bool:
        all_held = [place.held() for place in self.places.values()]
        return all(held == all_held[0] for held in all_held)


def cluster(count: int = 3, **settings: float) -> tuple[Network, list[Place]]:
    network = Network(**settings)  # type: ignore[arg-type] # the seed is an integer
    return network, [Place(network, f"node{number}") for number in range(count)]


def test_all_nodes_hold_the_same_after_what_was_told_has_arrived() -> None:
    network, places = cluster()
    for number, viewer in enumerate(many(900)):
        places[number % 3].sketches.add(TODAY, f"video-{number % 30}", viewer)
    network.run(6)
    assert network.agree()
    assert network.sketches == 0, "nobody had to ask"
    estimates = {place.sketches.estimate(TODAY, "video-7") for place in places}
    assert estimates == {30}


@pytest.mark.parametrize("seed", range(8))
def test_what_was_lost_on_the_way_is_found_by_the_digests(seed: int) -> None:
    network, places = cluster(loses=0.3, seed=seed)
    source = random.Random(seed)

    def visits() -> None:
        for _ in range(20):
            place = places[source.randrange(3)]
            place.sketches.add(TODAY, f"video-{source.randrange(40)}", source.getrandbits(64))

    network.run(20, visits)
    network.loses = 0.0
    network.run(30)
    assert network.agree()
    assert len(places[0].held()) == 40


def test_a_lost_report_is_found_while_viewers_go_on_coming() -> None:
    network, places = cluster(2)
    network.cut = {"node1"}
    places[0].sketches.add(TODAY, "missed", 77)
    network.run(3)
    network.cut = set()
    source = random.Random(1)
    # A node that was silent for so short is not taken for a new one.
    network.run(60, lambda: places[0].sketches.add(TODAY, "busy", source.getrandbits(64)))
    assert (TODAY, "missed") in places[1].held()


def test_a_late_joiner_gets_everything_and_no_more_than_that() -> None:
    network, places = cluster(2)
    for day in (TODAY - 2, TODAY - 1, TODAY):
        for number, viewer in enumerate(many(200)):
            places[number % 2].sketches.add(day, f"video-{number % 100}", viewer)
    network.run(10)
    network.repeats = False
    late = Place(network, "late")
    network.run(40)
    assert network.agree()
    assert len(late.held()) == 300
    assert network.sketches == 300, "each of them once"
    network.bytes = 0
    network.run(10)
    assert network.sketches == 300, "silent again"
    assert network.bytes < 6 * 10 * 150, "but for its reports"


def test_no_more_travels_than_what_differs() -> None:
    network, places = cluster(2)
    for number in range(500):
        places[0].sketches.add(TODAY, f"video-{number}", number)
    network.run(20)
    network.cut = {"node1"}
    places[0].sketches.add(TODAY, "video-7", 1_000_001)
    network.run(3)
    network.cut, network.sketches, network.repeats = set(), 0, False
    network.run(10)
    assert network.agree()
    assert 1 <= network.sketches <= 2, "of 500: what one has of it, and what the other has"


def test_a_node_that_was_killed_holds_what_it_had_written() -> None:
    network, places = cluster(2)
    network.cut = {"node0", "node1"}
    for viewer in range(50):
        places[0].sketches.add(TODAY, "cats", viewer)
    network.run(2)
    places[0].start()
    places[0].flush()
    network.cut = set()
    network.run(10)
    assert network.agree()
    assert (TODAY, "cats") in places[1].held()


def test_what_was_not_stored_is_written_again_and_told_only_then() -> None:
    network, places = cluster(2)
    places[0].sketches.add(TODAY, "cats", 7)
    network.now += 2
    places[0].flush(fails=True)
    places[0].report()
    places[1].flush()
    assert places[1].held() == {}, "it is not told what no store holds"
    network.run(6)
    assert network.agree()
    assert (TODAY, "cats") in places[1].held()


def test_a_store_that_lost_something_gets_it_back() -> None:
    network, places = cluster(2)
    for number in range(30):
        places[0].sketches.add(TODAY, f"video-{number}", number)
    network.run(5)
    for place in places:
        place.store.days, place.store.facts = {}, {}
        place.sketches.forgot({})
    network.run(5)
    assert network.agree()
    assert len(places[0].held()) == 30, "from memory"
    places[0].store.days, places[0].store.facts = {}, {}
    places[0].start()
    network.run(10)
    assert len(places[0].held()) == 30, "from its peer"


def test_a_damaged_sketch_comes_back_from_a_peer() -> None:
    network, places = cluster(2)
    places[0].sketches.add(TODAY, "cats", 1)
    network.run(5)
    head, kept = places[0].store.days[TODAY]["cats"]
    places[0].store.days[TODAY]["cats"] = head, kept[:-1] + bytes([kept[-1] ^ 1])
    places[0].start()
    places[0].sketches.add(TODAY, "cats", 2)
    network.run(20)
    assert places[0].sketches.damaged == 1
    assert network.agree()
    assert places[0].sketches.estimate(TODAY, "cats") == 2


def test_junk_from_a_peer_is_left_out() -> None:
    network, places = cluster(2)
    report = Report("ready", {}, {}, None, sketches={TODAY: {"cats": b"junk", "dogs": b"\0" * 99}})
    network.send("node1", "node0", report)
    network.run(3)
    assert places[0].sketches.damaged >= 2
    assert places[0].sketches.estimate(TODAY, "cats") == 0


def test_days_are_forgotten_after_they_were_kept() -> None:
    network, places = cluster(2)
    places[0].sketches.add(TODAY, "cats", 1)
    network.run(5)
    assert (TODAY, "cats") in places[1].held()
    network.now += 3 * DAY
    places[0].sketches.add(TODAY + 3, "dogs", 1)
    network.run(20)
    for place in places:
        assert set(place.held()) == {(TODAY + 3, "dogs")}
        assert [name for name in place.store.facts if str(TODAY) in name] == []


def test_only_the_sketches_used_lately_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counter.node.sketch_cache._IN_MEMORY", 10)
    network, places = cluster(1)
    for number in range(100):
        places[0].sketches.add(TODAY, f"video-{number}", number)
    network.run(3)
    assert places[0].sketches.in_memory <= 10
    places[0].sketches.add(TODAY, "video-3", 1_000)
    network.run(3)
    assert places[0].sketches.in_memory <= 10
    found = places[0].store.sketches(TODAY, ["video-3"])["video-3"]
    whole = Sketch()
    whole.join(found)
    assert whole.estimate() == 2
    assert found[:HEAD] == places[0].store.heads(TODAY)["video-3"]


def test_many_sketches_go_out_with_several_reports() -> None:
    network, places = cluster(2)
    for number in range(300):
        for viewer in many(400, number):
            places[0].sketches.add(TODAY, f"video-{number}", viewer)
    network.now += 2
    places[0].flush()
    _, parts = places[0].sketches.told(network.now, places[0].send)
    told = [video for part in parts for kept in part.values() for video in kept]
    assert len(told) == 64
    assert len(parts) > 1
    for part in parts:
        message = encode(
            Envelope(
                SENDER.format("node0", 1), "", 1, Report("ready", {}, {}, None, sketches=part)
            ),
            "a secret of nodes",
        )
        assert len(message) <= 64 * 1024
