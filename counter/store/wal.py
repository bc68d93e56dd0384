"""Finds out whether SQLite left commits in its write-ahead log unread, which it does not report.

SQLite reads the log up to the first frame with a wrong checksum, which after a crash is the one
that was being written. In a damaged log it may be any frame, and all commits after it are silently
lost. (Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log)
"""

from pathlib import Path
from struct import Struct

_HEADER = Struct(">8I")
_FRAME = Struct(">6I")
_WORDS = 6
"""Words of the header that its checksum covers."""
UNREADABLE = -1


def commits(path: Path) -> int:
    """The number of the last frame that ends a commit, even if its checksum is wrong.

    0 without a log, `UNREADABLE` if the header is damaged.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_HEADER.size)
            if len(raw) < _HEADER.size:
                return 0
            magic, _, page, _, *salts, _, _ = _HEADER.unpack(raw)
            if not _is_whole(raw, magic):
                return UNREADABLE
            size, last, number = path.stat().st_size, 0, 1
            for at in range(_HEADER.size, size - _FRAME.size - page + 1, _FRAME.size + page):
                file.seek(at)
                _, commit, *found, _, _ = _FRAME.unpack(file.read(_FRAME.size))
                if commit and found == salts:
                    last = number
                number += 1
            return last
    except FileNotFoundError:
        return 0


def _is_whole(header: bytes, magic: int) -> bool:
    """Whether the checksum of the header is right."""
    if magic not in (0x377F0682, 0x377F0683):
        return False
    words = Struct(("<", ">")[magic & 1] + f"{_WORDS}I").unpack(header[: 4 * _WORDS])
    first = second = 0
    for at in range(0, _WORDS, 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return _HEADER.unpack(header)[_WORDS:] == (first, second)
