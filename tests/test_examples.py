"""The examples run as they are, and show what they say."""

import subprocess
import sys
from pathlib import Path

MINI = Path(__file__).parents[1] / "examples" / "mini.py"


def test_three_nodes_count_are_split_and_heal(tmp_path: Path) -> None:
    command = [sys.executable, str(MINI)]
    shown = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    head, *lines = shown.stdout.splitlines()
    assert head.split() == ["node1", "node2", "node3"]
    numbers = [[int(number) for number in line.split()[-3:]] for line in lines]
    assert numbers == [[3, 2, 1], [6, 6, 6], [26, 26, 11], [26, 26, 11], [31, 31, 31]]
    assert shown.stderr == ""
