"""An operator, who corrects numbers at nodes, and knows what must be on record."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from chaos.classes import Classes
from lab.clients import Client, fetch, until
from lab.servers import Node

TOKEN = "of-the-operator"  # noqa: S105 - of nodes on loopback
LABEL = "ops"

Record = dict[str, Any]


def withdrawn(records: Iterable[Record]) -> int:
    """How many visits of a video its records withdraw: the rule, written down once more."""
    entries: dict[str, list[tuple[int, int]]] = {}
    for record in records:
        for member, (take, seen) in record.get("takes", {}).items():
            entries.setdefault(member, []).append((seen, take))
    total = 0
    for of_member in entries.values():
        taken = 0
        for seen, take in sorted(of_member):
            taken = min(taken + take, seen)
        total += taken
    return total


class Operator:
    """Makes corrections, one after the other, and says so in words.

    It tells the books which videos are blocked.
    """

    def __init__(self, nodes: list[Node], books: Classes, say: Callable[[str], None]) -> None:
        self.records: dict[str, Record] = {}
        """What was answered, by id."""
        self._nodes, self._books, self._say = nodes, books, say
        self._blocked: dict[str, bool] = {}

    def withdraw(self, node: Node, video: str, number: int | str, key: str = "") -> Record:
        """Withdraw visits; with a key that was used before, find the same record."""
        return self._correct(node, {"video": video, "withdraw": number}, key)

    def block(self, node: Node, video: str, *, blocked: bool = True) -> None:
        """Block a video, or unblock it. Until `settle` nobody can say at which node it is."""
        self._books.blocks[video] = None
        # The last one by time wins, which is told in ms.
        time.sleep(0.002)
        self._correct(node, {"video": video, "block": blocked})
        self._blocked[video] = blocked

    def settle(self) -> None:
        """Wait until all nodes know of each block."""
        for video, blocked in self._blocked.items():
            what = f"{video} is {'' if blocked else 'not '}blocked at every node"
            until(partial(self._is, video, blocked), 30, what)
            self._books.blocks[video] = blocked
        self._blocked.clear()

    def _is(self, video: str, blocked: bool) -> bool:
        """Whether a video is blocked at all nodes, or at none."""
        shown = [fetch(node.url, f"/count/{video}") for node in self._nodes]
        return all(counter.get("blocked", False) is blocked for counter in shown)

    def of(self, video: str) -> list[Record]:
        """The records of a video."""
        return [record for record in self.records.values() if record["video"] == video]

    def _correct(self, node: Node, what: Mapping[str, object], key: str = "") -> Record:
        reason = f"tried at {node.name}" if not key else "tried with a key"
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        headers |= {"Idempotency-Key": key} if key else {}
        body = json.dumps({**what, "reason": reason}).encode()
        with Client(node.url) as client:
            status, answer = client.ask("POST", "/corrections", headers, body)
        assert status in (200, 201), (node.name, what, status, answer)
        record: Record = json.loads(answer)
        known = self.records.get(record["id"])
        self.records[record["id"]] = joined(known, record) if known else record
        number = f" {record['withdraw']}" if "withdraw" in record else ""
        self._say(
            f"{node.name}: {record['act']}{number} of {record['video']}"
            + (f", key {key}" if key else "")
            + (", as before" if status == 200 else "")
        )
        return record


def joined(one: Record, other: Record) -> Record:
    """What two answers under one id become: the larger takes, and the earlier of both times."""
    both = min((one, other), key=lambda record: (record["at"], record["by"]))
    if "takes" not in one:
        return both
    takes = {
        member: [max(pair) for pair in zip(*entries, strict=True)]
        for member in sorted({*one["takes"], *other["takes"]})
        if (entries := [r["takes"][member] for r in (one, other) if member in r["takes"]])
    }
    return both | {"takes": takes, "withdraw": sum(take for take, _ in takes.values())}


def listed(node: Node) -> list[Record]:
    """The records that a node lists, which are fewer than one answer holds."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with Client(node.url) as client:
        status, answer = client.ask("GET", "/corrections", headers)
    assert status == 200, (node.name, status, answer)
    content = json.loads(answer)
    assert "next" not in content, "more records than one answer lists"
    records: list[Record] = content["corrections"]
    return records
