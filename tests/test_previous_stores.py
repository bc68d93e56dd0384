"""Stores that the version before has written, kept as files: they open here, and nothing is lost.

`python -m tests.test_previous_stores` writes them anew, by nodes of the packed version before.
"""

import json
import shutil
import tarfile
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

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


if __name__ == "__main__":
    write()
