"""A process of this package that is told one line at a time, and answers each with one of JSON."""

import json
import subprocess
import sys
from typing import Any

from lab.servers import ROOT


class Child:
    """Runs a module of this package until `close`, or until this process ends."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: str) -> Any:
        """Tell it a line and return its answer. Raises EOFError when it has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise EOFError(f"{self._module} died with status {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """End it, by force if it does not leave by itself."""
        try:
            # Without questions to come it ends.
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
