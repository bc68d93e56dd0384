"""`make trust`: every visit is in its one class, at every node, and corrections are there once.

Three nodes run behind nginx under mixed traffic: people, crawlers, repeats, visits of blocked
videos, batches. Nodes are killed and come back; one is cut off and healed, with corrections and
blocks on both sides. In the end each node must show what the books say.
"""

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

from chaos.classes import (
    CLASSES,
    COUNTED,
    IN_DOUBT,
    KINDS,
    REFUSED,
    Classes,
    Hearing,
    Sighting,
    Visitors,
    ask,
)
from chaos.operator import LABEL, TOKEN, Operator, Record, listed, withdrawn
from lab.clients import AUTHORIZED, fetch, post, until
from lab.cluster import Cluster, complaints
from lab.servers import ROOT, Nginx, Node
from lab.terminal import columns, say

PAGE = ROOT / "docs/proof/trust.md"
BEGIN, END = "<!-- trust: measured -->", "<!-- trust: end -->"

FARMED, RESET, TAKEN_DOWN, CUT_OFF, RETURNED, CONTESTED, ONE_KEY, AFRESH = (
    "farmed",
    "reset",
    "taken-down",
    "cut-off",
    "returned",
    "contested",
    "one-key",
    "afresh",
)
VISITED = ("cats", "dogs", FARMED, RESET, TAKEN_DOWN, CUT_OFF, RETURNED, CONTESTED)
"""What the visitors visit; the other two videos have only what is counted beside them."""
VIDEOS = (*VISITED, ONE_KEY, AFRESH)
FINALLY_BLOCKED = {TAKEN_DOWN: True, CUT_OFF: True, RETURNED: False, CONTESTED: False}
FIRST, LATER = 300, 1_000
"""Visits that a video has before all else; and that one gets after all of its were withdrawn."""
CROWD = 5
"""How many send requests side by side."""
WITHIN = 0.08
"""What an estimate may be wrong by: more than four times its standard error."""
EXACT = 100
"""Below so many viewers an estimate is exact."""
WRITTEN = 10.0
"""Seconds after which the viewers of a visit are in the store of its node, or told."""
AGREED = 30.0

SETTINGS = {
    "REPEAT_WINDOW": "3600",
    "VIEWERS": "on",
    "CLUSTER_SECRET": "the secret of this cluster",
    "ADMIN_TOKEN": f"{LABEL}:{TOKEN}",
    "DEV_MODE": "1",
    "DRAIN_TIME": "0",
    # Visitors come from other addresses of this machine; only the balancer is to be trusted.
    "TRUSTED_PROXIES": "127.0.0.1/32",
}


class Shown(NamedTuple):
    """What one node says: of each video its counter in detail, and all records."""

    node: str
    counters: dict[str, dict[str, Any]]
    records: list[Record]
    in_all: dict[str, int]
    """What does not count of all videos together, by class."""

    def classes(self) -> dict[str, dict[str, int]]:
        """Visits by video and class."""
        return {
            video: {COUNTED: sum(counter["counts"].values()), **counter["not_counted"]}
            for video, counter in self.counters.items()
        }

    def total(self, of: str) -> int:
        """Visits of all videos in a class."""
        return sum(classes.get(of, 0) for classes in self.classes().values())

    def what(self) -> tuple[object, ...]:
        """All of it but the name, to compare."""
        records = sorted(self.records, key=lambda record: str(record["id"]))
        return self.counters, records, self.in_all


def shown(node: Node) -> Shown:
    """Ask a node."""
    counters = {video: fetch(node.url, f"/count/{video}?detail") for video in VIDEOS}
    for counter in counters.values():
        assert counter.pop("node") == node.name
    cluster = fetch(node.url, "/cluster")
    return Shown(node.name, counters, listed(node), cluster["not_counted"])


class Verdict(NamedTuple):
    """A promise, what was seen, and whether that keeps it."""

    promise: str
    seen: str
    holds: bool


