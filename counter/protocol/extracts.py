"""Extracts as they come from others: checked as strictly as counts one by one, but all at once.

Pure: no I/O, no clock.
"""

from itertools import islice

from counter.crdt.extract import Extract
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.narrow import unpack
from counter.protocol.checks import are_sound, is_row
from counter.protocol.entries import Refused

MAX_EXTRACT = 5_000
"""Of an extract: new videos take the receiver some 8 ms, and known ones 2."""
EXTRACT_BYTES = 96 * 1024
"""Of its entries, each count taken for eight bytes."""
MAX_ROWS = 16_000
"""Of a page by rows, to who has many videos: its counts take the receiver some 4 ms."""
DIGEST_BYTES = 16
NOT_READ = b"not read"
"""In the place of a digest, which has another length: something is wrong with the page."""


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


def wrong_ids(text: bytes) -> str:
    """What is wrong with the ids of rows, each with a NUL at its end; "" if nothing is."""
    if not text:
        return ""
    if text[-1] or not text.isascii():
        return "ids of rows that are no text"
    videos = text.decode().split("\0")[:-1]
    if len(videos) > MAX_EXTRACT:
        return f"{len(videos)} ids of rows, and {MAX_EXTRACT} are the most"
    if not are_sound(videos, (1,)):
        wrong = next(video for video in videos if not is_row(video))
        return f"{wrong[:80]!r}: no video, nor any other key"
    return "" if len(set(videos)) == len(videos) else "a video that has two rows"


def wrong_rows(size: int, gaps: bytes, counts: bytes, rows: int) -> str:
    """What is wrong with counts by rows, of which there are so many; "" if nothing is."""
    try:
        between, counted = unpack(gaps, size), unpack(counts, size)
    except ValueError as error:
        return str(error)
    if size and (sum(between) >= rows or 0 in between[1:]):
        return "counts of rows that were not told"
    if size and not 1 <= min(counted) <= max(counted) <= MAX_COUNT:
        return f"{min(counted)} or {max(counted)} is no count; they are from 1 to {MAX_COUNT}"
    return ""


def _is_right(extract: Extract) -> bool:
    """Whether nothing is wrong with any entry."""
    if not extract:
        return True
    if len(extract) > MAX_EXTRACT or not extract.text.isascii():
        return False
    videos = extract.videos
    return are_sound(videos, extract.counts) and len(set(videos)) == len(extract)
