"""Wall clocks that step, and that differ: the rules, and real nodes under clocks that tests set."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import simple_websocket.ws

from app import create_app
from counter.config import Config
from counter.crdt.ids import encode_id
from counter.node.schedule import Schedule
from counter.protocol.clocks import Clocks
from counter.protocol.messages import Envelope, RejectedError, ReportRequest, decode, encode
from lab.clients import Books, Client, Traffic, agree, counted, fetch, until
from lab.clock import DAY, HOUR, MINUTE, STEPS, Clock, ClockedNode
from lab.cluster import Cluster, complaints
from lab.servers import RabbitMQ

SETTINGS = {"SYNC_INTERVAL": "0.3", "DRAIN_TIME": "0.1", "JOIN_TIMEOUT": "1"}
SECRET = "only-for-tests-0123456789"

# -- the rules, without any node

WALL = 1_800_000_000.0
"""What the wall clock of the node shows when its other clock is 0."""
TTL, SILENCE = 30.0, 3.0


def replica(name: str, run: int = 1) -> str:
    return f"{name}~{encode_id(ord(name), 13)}.{encode_id(run, 23)}"


def member(name: str) -> str:
    return replica(name).partition(".")[0]


class Heard:
    """Clocks under test, and messages of other nodes that come in step with these."""

    def __init__(self) -> None:
        self.clocks = Clocks(TTL, SILENCE)
        self.now = 0.0
        self.ahead = 0.0
        """Of this node's own clock."""

    @property
    def wall(self) -> float:
        return WALL + self.ahead + self.now

    def hear(self, name: str, ahead: float, *, run: int = 1, late: float = 0.0) -> None:
        """A message of a node whose clock is so much ahead of the right time."""
        self.get(replica(name, run), WALL + self.now + ahead - late)

    def get(self, sender: str, sent: float) -> None:
        """A message, as `decode` sorts it."""
        if abs(sent - self.wall) <= TTL:
            self.clocks.take(sender, sent, self.now)
        else:
            self.clocks.refuse(sender, sent, self.now)

    def hear_for(self, seconds: float, **ahead: float) -> None:
        """Messages of several nodes, each of them three times a second."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1 / 3
            for name in ahead:
                self.hear(name, ahead[name])

    def differing(self) -> dict[str, int]:
        return {
            member.partition("~")[0]: round(seconds)
            for member, seconds in self.clocks.differing(self.wall, self.now).items()
        }

    def wrong(self) -> bool:
        return self.clocks.wrong(self.wall, self.now)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 40.0, -40.0, 10 * DAY])
def test_a_clock_that_is_off_is_told_and_by_how_much(heard: Heard, ahead: float) -> None:
    heard.hear_for(2, a=ahead)
    assert heard.differing() == {"a": ahead}
    differences = heard.clocks.differences(heard.wall, heard.now)
    assert {key: round(value) for key, value in differences.items()} == {member("a"): ahead}


@pytest.mark.parametrize("ahead", [0.0, 25.0, -25.0])
def test_a_clock_that_is_off_by_less_is_in_step(heard: Heard, ahead: float) -> None:
    heard.hear_for(10, a=ahead, b=ahead)
    assert heard.differing() == {}
    assert not heard.wrong()
    differences = heard.clocks.differences(heard.wall, heard.now)
    assert [round(value) for value in differences.values()] == [ahead, ahead]


def test_a_message_that_was_late_tells_nothing_of_a_clock(heard: Heard) -> None:
    heard.hear_for(2, a=0)
    heard.now += 100
    for late in range(100, 0, -1):  # what waited somewhere, all at once
        heard.hear("a", 0, late=late)
        assert heard.differing() == {}
        heard.now += 0.01
    heard.hear_for(1, a=0)
    assert heard.differing() == {}


def test_a_replay_makes_nobody_say_that_clocks_differ(heard: Heard) -> None:
    kept = []
    for _ in range(30):
        heard.now += 1 / 3
        kept.append((replica("a"), heard.wall))
        heard.hear("a", 0)
    heard.now += HOUR
    for _ in range(3):
        for message in kept:
            heard.get(*message)
            heard.now += 0.3
        assert heard.differing() == {}
    assert heard.clocks.differences(heard.wall, heard.now) == {}


def test_a_replay_of_an_earlier_run_tells_nothing(heard: Heard) -> None:
    heard.hear_for(2, a=HOUR)
    assert heard.differing()
    from_the_future = (replica("a"), heard.wall + HOUR)
    for _ in range(5):
        heard.now += 0.3
        heard.hear("a", 0, run=2)
    assert heard.differing() == {}
    for _ in range(5):
        heard.now += 0.3
        heard.get(*from_the_future)
    assert heard.differing() == {}


def test_a_replay_of_a_run_that_is_only_known_of_tells_nothing(heard: Heard) -> None:
    latest = encode_id(2, 23)
    for second in range(5):
        heard.now += 1
        heard.clocks.refuse(replica("a", 1), WALL - HOUR + second, heard.now, latest)
    assert heard.differing() == {}


def test_one_message_again_and_again_tells_nothing(heard: Heard) -> None:
    for _ in range(20):
        heard.now += 0.3
        heard.get(replica("a"), WALL - HOUR)
    assert heard.differing() == {}


def test_a_new_run_tells_that_its_clock_was_set_back(heard: Heard) -> None:
    heard.hear_for(2, a=0)
    for _ in range(5):
        heard.now += 0.3
        heard.hear("a", -2 * HOUR, run=2)
    assert heard.differing() == {"a": -2 * HOUR}


def test_a_peer_is_in_step_with_the_first_message_that_is_taken(heard: Heard) -> None:
    heard.hear_for(60, a=HOUR, b=0)
    assert heard.differing() == {"a": HOUR}
    heard.now += 0.1
    heard.hear("a", 0, run=2)
    assert heard.differing() == {}


def test_one_message_that_is_off_among_others_that_are_not_tells_nothing(heard: Heard) -> None:
    heard.hear_for(2, a=HOUR)
    heard.hear("a", 0, run=2)
    heard.now += 0.1
    heard.hear("a", HOUR, run=2)
    assert heard.differing() == {}


def test_the_own_clock_is_right_as_soon_as_it_is_set(heard: Heard) -> None:
    heard.ahead = -HOUR
    heard.hear_for(5, a=0, b=0)
    assert heard.differing() == {"a": HOUR, "b": HOUR}
    assert heard.wrong()
    heard.ahead = 0
    assert heard.differing() == {}
    assert not heard.wrong()


def test_the_own_clock_is_wrong_where_two_agree_and_none_is_in_step(heard: Heard) -> None:
    heard.hear_for(3, a=HOUR)
    assert not heard.wrong(), "one against one"
    heard.hear_for(3, a=HOUR, b=-HOUR)
    assert not heard.wrong(), "they do not agree either"
    heard.hear_for(3, a=HOUR, b=-HOUR, c=HOUR + 5)
    assert heard.wrong()
    heard.hear_for(3, a=HOUR, b=HOUR, c=0)
    assert not heard.wrong(), "one is in step"
    assert heard.differing() == {"a": HOUR, "b": HOUR}


def test_clocks_that_are_all_set_at_once_differ_from_nobodys(heard: Heard) -> None:
    heard.hear_for(3, a=0, b=0)
    heard.ahead = -2 * HOUR
    assert not heard.wrong()
    heard.hear_for(3, a=-2 * HOUR, b=-2 * HOUR)
    assert heard.differing() == {}
    assert not heard.wrong()


def test_who_says_nothing_any_more_differs_no_more(heard: Heard) -> None:
    heard.hear_for(5, a=HOUR, b=HOUR)
    assert heard.wrong()
    heard.now += SILENCE + 0.1
    assert heard.differing() == {}
    assert not heard.wrong()
    assert heard.clocks.differences(heard.wall, heard.now) == {}


def test_what_others_counted_is_unknown_while_only_clocks_that_are_off_are_heard(
    heard: Heard,
) -> None:
    assert not heard.clocks.strange(heard.now)
    heard.hear_for(1, a=HOUR)
    assert heard.clocks.strange(heard.now)
    heard.hear_for(1, a=HOUR, b=0)
    assert not heard.clocks.strange(heard.now)
    heard.hear_for(10, a=HOUR)
    assert not heard.clocks.strange(heard.now), "it was told before"


def test_who_is_refused_is_answered_once_in_a_while(heard: Heard) -> None:
    answers = 0
    for _ in range(90):
        heard.now += 1 / 3
        answers += heard.clocks.refuse(replica("a"), heard.wall + HOUR, heard.now)
    assert 8 <= answers <= 10  # 30 s, a silence being 3


def test_clocks_of_invented_members_push_out_nobody_heard(heard: Heard) -> None:
    heard.hear_for(2, a=0)
    kept = [(replica("a"), heard.wall - late) for late in (0.9, 0.6, 0.3, 0)]
    heard.now += MINUTE
    for number in range(10_000):
        heard.now += 0.001
        heard.get(f"x~{encode_id(number, 13)}.{encode_id(1, 23)}", WALL + HOUR)
    assert len(heard.clocks.differences(heard.wall, heard.now)) < 1000
    for message in kept:
        heard.now += 0.3
        heard.get(*message)
    assert "a" not in heard.differing()


def test_a_message_whose_time_is_wrong_is_verified_before_its_time_is_read() -> None:
    now = int(WALL * 1000)
    envelope = Envelope(replica("a"), "http://127.0.0.1:1", now - 3_600_000, ReportRequest())
    with pytest.raises(RejectedError, match="3600") as refused:
        decode(encode(envelope, SECRET), SECRET, now, 30_000)
    assert refused.value.reason == "clock"
    assert refused.value.envelope == envelope
    with pytest.raises(RejectedError) as refused:
        decode(encode(envelope, "another-secret-0123456789"), SECRET, now, 30_000)
    assert refused.value.reason == "signature"
    assert refused.value.envelope is None


# -- jobs


class Jobs:
    """A job that runs every 0.05 s by a clock that the test may leap ahead."""

    def __init__(self) -> None:
        self.leap = 0.0
        self.runs = 0
        self.ran = Event()
        self.schedule = Schedule(lambda: time.monotonic() + self.leap)
        self.schedule.every(0.05, self.run)

    def run(self) -> None:
        self.runs += 1
        self.ran.set()

    def await_runs(self, runs: int) -> None:
        for _ in range(runs):
            assert self.ran.wait(2)
            self.ran.clear()

    def close(self) -> None:
        self.schedule.stop()


def test_jobs_keep_their_pace() -> None:
    with closing(Jobs()) as jobs:
        start = time.monotonic()
        jobs.schedule.start()
        jobs.await_runs(10)
        assert time.monotonic() - start > 9 * 0.05, "not faster"


@pytest.mark.parametrize("days", [0.001, 10, 400])
def test_runs_that_were_missed_are_skipped_however_many(days: float) -> None:
    """As after SIGSTOP, or a machine that was asleep where its monotonic clock goes on."""
    with closing(Jobs()) as jobs:
        jobs.schedule.start()
        jobs.await_runs(2)
        cpu, runs = time.process_time(), jobs.runs
        jobs.leap = days * DAY
        jobs.await_runs(5)
        assert jobs.runs - runs < 20
        assert time.process_time() - cpu < 0.25


def test_live_pages_are_pinged_by_a_monotonic_clock() -> None:
    create_app(Config())
    assert simple_websocket.ws.time is time.monotonic


# -- real nodes


Make = Callable[..., list[ClockedNode]]


@pytest.fixture
def make(tmp_path: Path, stack: ExitStack) -> Iterator[Make]:
    made: list[ClockedNode] = []

    def make(nodes: int, *, shared: bool = False, **settings: str) -> list[ClockedNode]:
        clock = Clock(tmp_path / "clock") if shared else None

        def clocked(folder: Path, name: str, port: int, own: Mapping[str, str]) -> ClockedNode:
            made.append(ClockedNode(folder, name, port, own, clock))
            return made[-1]

        Cluster(
            tmp_path,
            stack,
            ["sqlite"] * nodes,
            known=0 if "AMQP_URI" in settings else None,
            settings=SETTINGS | {"CLUSTER_SECRET": SECRET} | settings,
            make=clocked,
            killed=True,
        )
        return made

    yield make
    assert complaints(made) == []


def metrics(node: ClockedNode, pattern: str) -> list[Any]:
    """What of a node's metrics matches."""
    with Client(node.url) as client:
        text = client.get("/metrics")[1].decode()
    return re.findall(pattern, text, re.MULTILINE)