class Account(NamedTuple):
    """What happened, what every node says, and whether the promises hold."""

    seconds: float
    books: Classes
    nodes: list[Shown]
    viewers: dict[str, tuple[int, int]]
    """How many viewers a video has at least and at most, by the books."""
    happened: list[str]
    verdicts: list[Verdict]

    @property
    def right(self) -> bool:
        """Whether all promises hold."""
        return all(verdict.holds for verdict in self.verdicts)

    def tables(self, form: Callable[[Sequence[Sequence[str]]], str]) -> Iterator[tuple[str, str]]:
        """The name and the text of each table."""
        yield "What was sent", form(list(self._sent()))
        yield "What each node says, all videos together", form(list(self._by_class()))
        yield "What every node says of each video", form(list(self._by_video()))
        yield "What must hold", form(list(self._held()))

    def _sent(self) -> Iterator[Sequence[str]]:
        yield "who", "requests", *CLASSES, REFUSED, IN_DOUBT
        for kind in KINDS:
            ends = [self.books.ends[kind][end] for end in (*CLASSES, REFUSED, IN_DOUBT)]
            yield kind, *(f"{number:,}" for number in (self.books.requests[kind], *ends))

    def _by_class(self) -> Iterator[Sequence[str]]:
        yield "class", "by the books", "in doubt beside", *(node.node for node in self.nodes)
        for each in CLASSES:
            told = sum(n for (_, class_), n in self.books.told.items() if class_ == each)
            unsure = sum(n for (_, class_), n in self.books.unsure.items() if class_ == each)
            numbers = (told, unsure, *(node.total(each) for node in self.nodes))
            yield each, *(f"{number:,}" for number in numbers)
        told, unsure = self.books.told.total(), self.books.in_doubt.total()
        numbers = (told, unsure, *(sum(map(node.total, CLASSES)) for node in self.nodes))
        yield "all", *(f"{number:,}" for number in numbers)
        records = [f"{len(node.records)}" for node in self.nodes]
        yield "records", str(len({record["id"] for record in self.nodes[0].records})), "0", *records

    def _by_video(self) -> Iterator[Sequence[str]]:
        yield (
            "video", *CLASSES, "withdrawn", "visits", "viewers", "viewers by the books", "blocked",
        )  # fmt: skip
        node = self.nodes[0]
        for video, classes in node.classes().items():
            counter = node.counters[video]
            least, most = self.viewers.get(video, (0, 0))
            numbers = (
                *(classes.get(each, 0) for each in CLASSES),
                counter.get("withdrawn", 0),
                counter["visits"],
                counter["viewers"]["today"],
            )
            yield (
                video,
                *(f"{number:,}" for number in numbers),
                f"{least:,}" if least == most else f"{least:,} to {most:,}",
                "yes" if counter.get("blocked") else "",
            )

    def _held(self) -> Iterator[Sequence[str]]:
        yield "promise", "seen", "result"
        for promise, seen, holds in self.verdicts:
            yield promise, seen, "holds" if holds else "FAILS"


