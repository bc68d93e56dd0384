"""Every visit is in its one class, at every node: `make trust`, and whether it would tell."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chaos.classes import (
    BLOCKED,
    BOT,
    CLASSES,
    COUNTED,
    CRAWLERS,
    IN_DOUBT,
    PEOPLE,
    REFUSED,
    REPEAT,
    TOLD,
    Classes,
    Hearing,
    Sighting,
)
from chaos.operator import joined, withdrawn
from chaos.trust import (
    BEGIN,
    END,
    PAGE,
    Account,
    Shown,
    corrected_wrongly,
    recorded_wrongly,
    run,
    write,
)
from counter.node.agents import Agents
from tests import agents

SECONDS = float(os.environ.get("TRUST", "20"))
"""How long visits are sent."""
KIND = "a person"


def books() -> Classes:
    """Of one video: three visits count, two are a crawler's, one of either class is in doubt."""
    books = Classes()
    for became in (COUNTED, COUNTED, COUNTED, BOT, BOT, REFUSED):
        books.note(KIND, "cats", became, {became})
    books.note(KIND, "cats", IN_DOUBT, {COUNTED, REPEAT})
    return books


@pytest.mark.parametrize(
    ("counted", "bot", "repeat", "wrong"),
    [
        (3, 2, 0, 0),
        (4, 2, 0, 0),
        (3, 2, 1, 0),
        (2, 2, 0, 2),  # one is lost: in its class, and in all
        (2, 3, 0, 2),  # one is in another class
        (5, 2, 0, 2),  # one is counted twice
        (4, 2, 1, 1),  # the one in doubt is in two classes
        (3, 2, 2, 2),
    ],
)
def test_the_books_tell_what_is_lost_counted_twice_or_in_another_class(
    counted: int, bot: int, repeat: int, wrong: int
) -> None:
    shown = {"cats": {COUNTED: counted, BOT: bot, REPEAT: repeat}}
    assert len(books().differences(shown)) == wrong
    assert len(books().differences({**shown, "dogs": {BLOCKED: 1}})) == wrong + 2


def test_the_books_tell_an_answer_that_the_rule_does_not_allow() -> None:
    noted = Classes()
    noted.note(KIND, "cats", REPEAT, {COUNTED, REPEAT})
    assert (noted.wrong, noted.open) == ([], 1)
    noted.note(KIND, "cats", COUNTED, {REPEAT})
    assert noted.wrong == ["a person: cats is counted, not repeat"]


def test_a_node_knows_whom_it_saw_and_soon_whom_others_saw() -> None:
    hearing, now = Hearing(), time.monotonic()
    seen = [Sighting("one", now - 1, now - 0.9)]
    assert hearing.knows("one", seen, now)
    assert not hearing.knows("two", seen, now)
    assert hearing.knows("two", seen, now + TOLD)
    hearing.cut("two")
    assert hearing.knows("three", seen, now + TOLD)
    assert not hearing.knows("two", seen, now + TOLD)
    hearing.heal("two")
    assert not hearing.knows("two", seen, now + 10), "it was told while nobody was heard"
    after = [Sighting("one", now + 2 * TOLD, now + 2 * TOLD)]
    assert hearing.knows("two", after, now + 4 * TOLD)
    hearing.cut("one")
    split = [Sighting("one", time.monotonic(), time.monotonic())]
    hearing.kill("one")
    hearing.heal("one")
    assert not hearing.knows("three", split, now + 10), "nobody was told before the kill"
    assert not hearing.knows("one", seen, now + 10), "a killed node has forgotten it"


def test_agents_are_of_the_class_that_the_visitors_take_them_for() -> None:
    assert set(CRAWLERS) <= set(agents.CRAWLERS)
    kind = Agents().kind
    assert [kind(agent) for agent in CRAWLERS] == ["crawler"] * 5
    assert "crawler" not in {kind(agent) for agent in PEOPLE}


def record(id_: str, at: int, takes: dict[str, list[int]]) -> dict[str, Any]:
    number = sum(take for take, _ in takes.values())
    return {"id": id_, "at": at, "by": "ops", "video": "cats", "withdraw": number, "takes": takes}


def test_the_rule_of_the_records_is_that_of_the_counter() -> None:
    one, other = record("a", 2, {"m": [70, 75]}), record("b", 1, {"m": [30, 70], "n": [5, 9]})
    assert withdrawn([one, other]) == withdrawn([other, one]) == 80
    both = joined(one, {**other, "id": "a"})
    assert (both["at"], both["takes"]) == (1, {"m": [70, 75], "n": [5, 9]})
    assert both["withdraw"] == 75


@dataclass
class Node:
    """What a node that is right says of one video with one record."""

    counter: dict[str, Any] = field(
        default_factory=lambda: {"visits": 60, "withdrawn": 40, "counts": {"m": 100}}
    )
    records: list[dict[str, Any]] = field(
        default_factory=lambda: [record("a", 1, {"m": [40, 100]})]
    )

    def wrong(self) -> int:
        shown = Shown("one", {"cats": self.counter}, self.records, {})
        made = {"a": record("a", 1, {"m": [40, 100]})}
        return len([*corrected_wrongly(shown), *recorded_wrongly(shown, made)])


def test_a_node_that_says_something_else_is_found_out() -> None:
    assert Node().wrong() == 0
    for key, value in {"visits": 61, "withdrawn": 39, "counts": {"m": 101}}.items():
        node = Node()
        node.counter[key] = value
        assert node.wrong() == 1, key
    right = Node().records
    assert Node(records=[]).wrong() == 2
    assert Node(records=right * 2).wrong() == 2
    assert Node(records=[*right, record("b", 2, {})]).wrong() == 1
    assert Node(records=[right[0] | {"at": 2}]).wrong() == 1


def test_a_table_is_written_where_it_belongs(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    page.write_text(text)
    counter = {"visits": 3, "counts": {"m": 3}, "not_counted": {BOT: 2}, "viewers": {"today": 3}}
    node = Shown("counter1", {"cats": counter}, [], {})
    account = Account(1.0, books(), [node] * 3, {"cats": (3, 4)}, ["0.0 s: nothing"], [])
    for _ in range(2):
        write(page, account)
    written = page.read_text()
    assert written.startswith(before + BEGIN)
    assert written.endswith(END + rest.partition(END)[2])
    assert "| bot | 2 | 0 | 2 | 2 | 2 |" in written
    assert "| cats | 3 | 2 | 0 | 0 | 0 | 3 | 3 | 3 to 4 |  |" in written
    page.write_text("nothing")
    with pytest.raises(LookupError, match=r"page\.md"):
        write(page, account)


@pytest.mark.proof
@pytest.mark.timeout(240 + SECONDS)
def test_every_visit_is_in_its_class_at_every_node_and_corrections_are_there_once() -> None:
    account = run(SECONDS)
    wrong = [verdict for verdict in account.verdicts if not verdict.holds]
    assert not wrong
    # Enough of everything to mean something.
    told = {
        each: sum(n for (_, of), n in account.books.told.items() if of == each) for each in CLASSES
    }
    assert all(number > 5 * SECONDS for each, number in told.items() if each != REPEAT), told
    assert told[REPEAT] > 2 * SECONDS, told
    assert account.books.in_doubt.total() < 100, account.books.in_doubt
    assert account.books.open < account.books.told.total() / 2
    assert len(account.nodes[0].records) > 10