def differences(node: ClockedNode) -> dict[str, int]:
    """By how many seconds the clocks of others are ahead, by name, as the metric says."""
    pattern = r'^counter_clock_difference_seconds\{member="([^"~]+)~[^"]+"\} (\S+)$'
    return {name: round(float(value)) for name, value in metrics(node, pattern)}


def differs(node: ClockedNode, *others: ClockedNode) -> bool:
    """Whether a node says in every way that just the clocks of these others differ."""
    names = sorted(other.name for other in others)
    shown = fetch(node.url, "/cluster")
    about = [text for text in shown["warnings"] if text.startswith("The clock of ")]
    named = sorted(text.split()[3].partition("~")[0] for text in about)
    listed = sorted(member["name"] for member in shown["clock"]["differs"])
    out = sorted(member["name"] for member in shown["members"] if member["in_step"] is False)
    return names == named == listed == out


def pause(node: ClockedNode) -> float:
    """For how long a node stood still at most since this was asked last."""
    return float(metrics(node, r"^counter_longest_pause_seconds (\S+)$")[0])


def most_memory(node: ClockedNode) -> float:
    """The most MB of memory that the node's worker process ever had."""
    worker = node.processes()[1]
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker}/status").read_text())
    return int(kilobytes) / 1024


def visit(node: ClockedNode, video: str) -> None:
    with Client(node.url) as client:
        assert client.get(f"/video/{video}")[0] == 200


