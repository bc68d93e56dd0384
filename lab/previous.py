"""Versions before this one: packed into tests/previous, for nodes that run beside this one's.

`node.tar.xz` is the version before, `older.tar.xz` the last one that told every run by its name.
`python -m lab.previous COMMIT` packs what a node consists of at that commit as the version
before; do so after a release. The same commit always makes the same archive, byte by byte.
"""

import argparse
import io
import lzma
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

from lab.servers import ROOT
from lab.terminal import say

ARCHIVE = ROOT / "tests/previous/node.tar.xz"
OLDER = ARCHIVE.with_name("older.tar.xz")
PARTS = ("app.py", "gunicorn.conf.py", "counter", "templates", "static")
_LEFT_OUT = (".webm", ".mp4", ".webp", ".jpg")
"""Pictures and clips: large, and no node needs them to count."""


def pack(commit: str) -> Path:
    """Pack a commit of this repository. Raises `CalledProcessError` for one that is not there."""
    git = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, *PARTS]
    whole = subprocess.run(git, check=True, capture_output=True).stdout
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(whole)) as source,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for member in source:
            if member.isfile() and PurePosixPath(member.name).suffix not in _LEFT_OUT:
                plain = tarfile.TarInfo(member.name)
                plain.size, plain.mtime = member.size, member.mtime
                target.addfile(plain, source.extractfile(member))
    ARCHIVE.write_bytes(lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    return ARCHIVE


def unpack(folder: Path, archive: Path = ARCHIVE) -> Path:
    """Unpack a version into a folder, which is then the `root` of its nodes."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder


def main() -> int:
    """Pack the commit that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m lab.previous", description=__doc__)
    parser.add_argument("commit", help="the last one of the version before")
    archive = pack(parser.parse_args().commit)
    say(f"{archive.relative_to(ROOT)}: {archive.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
