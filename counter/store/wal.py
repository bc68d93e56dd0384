"""What SQLite does not tell: whether it left commits in its write-ahead log unread.

SQLite reads the log up to the first frame whose checksum is wrong, which after a crash is the one
that was being written. In a damaged log it may be any, and what was committed after it is lost
without a word. (Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log)
"""

from pathlib import Path
from struct import Struct

_HEADER = Struct(">8I")
_FRAME = Struct(">6I")
_WORDS = 6
"""Of the header, which its checksum is over."""
UNREADABLE = -1


def commits(path: Path) -> int:
    """The number of the last frame that ends a commit, whether its checksum is right or not.

    0 without a log, `UNREADABLE` if its header is damaged.
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
    """Whether the header of a log is as it was written."""
    if magic not in (0x377F0682, 0x377F0683):
        return False
    words = Struct(("<", ">")[magic & 1] + f"{_WORDS}I").unpack(header[: 4 * _WORDS])
    first = second = 0
    for at in range(0, _WORDS, 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return _HEADER.unpack(header)[_WORDS:] == (first, second)