class Trial:
    """The cluster, its visitors, its operator, and what happens to them."""

    def __init__(self, folder: Path, stack: ExitStack, seconds: float) -> None:
        self.books, self.hearing = Classes(), Hearing()
        self.happened: list[str] = []
        self._seconds = seconds
        self.cluster = Cluster(folder, stack, settings=SETTINGS, nginx=Nginx, killed=True)
        self.nodes, self.port = self.cluster.nodes, self.cluster.nginx.port
        self.crowd: list[Visitors] = []
        self._began = time.monotonic()
        self.operator = Operator(self.nodes, self.books, self._say)
        self._count(dict.fromkeys((FARMED, RESET, ONE_KEY, AFRESH), FIRST))
        self._agree(ONE_KEY, FIRST)
        self._agree(AFRESH, FIRST)
        self.operator.block(self.nodes[0], TAKEN_DOWN)
        self.operator.settle()
        for number in range(CROWD):
            visitors = Visitors(number, self.port, VISITED, self.books, self.hearing)
            self.crowd.append(stack.enter_context(visitors))
        self._say("visitors come")

    def run(self) -> Account:
        """Let it all happen; return once the nodes agree, or do not in time."""
        one, two, three = self.nodes
        self._wait(0.15)
        self.operator.withdraw(two, FARMED, 10)
        self._wait(0.05)
        # It hears of this block when it is back.
        self._restart(three, lambda: self.operator.block(one, RETURNED))
        self.operator.settle()
        self._wait(0.15)
        self._split(one, two, three)
        self._wait(0.10)
        self.operator.withdraw(three, FARMED, 5)
        self.operator.withdraw(three, ONE_KEY, 40, key="once")
        self._wait(max(0.1, 1 - (time.monotonic() - self._began) / self._seconds))
        for visitors in self.crowd:
            visitors.stop()
        self._say("no more visits are sent")
        self._count({AFRESH: LATER})
        with suppress(AssertionError):
            took = until(lambda: self._equal(), AGREED, "all nodes say the same")
            self._say(f"all nodes say the same, {took:.1f} s later")
        nodes = [shown(node) for node in self.nodes]
        seconds = time.monotonic() - self._began
        viewers = {video: self._viewers(video) for video in VISITED}
        account = Account(seconds, self.books, nodes, viewers, self.happened, [])
        account.verdicts.extend(self._verdicts(account))
        return account

    # -- what happens

    def _restart(self, node: Node, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._say(f"{node.name} is killed (SIGKILL)")
        self.hearing.kill(node.name)
        node.kill()
        meanwhile()
        self._wait(0.05)
        node.start()
        node.wait_ready()
        self.hearing.heal(node.name)
        self._say(f"{node.name} is back, and ready")

    def _split(self, one: Node, two: Node, three: Node) -> None:
        self._say(f"{one.name} is cut off from {two.name} and {three.name}")
        self.hearing.cut(one.name)
        post(one.url, "/dev/cut")
        self._wait(0.08)
        self.operator.withdraw(one, FARMED, 30)
        self.operator.withdraw(two, FARMED, 20)
        for node in (one, three):
            self.operator.withdraw(node, RESET, "all")
            self.operator.withdraw(node, AFRESH, "all")
        for node in (two, one):
            self.operator.withdraw(node, ONE_KEY, 40, key="once")
        self.operator.block(one, CUT_OFF)
        self.operator.block(two, RETURNED, blocked=False)
        self.operator.block(one, CONTESTED)
        self.operator.block(three, CONTESTED, blocked=False)
        self.operator.withdraw(two, FARMED, 7)
        # What it has just answered is on record, whomever it had told.
        self._restart(two)
        self._wait(0.05)
        post(one.url, "/dev/heal")
        self.hearing.heal(one.name)
        self._say(f"{one.name} hears the others again")
        self.operator.settle()

    def _wait(self, share: float) -> None:
        """Let visits come for a share of the time."""
        time.sleep(share * self._seconds)
        for visitors in self.crowd:
            assert visitors.failure is None, visitors.failure

    def _say(self, what: str) -> None:
        self.happened.append(f"{time.monotonic() - self._began:.1f} s: {what}")
        say(self.happened[-1])

    def _count(self, visits: dict[str, int]) -> None:
        """Have visits counted that the books of the visitors have nothing to do with."""
        headers = {"Content-Type": "application/json", **AUTHORIZED}
        records = [{"video": video, "count": count} for video, count in visits.items()]
        answer = ask(self.port, "POST", "/visits?detail", headers, records)
        assert answer.became == [COUNTED] * len(records), answer
        self.books.told.update({(video, COUNTED): count for video, count in visits.items()})

    def _agree(self, video: str, visits: int) -> None:
        path = f"/count/{video}"
        until(
            lambda: all(fetch(node.url, path)["visits"] == visits for node in self.nodes),
            AGREED,
            f"{video} has {visits} visits at every node",
        )

    def _equal(self) -> bool:
        first, *others = [shown(node).what() for node in self.nodes]
        return all(other == first for other in others)

    # -- what follows

    def _viewers(self, video: str) -> tuple[int, int]:
        """How many viewers a video has: a node may forget those of the seconds before a kill."""
        least = most = 0
        for visitors in self.crowd:
            seen = {who: at for who, at in visitors.seen.items() if who.video == video}
            least += sum(any(map(self._is_kept, at)) for at in seen.values())
            most += len({*seen, *(who for who in visitors.unsure if who.video == video)})
        return least, most

    def _is_kept(self, sighting: Sighting) -> bool:
        killed = self.hearing.killed.get(sighting.node, 0.0)
        return not killed - WRITTEN <= sighting.sent <= killed

    def _verdicts(self, account: Account) -> Iterator[Verdict]:
        books, nodes = self.books, account.nodes
        wrong = [f"{n.node}: {each}" for n in nodes for each in books.differences(n.classes())]
        width = books.in_doubt.total() / max(1, books.told.total())
        yield _none(
            "each class of each video is what the books say, at every node",
            wrong,
            f"{len(VIDEOS) * len(CLASSES)} numbers at {len(nodes)} nodes; in doubt are "
            f"{books.in_doubt.total()} visits, {width:.2%}",
        )
        equal = all(node.what() == nodes[0].what() for node in nodes)
        yield Verdict("all nodes say the same", "counters, classes, viewers, records", equal)
        yield _none(
            "an answer names no class that the rule does not allow",
            books.wrong,
            f"of {books.told.total():,} visits; for {books.open:,} the rule allows two",
        )
        yield _none(
            "visits are what was counted, less what is withdrawn by the records",
            [each for node in nodes for each in corrected_wrongly(node)],
            f"{sum(counter.get('withdrawn', 0) for counter in nodes[0].counters.values()):,} "
            "withdrawn",
        )
        yield _none(
            "each record is at every node, once, as it was answered",
            [each for node in nodes for each in recorded_wrongly(node, self.operator.records)],
            f"{len(self.operator.records)} records, {len(nodes[0].records)} listed",
        )
        in_all = [{each: node.in_all.get(each, 0) for each in CLASSES[1:]} for node in nodes]
        summed = [{each: node.total(each) for each in CLASSES[1:]} for node in nodes]
        yield Verdict("the console has the classes in all", _words(in_all[0]), in_all == summed)
        blocked = {v: nodes[0].counters[v].get("blocked", False) for v in FINALLY_BLOCKED}
        yield Verdict(
            "the last block or unblock of a video holds, at whichever side it was made",
            ", ".join(v for v, is_ in blocked.items() if is_) + " blocked",
            blocked == FINALLY_BLOCKED,
        )
        yield Verdict(
            "all withdrawn on both sides of the split takes no later visit",
            f"{AFRESH} then got {LATER:,} and shows {nodes[0].counters[AFRESH]['visits']:,}",
            all(node.counters[AFRESH]["visits"] == LATER for node in nodes),
        )
        estimates = {video: nodes[0].counters[video]["viewers"]["today"] for video in VISITED}
        yield _none(
            f"viewers: below {EXACT} exact, else within {WITHIN:.0%}",
            [f"{v}: {n}" for v, n in estimates.items() if not _is_near(n, *account.viewers[v])],
            f"{sum(estimates.values()):,} of {len(VISITED)} videos",
        )
        yield _none("no traceback, no thread ended", complaints(self.nodes), "none")


def _none(promise: str, wrong: Sequence[str], seen: str) -> Verdict:
    """A promise that holds if nothing is wrong."""
    say("\n".join(wrong[:20])) if wrong else None
    return Verdict(promise, f"{len(wrong)} wrong: {wrong[0]}" if wrong else seen, not wrong)


def _words(numbers: dict[str, int]) -> str:
    return ", ".join(f"{number:,} {each}" for each, number in numbers.items())


def corrected_wrongly(node: Shown) -> Iterator[str]:
    """The videos whose visits do not follow from what was counted and from the records."""
    for video, counter in node.counters.items():
        of = [record for record in node.records if record["video"] == video]
        less, told = withdrawn(of), counter.get("withdrawn", 0)
        counted = sum(counter["counts"].values())
        if less != told or counter["visits"] != counted - less:
            yield (
                f"{node.node}: {video} shows {counter['visits']}; {counted} were counted, "
                f"{told} are said to be withdrawn, {less} are by the records"
            )


def recorded_wrongly(node: Shown, made: dict[str, Record]) -> Iterator[str]:
    """The records that a node lacks, has twice, or has otherwise than they were `made`."""
    often = Counter(record["id"] for record in node.records)
    yield from (f"{node.node}: {id_} is there {n} times" for id_, n in often.items() if n > 1)
    there = {record["id"]: record for record in node.records}
    for id_ in {*there, *made}:
        if there.get(id_) != made.get(id_):
            yield f"{node.node}: {there.get(id_)} is on record, and it was {made.get(id_)}"


def _is_near(estimate: int, least: int, most: int) -> bool:
    """Whether an estimate fits what the books say."""
    room = 0.0 if most < EXACT else WITHIN
    return least * (1 - room) <= estimate <= most * (1 + room)


def run(seconds: float) -> Account:
    """Run a cluster for so long."""
    with tempfile.TemporaryDirectory(prefix="trust-") as folder, ExitStack() as stack:
        return Trial(Path(folder), stack, seconds).run()


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table for a page."""
    head, *others = rows
    lines = [head, ["---"] * len(head), *others]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write(page: Path, account: Account) -> None:
    """Replace what is between the two comment lines of a page. LookupError if it has none."""
    text = page.read_text()
    between = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(between.findall(text)) != 1:
        raise LookupError(f"{page.name} needs one line {BEGIN!r}, and {END!r} below it")
    machine = f"{os.cpu_count()} processors, Python {platform.python_version()}."
    parts = [BEGIN, f"Seen in a run of {account.seconds:.0f} s. {machine}"]
    for name, table in account.tables(markdown):
        parts += [f"## {name}", table]
    parts += ["## What happened", "\n".join(f"- {each}" for each in account.happened), END]
    page.write_text(between.sub(lambda _: "\n\n".join(parts), text))


def main() -> int:
    """Return 0 if all promises held."""
    parser = argparse.ArgumentParser(prog="make trust", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="how long visits are sent (60)")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    asked = parser.parse_args()
    account = run(asked.seconds)
    for name, table in account.tables(columns):
        say(f"\n{name}\n{table}")
    if asked.write and account.right:
        write(PAGE, account)
    return 0 if account.right else 1


if __name__ == "__main__":
    sys.exit(main())