def post(node: ClockedNode, key: str) -> int:
    """The status of a request with a key."""
    with Client(node.url) as client:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return client.ask("POST", "/visits", headers, b'[{"video": "keyed", "count": 1}]')[0]


def travel(source: ClockedNode, target: ClockedNode, video: str, seconds: float) -> float:
    """Make a visit at one node, and wait until the other shows one more; how long that took."""
    before = counted(target.url, [video])[video]
    visit(source, video)
    return until(
        lambda: counted(target.url, [video])[video] > before,
        seconds,
        f"a visit at {source.name} is shown by {target.name}",
    )


@pytest.mark.alone
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_nodes_go_on_whatever_their_clocks_are_set_to(
    make: Make, store: str, request: pytest.FixtureRequest
) -> None:
    settings = {}
    if store == "redis":
        settings["REDIS_URI"] = request.getfixturevalue("redis_server").uri
    one, two = make(2, shared=True, **settings)
    travel(one, two, "cats", 5)
    before = most_memory(one)
    pause(one)
    for seconds in STEPS:
        one.clock.step(seconds)
        took = max(travel(one, two, "cats", 2), travel(two, one, "cats", 2))
        longest = pause(one)
        print(f"{store} {seconds:+.0f} s: travel {took:.2f} s, pause {longest:.3f} s")
        assert fetch(one.url, "/cluster")["store"]["up"]
        assert longest < 0.25, f"{seconds:+.0f} s"
        assert most_memory(one) < before + 10
    assert differs(one)
    assert differs(two)


