"""Extracts as they come from others: checked as strictly as counts one by one, but all at once.

Pure: no I/O, no clock.
"""

from itertools import islice

from counter.crdt.extract import Extract
from counter.crdt.gcounter import MAX_COUNT
from counter.protocol.checks import are_sound, is_row
from counter.protocol.entries import Refused

MAX_EXTRACT = 5_000
"""Of an extract: new videos take the receiver some 8 ms, and known ones 2."""
EXTRACT_BYTES = 96 * 1024
"""Of its entries, each count taken for eight bytes."""


def read(text: bytes, counts: bytes, refused: Refused) -> Extract:
    """Read an extract; tell `refused` each entry that is wrong, and leave it out.

    Raises ValueError if text and counts do not fit together, or if no entry is right.
    """
    extract = Extract.unpack(text, counts)
    if _is_right(extract):
        return extract
    right: dict[str, int] = {}
    videos = text.decode(errors="replace").split("\0")
    for video, count in islice(zip(videos, extract.counts, strict=False), MAX_EXTRACT):
        if not is_row(video):
            refused(f"{video[:80]!r}: no video, nor any other key")
        elif not 1 <= count <= MAX_COUNT:
            refused(f"{video[:80]!r}: {count} is no count; they are from 1 to {MAX_COUNT}")
        elif video in right:
            refused(f"{video[:80]!r}: told twice")
        else:
            right[video] = count
    for _ in range(len(extract) - MAX_EXTRACT):
        refused(f"one of {len(extract)} entries, of which {MAX_EXTRACT} are taken")
    if not right:
        raise ValueError("nothing of it is right")
    return Extract.of(list(right), list(right.values()))


def _is_right(extract: Extract) -> bool:
    """Whether nothing is wrong with any entry."""
    if not extract:
        return True
    if len(extract) > MAX_EXTRACT or not extract.text.isascii():
        return False
    videos = extract.videos
    return are_sound(videos, extract.counts) and len(set(videos)) == len(extract)
