"""What of a sentence for the operator everybody may read."""

import logging
from pathlib import Path

import pytest

from counter.log_limit import PER_MINUTE, LogLimit
from counter.web.hidden import hide
from lab.clients import fetch
from tests.nodes import mesh


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("kept as /srv/data/a.db.damaged-1; look", "kept as a.db.damaged-1; look"),
        ("RabbitMQ at broker.example:5672 refuses user 'c'", "RabbitMQ refuses user 'c'"),
        ("talk to RabbitMQ at 10.0.0.1:5672: no", "talk to RabbitMQ: no"),
        ("Redis at redis://[2001:db8::1]:6379 is gone", "Redis is gone"),
        ("see https://10.0.0.1:80 or ::1", "see an address or ::1"),
        ("The clock of counter1~ab.01b differs", "The clock of counter1~ab.01b differs"),
        ("flask cluster remove counter2~4kx.0", "flask cluster remove counter2~4kx.0"),
        ("write amqps:// for amqp://; since 12:30", "write amqps:// for amqp://; since 12:30"),
    ],
)  # fmt: skip
def test_paths_and_addresses_are_left_out(told: str, shown: str) -> None:
    assert hide(told) == shown


def test_the_cluster_page_shows_neither_paths_nor_addresses(tmp_path: Path) -> None:
    gone = "http://127.0.0.1:9"
    log = tmp_path / "counter1.log"
    with mesh(tmp_path / "node", VISIT_LOG=str(log), NODES=gone) as [node]:
        assert fetch(node.url, "/cluster")["log"]["path"] == "counter1.log"
        asked = fetch(node.url, "/cluster/counts?video=cats")["nodes"]
        assert [row["node"] for row in asked] == ["(unknown 1)", "counter1"]
        assert gone not in str(asked)


def lines(limit: LogLimit, number: int) -> int:
    """How many of so many lines of one kind are logged."""
    record = logging.LogRecord("x", logging.WARNING, "edge.py", 7, "refused %s", ("x",), None)
    return sum(limit.filter(record) for _ in range(number))


def test_a_kind_of_lines_is_logged_some_times_a_minute() -> None:
    now = 0.0
    limit = LogLimit(lambda: now)
    assert lines(limit, 100) == PER_MINUTE
    now = 59.0
    assert lines(limit, 1) == 0
    now = 61.0
    record = logging.LogRecord("x", logging.WARNING, "edge.py", 7, "refused %s", ("x",), None)
    assert limit.filter(record)
    assert record.getMessage() == f"refused x (and {101 - PER_MINUTE} lines left out)"
    other = logging.LogRecord("x", logging.WARNING, "edge.py", 8, "another", (), None)
    assert limit.filter(other)