@pytest.mark.parametrize("seconds", [-20.0, 20.0])
def test_a_small_step_of_one_node_is_nothing(make: Make, seconds: float) -> None:
    one, two = make(2)
    one.clock.step(seconds)
    for _ in range(3):
        travel(one, two, "cats", 2)
        travel(two, one, "cats", 2)
    until(lambda: differences(two) == {one.name: seconds}, 3, "the difference is measured")
    assert differs(one)
    assert differs(two)


@pytest.mark.parametrize(
    "seconds",
    [
        -2 * HOUR,
        pytest.param(2 * HOUR, marks=pytest.mark.proof),
        pytest.param(10 * DAY, marks=pytest.mark.proof),
    ],
)
def test_two_nodes_whose_clocks_differ_both_say_so_and_count_on(make: Make, seconds: float) -> None:
    one, two = make(2)
    travel(one, two, "cats", 5)
    assert one.stop() == 0
    one.clock.step(seconds)
    one.start()
    until(lambda: differs(one, two) and differs(two, one), 5, "both say so")
    assert differences(one) == {two.name: -seconds}
    assert differences(two) == {one.name: seconds}
    for node in (one, two):
        node.wait_ready()  # who is right?
        visit(node, "cats")
        until(partial(_logged, node, "clock.differs "), 3, "the log says so")
    assert post(one, "early") == 503, "it has not heard which keys were counted"
    assert any("Idempotency-Key" in text for text in fetch(one.url, "/cluster")["warnings"])
    assert not any("Idempotency-Key" in text for text in fetch(two.url, "/cluster")["warnings"])
    assert post(two, "early") == 200
    one.clock.set(0)
    until(lambda: not differences(one)[two.name] and differs(one) and differs(two), 1, "ok")
    until(lambda: all(counted(n.url, ["cats"])["cats"] == 3 for n in (one, two)), 1, "3")
    until(lambda: post(one, "early") == 200, 3, "keys are taken again")
    until(lambda: counted(two.url, ["keyed"])["keyed"] == 1, 3, "and known")
    assert one.running()


