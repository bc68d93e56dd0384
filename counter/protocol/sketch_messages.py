"""The words between nodes about viewers: sketches by day and video, and the questions for them."""

from typing import Annotated

from msgspec import Meta as Limit
from msgspec import Struct

from counter.crdt.ids import VIDEO
from counter.crdt.sketch_bytes import LONGEST

PAGE_BYTES = 48 * 1024
"""Of entries in one message."""
MAX_SEEN = 3_200
"""Recent viewers of a delta."""
SEEN_BYTES = 10
"""Of a recent viewer."""
MAX_SKETCHES = 64
"""Of a report in all its parts, or of a page."""
MAX_NAMED = PAGE_BYTES // 11 + 1
"""Of a page: the shortest name and its identity are taken for 12 bytes."""
MAX_BUCKETS = 8_192

Day = Annotated[int, Limit(ge=0, le=2**20)]
"""Of UTC, since 1970."""
VideoId = Annotated[str, Limit(pattern=rf"^{VIDEO}\Z")]
NoVideo = Annotated[str, Limit(pattern=rf"^({VIDEO})?\Z")]
"""A video, or "" for none."""
Identity = Annotated[int, Limit(ge=0, le=2**63 - 1)]
Sketch = Annotated[bytes, Limit(min_length=1, max_length=LONGEST)]
"""Who watched a video on a day; see `crdt/sketch.py`."""
Sketches = Annotated[dict[VideoId, Sketch], Limit(max_length=MAX_SKETCHES)]
SketchesByDay = Annotated[dict[Day, Sketches], Limit(max_length=MAX_SKETCHES)]
Seen = Annotated[bytes, Limit(max_length=SEEN_BYTES * MAX_SEEN)]
"""Recent viewers; see `node/recent.py`."""


class SketchesRequest(Struct, array_like=True, tag="ask sketches"):
    """A request for sketches of a day: those of `videos`.

    Without any, for the names of those that differ: `hashes` has 4 bytes for each bucket of what
    the sender holds, none if it holds nothing. Names after `after` are wanted.
    """

    day: Day
    hashes: Annotated[bytes, Limit(max_length=4 * MAX_BUCKETS)]
    after: NoVideo
    videos: Annotated[list[VideoId], Limit(max_length=MAX_SKETCHES)]


class SketchesPage(Struct, array_like=True, tag="sketches"):
    """Some sketches of a day that were asked for, or the names and identities of some.

    `next` is the name after which more follow, "" if none do.
    """

    day: Day
    named: Annotated[dict[VideoId, Identity], Limit(max_length=MAX_NAMED)]
    next: NoVideo
    sketches: Sketches
