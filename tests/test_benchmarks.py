"""The benchmarks measure what they say, in a run so short that its figures mean nothing."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks import Limits
from benchmarks.__main__ import SECTIONS
from benchmarks.contenders import Contender, ForgetfulRedis, check, node, take_turns, videos
from benchmarks.million import measure as measure_million
from benchmarks.report import PAGE, Goal, Part, Row, markdown, ratio, write
from benchmarks.watch import Rate
from lab.clients import Client
from lab.cluster import start
from lab.servers import Node

STORES = ("SQLite", "Redis")
NODES = [f"ACK={ack}, {store}" for ack in ("memory", "stored") for store in STORES]
ROWS = {
    "visits": [
        f"{what}, {name}"
        for name in NODES
        for what in ("visits", "visits", "99 % answered within", "processor time a visit")
    ],
    "records": [
        f"records, {name}, {form}"
        for name in ("bare Flask", *NODES)
        for form in ("array", "NDJSON", "array, 1,000 videos")
    ],
    "propagation": [
        f"from the answer to a page of another node, {transport}: {share} within"
        for transport in ("mesh", "RabbitMQ")
        for share in ("half", "99 %")
    ],
    "payload": ["broadcast a visit", "sent by an idle node"],
    "pages": [
        "live pages open on one node",
        "resident, with 50 pages",
        "a change reaches the last page within",
        "visits while the pages' video changes 10 times a second",
    ],
    "nodes": ["visits at three nodes", "processor time a visit, all three nodes'"],
    "beacons": [
        "beacons through nginx",
        "the last beacon is counted after",
        "lines followed by one node",
        "visits to a node that follows beacons",
    ],
    "cost": [
        *(
            f"{what}, ACK={ack}"
            for ack in ("stored", "memory")
            for what in ("processor time a visit", "visits")
        ),
        "processor time a visit, viewers told apart",
    ],
    "columns": [
        "resident above an empty tally",
        "merging unknown videos",
        "merging known videos",
        "the longest of these merges",
        *(
            f"a vector of all videos: {step}"
            for step in (
                "hashes of its buckets",
                "a page of a repair",
                "a page in which nothing differs",
                "adding it to another, in memory",
                "adding it once more",
                "the hashes of the sum",
                "putting some of it to rest",
                "reading it from rest",
                "hashes after that",
            )
        ),
        "processor time of a visit in the tally, 504 open runs",
        "a visit",
        *(
            f"merging {entries} at a time, {videos}"
            for videos in ("the same hundred videos", "any videos", "new videos")
            for entries in (1, 10, 50)
        ),
    ],
    "million": [
        "resident above an empty node",
        "sent by an idle node",
        *(
            f"{what}, {store}"
            for store in STORES
            for what in (
                "an empty node joins and is ready",
                "99 % of visits at its peers meanwhile",
                "from a start to the first visit",
                "from a start to ready",
            )
        ),
        "a lost delta of 100 videos is repaired within",
        "sent by all nodes for that",
        "from a start to the first visit, SQLite, of a node that has counted them",
        "from a start to ready, SQLite, of a node that has counted them",
        "a day of hourly runs of three members, 10% of the videos in each, at rest",
        "an empty node joins and is ready, SQLite, with a day of runs",
        "99 % of visits at its peers meanwhile, SQLite, with a day of runs",
        *(
            f"longest pause while {what}, {where}"
            for what in (
                "the videos are posted to all nodes",
                "nothing happens",
                "an empty node joins, SQLite",
                "a node starts again, SQLite",
                "an empty node joins, Redis",
                "a node starts again, Redis",
                "a lost delta is repaired",
                "a node starts again, SQLite, of a node that has counted them",
                "the run that ended is folded",
                "an empty node joins, SQLite, with a day of runs",
            )
            for where in ("seen by a client", "in the node")
        ),
    ],
}
"""What each section's table has to have. Where it says "visits" twice, against two contenders."""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the page of results."""
    copy = tmp_path / "docs/benchmarks.md"
    copy.parent.mkdir()
    copy.write_text(PAGE.read_text())
    return copy


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_every_section_fills_its_table_and_no_visit_is_lost_under_load(
    tmp_path: Path, page: Path
) -> None:
    def measure(name: str) -> Part:
        if name == "million":
            soon = {"MESSAGE_TTL": "0.5", "SYNC_INTERVAL": "0.1", "JOIN_TIMEOUT": "1"}
            return measure_million(tmp_path / name, 1000, Rate(0.3, 1), **soon)
        return SECTIONS[name](Limits(tmp_path / name, 1, 2, pages=50, warm=False))

    # Some at once: the figures are worth nothing, but each section checks what was counted. All at
    # once left a server without one answer in its seconds.
    with ThreadPoolExecutor(3) as at_once:
        parts = dict(zip(ROWS, at_once.map(measure, ROWS), strict=True))
    assert {name: [row.what for row in part.rows] for name, part in parts.items()} == ROWS
    for part in parts.values():
        # A thousand videos weigh less than two empty nodes differ by.
        weights = ("bytes a video", "MB more")
        assert all(row.figure >= 0 or row.unit in weights for row in part.rows)
        write(page, part)
    text = page.read_text()
    for part in parts.values():
        assert markdown(part.rows) in text


