"""A blocked video takes no visits: also of those who ask while a node starts."""

import json
import threading
from collections import Counter
from http.client import HTTPException
from pathlib import Path

import pytest
from click.testing import CliRunner

from counter.cli.visits import visits as imports
from counter.crdt.ids import CLASSES, class_key
from counter.node.counting import BlockedError
from counter.node.outcomes import Reasons, marked
from counter.protocol.records import Record
from counter.store.memory import MemoryStore
from counter.web.results import Results
from lab.clients import fetch, metric, until
from lab.servers import Node
from tests.agents import CRAWLERS
from tests.kept import Kept, running
from tests.nodes import mesh
from tests.test_corrections import TOKEN, correct
from tests.test_counting import counting_of
from tests.test_http import Answer, ask, get

SETTINGS = {"ADMIN_TOKEN": TOKEN, "PUBLISH_INTERVAL": "0.05", "SYNC_INTERVAL": "0.3"}
_WAITING = 24


def batch(node: Node, counts: dict[str, int], key: str = "", agent: str = "") -> Answer:
    headers = {"Content-Type": "application/json", "User-Agent": agent}
    headers |= {"Idempotency-Key": key} if key else {}
    records = [{"video": video, "count": count} for video, count in counts.items()]
    return ask(node, "POST", "/visits?detail", headers, json.dumps(records).encode())


def detail(node: Node, video: str) -> tuple[int, dict[str, int]]:
    told = fetch(node.url, f"/count/{video}?detail")
    return told["visits"], told["not_counted"]


def blocked_in(one: Kept, *videos: str) -> None:
    """Have these videos blocked, as by another node."""
    with one.lock:
        one.replica.ledger.merge(
            Record(f"{number:032x}", 5, "ops", video, "block", "")
            for number, video in enumerate(videos)
        )


def apart(one: Kept, video: str) -> dict[str, int]:
    with one.lock:
        visits = {each: one.replica.tally.visits(class_key(video, each)) for each in CLASSES}
    return {each: number for each, number in visits.items() if number}


# -- where it is decided


@pytest.mark.parametrize("durable", [True, False])
def test_whether_a_video_is_blocked_is_decided_where_its_visit_is_counted(durable: bool) -> None:
    with running(Kept(MemoryStore(), 0.0)) as one:
        one.join()
        visits = counting_of(one, durable=durable)
        blocked_in(one, "gone")
        for reason in (None, "bot", "repeat", "blocked"):
            with pytest.raises(BlockedError):
                visits.visit("gone", reason=reason)
        until(lambda: apart(one, "gone") == {"blocked": 4}, 5, "all are apart")
        assert one.replica.counter("gone") == {}


@pytest.mark.parametrize("size", [2, 4000])
def test_whether_videos_are_blocked_is_decided_where_their_batch_is_counted(size: int) -> None:
    with running(Kept(MemoryStore(), 0.0)) as one:
        one.join()
        visits = counting_of(one)
        blocked_in(one, "gone", "bad")
        counts = {f"video-{number}": 1 for number in range(size)} | {"gone": 3, "bad": 2}
        reasons = visits.count_many(counts, reasons={"video-0": "bot", "bad": "bot"})
        assert reasons == {"video-0": "bot", "gone": "blocked", "bad": "blocked"}
        tally = one.replica.tally
        assert apart(one, "gone") == {"blocked": 3}
        assert apart(one, "bad") == {"blocked": 2}
        assert apart(one, "video-0") == {"bot": 1}
        assert tally.total(one.replica.id) == size - 1 + 6
        assert one.replica.counter("gone") == {}


# -- a node that starts


