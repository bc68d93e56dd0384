"""Stores that the version before has written, kept as files: they open here, and nothing is lost.

`python -m tests.test_previous_stores` writes them anew, by nodes of the packed version before;
those of an earlier format, which were in the middle of a fold, stay as they are.
"""

import json
import shutil
import sqlite3
import tarfile
import tempfile
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as Client

from lab.clients import until
from lab.previous import ARCHIVE, unpack
from lab.servers import Node, Redis, free_port
from tests.test_upgrade import (
    FOLLOWER,
    PATIENCE,
    POSTED,
    SERVED,
    SETTINGS,
    VIDEOS,
    counters,
    folding,
    members,
    post,
    show,
    visit,
    written_before,
)

STORES = ARCHIVE.with_name("stores.tar.xz")
FOLDING = ARCHIVE.with_name("folding.tar.xz")
"""Of format 3, by the program that lies in it."""
KINDS = {"SQLite": FOLLOWER, "Redis": SERVED}
"""In `stores.tar.xz` each kind has a folder, and what its node has shown is in `shown.json`."""


def write() -> None:
    """Have nodes of the version before write both stores, and pack them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with written_before(folder / "nodes", unpack(folder / "code")) as before:
            shown = {
                kind: {
                    "counters": before.counters[node],
                    "members": before.members[node],
                    "closed": before.closed[node],
                }
                for kind, node in KINDS.items()
            }
        packed = folder / "stores"
        (packed / "SQLite").mkdir(parents=True)
        for path in (folder / "nodes" / FOLLOWER).glob("counter.*"):
            shutil.copy(path, packed / "SQLite")
        shutil.copytree(
            folder / "nodes" / "redis" / "appendonlydir", packed / "Redis/appendonlydir"
        )
        (packed / "shown.json").write_text(json.dumps(shown, indent=1, sort_keys=True))
        with tarfile.open(STORES, "w:xz") as archive:
            archive.add(packed, ".")


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_the_version_before_has_written_goes_on(tmp_path: Path, kind: str) -> None:
    with tarfile.open(STORES) as archive:
        archive.extractall(tmp_path, filter="data")
    shown = json.loads((tmp_path / "shown.json").read_text())[kind]
    redis, node = Redis(tmp_path / "Redis"), Node(tmp_path / kind, KINDS[kind], free_port(), {})
    node.settings = dict(SETTINGS)
    if kind == "Redis":
        redis.start()
        node.settings["REDIS_URI"] = redis.uri
    try:
        node.start()
        node.wait_ready()
        assert counters(node, list(shown["counters"])) == shown["counters"]
        assert {name: list(both) for name, both in members(node).items()} == shown["members"]
        # What had ended rests under its name, and so does the run that wrote the store.
        assert folding(node) == (shown["closed"] + 1, 0)
        for video in POSTED:
            assert post(node, video, f"key-of-{video}") == 200, "it was counted, and is known"
        expected = Counter({v: sum(counts.values()) for v, counts in shown["counters"].items()})
        expected += visit(node, VIDEOS)
        until(partial(show, [node], expected), PATIENCE, "it counts on")
        node.kill()
        node.start()
        node.wait_ready()
        assert show([node], expected)
    finally:
        node.kill()
        redis.kill()


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_format_3_that_was_in_the_middle_of_a_fold_goes_on(
    tmp_path: Path, kind: str
) -> None:
    with tarfile.open(FOLDING) as archive:
        archive.extractall(tmp_path, filter="data")
    shown = json.loads((tmp_path / "shown.json").read_text())[kind]
    redis, node = Redis(tmp_path / "Redis"), Node(tmp_path / "SQLite", "node", free_port(), {})
    node.settings = dict(SETTINGS)
    if kind == "Redis":
        redis.start()
        node.settings["REDIS_URI"] = redis.uri
    try:
        for _ in range(2):
            node.start()
            node.wait_ready()
            assert counters(node, list(shown)) == shown
            node.kill()
        vectors = kept(node, redis, kind)
        # The whole folded vector, and no rows of the one that was being written.
        [folded] = [vector for vector in vectors if "@" in vector]
        assert folded.endswith("@")
        assert sum(vector.startswith("other~") for vector in vectors) == 3
    finally:
        node.kill()
        redis.kill()


def kept(node: Node, redis: Redis, kind: str) -> list[str]:
    """The vectors in a store, as they are named there."""
    if kind == "Redis":
        with closing(Client.from_url(redis.uri, decode_responses=True)) as client:
            found: Any = client.smembers("counter:node:vectors")
            return sorted(found)
    with closing(sqlite3.connect(node.folder / "counter.sqlite")) as db:
        names = [name for (name,) in db.execute("SELECT vector FROM vectors")]
    return [name for name in names if not name.startswith("dropped")]


if __name__ == "__main__":
    write()
