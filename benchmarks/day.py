"""A day of hourly runs in the stores of nodes: of each, as if it had started anew every hour."""

import random
import secrets
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from counter.crdt.hashes import hash_of
from counter.crdt.ids import member_of, mint_run, replica_of, run_of
from counter.protocol.checks import encode_sum, sum_name, sum_of
from counter.store.sqlite import SqliteStore

HOURS = 24
ACTIVE = 0.1
"""The share of the videos that is visited in an hour."""
_ROWS_A_WRITE = 20_000


def runs(named: Sequence[str], member: str) -> Iterator[dict[str, int]]:
    """What a member has counted in each hour: few of the videos are visited often."""
    chance = random.Random(member)
    for _ in range(HOURS):
        some = sorted(chance.sample(named, int(ACTIVE * len(named))))
        yield {video: int(chance.paretovariate(1.2)) for video in some}


def vectors_of(members: Sequence[str], now: int, latest: str) -> dict[str, list[str]]:
    """The names of these runs, by member: all later than `latest`; `now` is Unix time in ms."""
    vectors: dict[str, list[str]] = {member: [] for member in members}
    for _ in range(HOURS):
        for member in members:
            latest = mint_run(now, latest, secrets.randbits(64))
            vectors[member].append(replica_of(member, latest))
    return vectors


def counted(folders: Sequence[Path]) -> tuple[str, list[str]]:
    """The latest run that has counted in any of these stores, and the members that have."""
    vectors: set[str] = set()
    for folder in folders:
        store = SqliteStore(folder)
        store.open("benchmark", _never)
        vectors.update(store.known().vectors)
        store.close()
    # What is folded is kept as "member@".
    folded = {vector.removesuffix("@") for vector in vectors if vector.endswith("@")}
    runs = {vector for vector in vectors if not vector.endswith("@")}
    return max(map(run_of, runs)), sorted({*folded, *map(member_of, runs)})


def add(folder: Path, vectors: dict[str, list[str]], named: Sequence[str]) -> None:
    """Add these runs to the store of a node that has stopped, each with its sum."""
    store = SqliteStore(folder)
    opened = store.open("benchmark", _never)
    (own,) = (member for member in vectors if member.endswith(f"~{opened.store}"))
    store.begin(vectors[own][-1], {})
    for member, of_member in vectors.items():
        for vector, counts in zip(of_member, runs(named, member), strict=True):
            rest = iter(counts.items())
            while some := dict(islice(rest, _ROWS_A_WRITE)):
                store.write({vector: some})
            total = sum_of(counts, lambda video: hash_of(video)[0])
            # It is closed, and nobody knows when it began.
            store.write({}, facts={sum_name(vector): encode_sum(*total), f"run:{vector}": "0 0"})
    store.close()


def _never() -> str:
    raise AssertionError("a node has used this store")