@pytest.mark.parametrize(
    "seconds",
    [
        2 * HOUR,
        pytest.param(-2 * HOUR, marks=pytest.mark.proof),
        pytest.param(10 * DAY, marks=pytest.mark.proof),
        pytest.param(-10 * DAY, marks=pytest.mark.proof),
    ],
)
def test_a_clock_that_is_set_while_the_node_runs_is_told_on_both_sides(
    make: Make, seconds: float
) -> None:
    one, two = make(2)
    travel(one, two, "cats", 5)
    one.clock.step(seconds)
    took = until(lambda: differs(one, two) and differs(two, one), 5, "both say so")
    visit(one, "cats")
    visit(two, "cats")
    one.clock.set(0)
    right = until(
        lambda: all(differs(n) and counted(n.url, ["cats"])["cats"] == 3 for n in (one, two)),
        1,
        "both hear each other",
    )
    print(f"{seconds:+.0f} s: said after {took:.2f} s, in step after {right:.2f} s")

    def runs() -> int:
        return len(set(re.findall(r"replica=(\S+)", one.log.read_text())))

    until(lambda: runs() == 3, 3, "a run whose date is wrong ends")


@pytest.mark.proof
def test_clocks_that_differ_are_told_over_a_broker_as_well(
    make: Make, rabbitmq_server: RabbitMQ
) -> None:
    one, two = make(2, AMQP_URI=rabbitmq_server.uri)
    travel(one, two, "cats", 5)
    for seconds in (2 * HOUR, -2 * HOUR):
        one.clock.step(seconds)
        until(lambda: differs(one, two) and differs(two, one), 5, "both say so")
        one.clock.set(0)
        until(lambda: differs(one) and differs(two), 5, "both hear each other")
        travel(one, two, "cats", 2)


@pytest.mark.alone
def test_the_node_whose_clock_is_set_is_not_ready_until_it_is_right(make: Make) -> None:
    one, two, three = make(3)
    nodes, books = [one, two, three], Books()
    with Traffic([node.url for node in nodes], books, videos=5, pause=0.02) as traffic:
        traffic.more(50)
        for seconds in (2 * HOUR, -2 * HOUR):
            one.clock.step(seconds)
            until(lambda: differs(one, two, three), 5, "it says so")
            until(lambda: not one.ready(), 2, "it is not ready")
            shown = fetch(one.url, "/cluster")
            assert shown["clock"]["wrong"]
            assert shown["warnings"][0].startswith("This node's clock is wrong")
            assert two.ready()
            assert three.ready()
            traffic.more(50)
            one.clock.set(0)
            assert until(one.ready, 5, "it is ready again") < 1.0
            until(lambda: differs(one) and differs(two) and differs(three), 2, "nobody differs")
        traffic.stop()
    agree([node.url for node in nodes], books, 5)
    assert books.refused.total() == 0


