"""Real processes under load and random faults: what `make chaos` does."""

import os
from collections import Counter
from itertools import product

import pytest

from chaos.__main__ import (
    ACKNOWLEDGED,
    COUNTED,
    COUNTED_AGAIN,
    LOST,
    REFUSED,
    TRIED,
    UNANSWERED,
    WINDOW,
    Account,
    keyed,
    run,
    visits,
)
from chaos.faults import CLUSTERS
from lab.clients import Books, Posts

SECONDS = int(os.environ.get("CHAOS", "90"))
"""How long the long run takes; in less it cannot see enough."""
STATUSES = (200, 200, 503, None)
"""Of one video's visits: two were acknowledged, one refused, one got no answer."""


@pytest.mark.parametrize(
    ("counted", "lost", "doubled"), [(1, 1, 0), (2, 0, 0), (3, 0, 0), (4, 0, 1)]
)
def test_the_books_tell_lost_and_doubled_visits(counted: int, lost: int, doubled: int) -> None:
    books, account = Books(), Account()
    for video, status in product(("wrong", "right"), STATUSES):
        books.note(video, status)
    account.balanced += visits(books, {"wrong": counted, "right": 2})
    expected = {TRIED: 8, REFUSED: 2, UNANSWERED: 2, ACKNOWLEDGED: 4, COUNTED: counted + 2}
    assert account.balanced == Counter(expected | {LOST: lost, COUNTED_AGAIN: doubled})
    assert (account.lost, account.counted_again) == (lost, doubled)
    assert account.right is (lost == doubled == 0)
    assert "counted again" in account.table()


def test_the_books_tell_the_window_from_other_requests_counted_twice() -> None:
    posts = Posts()
    for window in (0, 1, 2):
        post = posts.new("keyed", 3)
        post.acknowledged, post.asked, post.window = True, window + 1, window
    posts.new("keyed", 3)
    became = keyed(posts, {"keyed-0": 6, "keyed-1": 9, "keyed-2": 2, "keyed-3": 3})
    expected = {"requests": 4, ACKNOWLEDGED: 3, "repeated": 3, WINDOW: 1, LOST: 1, COUNTED_AGAIN: 2}
    assert became == expected
    account = Account(keyed=became)
    assert (account.lost, account.counted_again, account.right) == (1, 2, False)


@pytest.mark.proof
@pytest.mark.timeout(500 + SECONDS)  # two clusters start, and fold what is left in the end
def test_all_faults_under_load_lose_nothing_and_double_nothing() -> None:
    account = run(SECONDS, seed=1)
    table = account.table()
    print(table)
    assert account.lost == 0, table
    assert account.counted_again == 0, table
    assert account.right, table
    # Every combination of transport and store, and enough of everything to mean something.
    assert account.clusters == list(CLUSTERS)
    assert {"sqlite", "redis"} == {*CLUSTERS["mesh"]} == {*CLUSTERS["rabbitmq"]}
    assert account.kills >= SECONDS / 9, table
    assert len(account.faults) >= 9, table
    assert account.faults["node frozen until its queue overflows"] == 0 or account.overflowed
    assert account.exact[ACKNOWLEDGED] > 1000, table
    assert account.balanced[ACKNOWLEDGED] > 100, table
    assert account.keyed[ACKNOWLEDGED] > 200, table
    assert account.keyed["repeated"] > 20, table
