"""A wall clock for real processes that a test can set; the machine's own clock stays right.

The shift is in a file that is mapped into those processes (`tests/clock_shim.c`), so a change
takes effect at once in all of them. Needs a C compiler.
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
"""Steps of wall clocks in seconds, from those of NTP to that of a machine that was asleep."""


class Clock:
    """The wall clock of all processes that are started with its `environment`.

    Several processes may share one, as the nodes of one machine do. Its files are in `folder`.
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
        """The environment variables that make a process use this clock."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_SHIM": str(self._file)}

    def set(self, shift: float) -> None:
        """Set it `shift` seconds ahead of the machine's clock; a negative shift is behind it."""
        self.shift = shift
        content = struct.pack("=q", round(shift * 1e9))
        if self._file.exists():
            # Written in place: processes that have mapped this file would not see a new one.
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
    """Compile the library. Raises `StartError`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise StartError("no C compiler: tools/install.sh gcc installs one")
    arguments = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library)]
    done = subprocess.run(
        [compiler, *arguments, str(SOURCE), "-ldl"], capture_output=True, text=True
    )
    if done.returncode:
        raise StartError(f"{SOURCE.name} does not compile:\n{done.stderr}")