class _Asking:
    """Many who ask a node from before it listens, each until it gets an answer."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.answers: list[Answer] = []
        self._pause = threading.Event()
        self._asking = [
            threading.Thread(target=self._ask, args=(number,)) for number in range(_WAITING)
        ]
        for each in self._asking:
            each.start()

    def _ask(self, number: int) -> None:
        while True:
            try:
                if number % 2:
                    answer = batch(self._node, {"gone": 2, "stays": 1}, f"waiting-{number}")
                else:
                    answer = get(self._node, "/video/gone", User_Agent="")
            except (OSError, HTTPException):
                self._pause.wait(0.002)
                continue
            self.answers.append(answer)
            if answer.status != 503:
                return

    def end(self) -> None:
        for each in self._asking:
            each.join(30)
            assert not each.is_alive()


def test_visits_that_wait_while_a_killed_node_starts_meet_the_blocks_in_its_store(
    tmp_path: Path,
) -> None:
    with mesh(tmp_path, 1, **SETTINGS) as [node]:
        correct(node, "gone", block=True, reason="law")
        node.kill()
        node.launch()
        asking = _Asking(node)
        asking.end()
        node.wait_ready()
        told = Counter(answer.status for answer in asking.answers)
        del told[503]
        assert told == {410: _WAITING / 2, 200: _WAITING / 2}
        results = [{"counted": False, "reason": "blocked"}, {"counted": True}]
        for answer in asking.answers:
            if answer.status == 200:
                assert answer.json() == {"records": 2, "visits": 1, "results": results}
            elif answer.status == 410:
                assert answer.headers["x-counted"] == "no; reason=blocked"
        apart = {"blocked": _WAITING // 2 + 2 * (_WAITING // 2)}
        until(lambda: detail(node, "gone") == (0, apart), 10, "each is in the class of blocked")
        assert detail(node, "stays") == (_WAITING // 2, {})


# -- a repeat of a batch


def known(nodes: list[Node], keys: int) -> None:
    """Wait until every node holds so many keys."""
    until(
        lambda: all(metric(node.url, "counter_keys") == keys for node in nodes),
        10,
        f"every node holds {keys} keys",
    )


def set_block(nodes: list[Node], video: str, *, blocked: bool) -> None:
    correct(nodes[0], video, block=blocked, reason="test")
    until(
        lambda: all(_is_blocked(node, video) == blocked for node in nodes),
        10,
        f"every node knows that {video} is {'blocked' if blocked else 'not blocked'}",
    )


def _is_blocked(node: Node, video: str) -> bool:
    return "blocked" in fetch(node.url, f"/count/{video}")


def test_a_repeated_batch_says_what_became_of_it_before_a_block_was_lifted_or_set(
    tmp_path: Path,
) -> None:
    with mesh(tmp_path, 2, **SETTINGS) as nodes:
        one, other = nodes
        set_block(nodes, "lifted", blocked=True)
        set_block(nodes, "later", blocked=True)
        set_block(nodes, "later", blocked=False)
        counts = {"lifted": 5, "later": 2, "cats": 1}
        firsts = {
            agent: batch(one, counts, f"key-{number}", agent).json()
            for number, agent in enumerate(("", CRAWLERS[0]))
        }
        assert [first["visits"] for first in firsts.values()] == [3, 0]
        assert firsts[""]["results"][0] == {"counted": False, "reason": "blocked"}
        said = [each["reason"] for each in firsts[CRAWLERS[0]]["results"]]
        assert said == ["blocked", "bot", "bot"]
        known(nodes, 2)
        set_block(nodes, "lifted", blocked=False)
        set_block(nodes, "later", blocked=True)

        def repeated(node: Node) -> None:
            for number, first in enumerate(firsts.values()):
                # Whatever the agent of the repeat: what became of the first decides.
                for agent in firsts:
                    again = batch(node, counts, f"key-{number}", agent)
                    assert again.json() == first | {"repeated": True}

        repeated(one)
        repeated(other)
        one.kill()
        one.start()
        one.wait_ready()
        repeated(one)
        assert detail(one, "lifted") == (0, {"blocked": 10})


def test_what_is_not_recognized_is_not_said_of_a_repeat() -> None:
    whole, videos = bytes(range(16)), ["cats", *(f"gone-{number:02}" for number in range(14))]
    gone = videos[1:]

    def found(first: Reasons | None, now: Reasons, changeable: list[str]) -> Reasons | None:
        taken = None if first is None else marked(whole, first)
        return Results().of_first("key", taken, whole, videos, now, changeable)

    three: Reasons = dict.fromkeys(gone[1:4], "blocked")
    bots: Reasons = {**dict.fromkeys(videos, "bot"), **three}
    for first in (three, bots):
        assert found(first, {}, gone[:6]) == first
        assert found(first, {}, gone) is None, "these are too many cases"
        assert found(first, three, gone) == first
        assert found(first, {}, gone[:3]) is None
    everything: Reasons = dict.fromkeys(gone, "blocked")
    for first in ({}, everything):
        assert found(first, {}, gone) == first
    assert found({"cats": "repeat"}, {}, gone[:3]) is None
    assert found(None, {}, []) is None


def test_a_repeat_whose_outcome_nobody_knows_gets_no_number(tmp_path: Path) -> None:
    with mesh(tmp_path, 1, **SETTINGS) as [node]:
        gone = [f"gone-{number}" for number in range(24)]
        for video in gone:
            correct(node, video, block=True, reason="test")
        for video in gone[::2]:
            correct(node, video, block=False, reason="test")
        counts = dict.fromkeys(gone, 1)
        assert batch(node, counts, "many").json()["visits"] == 12
        for video in gone[::3]:
            correct(node, video, block=False, reason="test")
        node.kill()
        node.start()
        node.wait_ready()
        told = batch(node, counts, "many").json()
        assert told == {"records": 24, "visits": None, "repeated": True}


# -- an import


def test_an_import_says_how_many_visits_were_of_blocked_videos(tmp_path: Path) -> None:
    file = tmp_path / "visits.csv"
    file.write_text("video,count\ncats,6\ngone,5\n")

    def told(node: Node) -> str:
        done = CliRunner().invoke(imports, ["import", str(file), "--url", node.url])
        assert done.exit_code == 0, done.output
        return done.output.splitlines()[-1]

    with mesh(tmp_path / "node", 1, **SETTINGS) as [node]:
        correct(node, "gone", block=True, reason="law")
        assert told(node) == "6 visits counted, 5 not: their videos are blocked"
        before = "0 visits counted, 6 counted before, 5 not: their videos are blocked"
        assert told(node) == before
        correct(node, "gone", block=False, reason="appeal")
        assert told(node) == before
        assert detail(node, "gone") == (0, {"blocked": 5})
        file.write_text("video,count\ngone,7\n")
        correct(node, "gone", block=True, reason="law")
        assert told(node) == "0 visits counted, 7 not: their videos are blocked"
        many = [f"gone-{number}" for number in range(20)]
        for video in many:
            correct(node, video, block=True, reason="law")
            if video < "gone-2":
                correct(node, video, block=False, reason="appeal")
        file.write_text("video,count\n" + "".join(f"{video},1\n" for video in many))
        assert told(node).startswith("12 visits counted, 8 not")
        correct(node, many[9], block=False, reason="appeal")
        node.kill()
        node.start()
        node.wait_ready()
        unknown = "20 sent before: how many of them count is not known any more"
        assert told(node) == f"0 visits counted, {unknown}"