def test_every_contender_counts_what_it_answers(tmp_path: Path) -> None:
    redis = ForgetfulRedis(tmp_path / "redis")
    nodes = [node(tmp_path, ack, ACK=ack) for ack in ("memory", "stored")]
    bare = Contender(tmp_path, "bare")
    incr = Contender(tmp_path, "incr", {"REDIS_URI": redis.uri})
    servers: list[Contender | Node] = [bare, incr, *nodes]
    visits = [*videos(10), *videos(20)]
    with ExitStack() as stack:
        start(stack, [redis, *servers])
        for server in servers:
            with Client(server.url) as visitor:
                answers = [visitor.get(f"/video/{video}")[0] for video in visits]
            assert answers == [200] * len(visits)
        for server in servers:
            assert check(server.url, 20, len(visits), len(visits)) == len(visits)
        with Client(bare.url) as visitor, Client(nodes[1].url) as other:
            # Of the same shape and nearly the same size.
            theirs, ours = visitor.json("/video/video-00000"), other.json("/video/video-00000")
        assert theirs.keys() == ours.keys()
        assert abs(len(str(theirs)) - len(str(ours))) < 8


def test_a_part_of_the_page_is_replaced_and_the_rest_is_left(page: Path) -> None:
    before = page.read_text()
    part = Part("visits", [Row("visits", 7, "a second")], "How.")
    write(page, part)
    write(page, part)
    text = page.read_text()
    assert text.count("| visits | 7 a second |") == 1
    outside = before.partition("<!-- visits: measured -->")[0]
    assert text.startswith(outside)
    assert text.endswith(before.partition("<!-- visits: end -->")[2])


def test_the_page_has_a_place_for_every_section(page: Path) -> None:
    for name in (*SECTIONS, "million"):
        write(page, Part(name, [], ""))
    with pytest.raises(LookupError, match="<!-- nowhere: measured -->"):
        write(page, Part("nowhere", [], ""))


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("at least", 1, "s", Goal(least=1)), "yes"),
        (Row("at least", 0.9, "s", Goal(least=1)), "**falls short**"),
        (Row("at least", 0.9, "s", Goal(least=1, enough=0.9)), "**falls short**, will do"),
        (Row("at most", 1, "s", Goal(most=1)), "yes"),
        (Row("at most", 1.1, "s", Goal(most=1)), "**falls short**"),
        (Row("a ratio", 1, "s", Goal(least=0.5), "other", 4, 0.25), "**falls short**"),
        (Row("no goal", 1, "s"), ""),
    ],
)
def test_a_row_says_whether_its_goal_is_reached(row: Row, verdict: str) -> None:
    assert row.cells()[-1] == verdict
    assert row.reached is ("short" not in verdict)


def test_contenders_take_turns_and_are_compared_round_by_round() -> None:
    order: list[str] = []

    def contender(name: str, figures: list[float]) -> float:
        order.append(name)
        return figures.pop(0)

    a, b = [1.0, 2.0, 30.0], [2.0, 4.0, 20.0]
    results = take_turns({"a": lambda: contender("a", a), "b": lambda: contender("b", b)}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert ratio(results["a"], results["b"]) == 0.5