def test_a_node_that_starts_with_a_wrong_clock_is_not_ready_alone(
    make: Make, tmp_path: Path
) -> None:
    one, two, three = make(3)
    beacons = tmp_path / "counter1.log"
    one.settings["VISIT_LOG"] = str(beacons)
    travel(one, two, "cats", 5)
    for number, seconds in enumerate((10 * DAY, -10 * DAY), 1):
        one.kill()
        with beacons.open("a") as file:
            file.write(f"1700000000.000 1.{number} cats\n")
        one.clock.set(seconds)
        one.start()
        until(lambda: differs(one, two, three), 5, "it says so")
        until(lambda: differs(two, one) and differs(three, one), 3, "they say so")
        until(lambda: fetch(one.url, "/cluster")["state"] == "ready", 5, "it has waited")
        assert not one.ready()
        visit(one, "cats")
        assert fetch(one.url, "/cluster")["log"]["unread"], "others may have counted these lines"
        one.clock.set(0)
        until(one.ready, 1, "it is ready")
        until(lambda: differs(one) and differs(two) and differs(three), 2, "nobody differs")
        until(lambda: not fetch(one.url, "/cluster")["log"]["unread"], 2, "the log is read")
    until(lambda: all(counted(n.url, ["cats"])["cats"] == 5 for n in (one, two, three)), 3, "5")


def test_a_node_learns_that_its_clock_differs_from_who_did_not_know_its_address(
    tmp_path: Path, stack: ExitStack
) -> None:
    first = ClockedNode(tmp_path / "first", "first", settings=SETTINGS | {"CLUSTER_SECRET": SECRET})
    peers = {"PEERS": first.url, "CLUSTER_SECRET": SECRET}
    second = ClockedNode(tmp_path / "second", "second", settings=SETTINGS | peers)
    for node in (first, second):
        stack.callback(node.kill)
    second.clock.set(HOUR)
    first.start()
    second.start()

    def said(node: ClockedNode, other: ClockedNode) -> bool:
        clock = fetch(node.url, "/cluster")["clock"]
        return [each["name"] for each in clock["differs"]] == [other.name]

    until(lambda: said(first, second) and said(second, first), 5, "both say so")


def test_a_replay_does_not_make_a_node_say_that_clocks_differ(make: Make) -> None:
    one, two = make(2)
    travel(two, one, "cats", 5)
    shown = fetch(one.url, "/cluster")
    known = next(member["member"] for member in shown["members"] if not member["self"])
    old = int((time.time() - HOUR) * 1000)
    headers = {"Content-Type": "application/octet-stream"}
    for secret, run in ((SECRET, 1), ("another-secret-0123456789", 2**110)):
        for number in range(10):
            sender = f"{known}.{encode_id(run, 23)}"
            message = encode(Envelope(sender, two.url, old + number, ReportRequest()), secret)
            with Client(one.url) as client:
                assert client.ask("POST", "/mesh", headers, message)[0] == 403
            travel(two, one, "cats", 2)
            assert differs(one)


def test_a_node_that_stops_while_its_clock_is_set_hands_over_as_ever(make: Make) -> None:
    one, two, three = make(3, DRAIN_TIME="1")
    with ThreadPoolExecutor(3) as pool:
        for node, seconds in ((one, 10 * DAY), (two, -2 * HOUR)):
            visit(node, "cats")
            stopped = pool.submit(node.stop)
            until(partial(_logged, node, "drain "), 3, "it drains")
            node.clock.step(seconds)
            assert stopped.result() == 0
            assert re.search(r"stop unflushed=0", node.log.read_text())
    for node in (one, two):
        node.clock.set(0)
        node.start()
    until(lambda: counted(three.url, ["cats"])["cats"] == 2, 5, "nothing is lost")


def _logged(node: ClockedNode, words: str) -> bool:
    return words in node.log.read_text()
