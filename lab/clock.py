"""A wall clock that a test can set: that of real processes, while the machine's own stays right.

The shift lies in a file that is mapped into those processes (`tests/clock_shim.c`), so it takes
effect at once, in all of them. Standard library and a C compiler.
"""

import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab.servers import ROOT, Node, StartError

SOURCE = ROOT / "tests" / "clock_shim.c"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
STEPS = (-20.0, 20.0, -2 * HOUR, 10 * DAY, -10 * DAY)
"""Seconds: what befalls wall clocks, from NTP's own steps to a machine that was asleep."""


class Clock:
    """The wall clock of the processes that are started with its `environment`.

    Several may share one, as the nodes of one machine do. Its files lie in `folder`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder.resolve() / "clock"
        self._library = folder.resolve() / "clock_shim.so"
        self.shift = 0.0
        self.set(0.0)
        _compile(self._library)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to live by this clock."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_SHIM": str(self._file)}

    def set(self, shift: float) -> None:
        """Set it so many seconds ahead of the machine's own; less than 0 is behind."""
        self.shift = shift
        content = struct.pack("=q", round(shift * 1e9))
        if self._file.exists():
            # In place: who has mapped it would not see another file.
            with self._file.open("r+b") as file:
                file.write(content)
        else:
            self._file.write_bytes(content)

    def step(self, seconds: float) -> None:
        """Set it forward, or back."""
        self.set(self.shift + seconds)


class ClockedNode(Node):
    """A node with a wall clock of its own: `clock`."""

    def __init__(
        self,
        folder: Path,
        name: str,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(folder, name, port, settings)
        self.clock = clock or Clock(folder)

    def environment(self) -> dict[str, str]:
        return super().environment() | self.clock.environment


def _compile(library: Path) -> None:
    """Make the library from its source."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise StartError("no C compiler: tools/install.sh gcc installs one")
    arguments = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library)]
    done = subprocess.run(
        [compiler, *arguments, str(SOURCE), "-ldl"], capture_output=True, text=True
    )
    if done.returncode:
        raise StartError(f"{SOURCE.name} does not compile:\n{done.stderr}")
