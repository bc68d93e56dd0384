"""The ids of many videos and their rows, in a few flat arrays: 28 bytes for one of 11 characters.

A `dict` and a `list` of strings take 140. Here the ids stand one behind the other in one text, and
a hash table of rows finds them: extendible hashing (Fagin, Nievergelt, Pippenger, Strong:
*Extendible hashing*, 1979). A full page of the table is split in two, so nothing is ever hashed
anew as a whole, and no step grows with the number of videos.

The table is keyed by Python's own hash of strings, which each process salts anew, so nobody can
choose ids that collide. Whatever it finds is compared with the id itself: a collision costs time
and nothing else.

Pure: no I/O, no clock, no lock. This module imports numpy, which takes 0.1 s and 17 MB, so it is
imported only where there are many videos.
"""

from array import array
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Rows of the index; -1 is none."""
Text = NDArray[np.uint8]
Tags = NDArray[np.int64]
Truths = NDArray[np.bool]
Read = tuple[Text, Rows, Rows]
"""Ids one behind the other, where each begins, and how many bytes it has with its NUL."""

_Parts = tuple[
    Callable[[str], int], int, int,
    "array[int]", "array[int]", "array[int]", "array[int]", bytearray,
]  # fmt: skip

_TAG = 2**32 - 1
_WORD = 8
_FEW = 32


class Index:
    """Ids by row, and rows by id."""

    tag_of: Callable[[str], int] = hash
    """The hash of an id; 32 bits of it are its tag."""
    page = 2**8
    """The slots of a page, a power of two."""
    deepest = 23
    """A page is not split by more bits than these: then too many ids have the same tag."""

    __slots__ = ("_asked", "_crowded", "_depth", "_depths", "_directory", "_filled", "_parts",
                 "_prefixes", "_slots", "_starts", "_tags", "_text")  # fmt: skip

    def __init__(self) -> None:
        self._text = bytearray()
        """All ids in UTF-8, each with a NUL at its end."""
        self._starts = array("I", [0])
        """Where each id begins, and the end of the text."""
        self._tags = array("I")
        self._slots = array("I", bytes(4 * self.page))
        """Page by page, at the place that a tag's low bits tell or behind it: a row + 1, or 0."""
        self._filled = array("I", [0])
        self._depths = [0]
        """How many high bits of their tags all ids of a page have in common."""
        self._prefixes = [0]
        """Those bits."""
        self._depth = 0
        self._directory = array("I", [0])
        """The first slot of the page for each value of a tag's `_depth` high bits."""
        self._asked: tuple[Sequence[str], Tags] | None = None
        """What was looked for last, and its tags."""
        self._crowded: dict[str, int] = {}
        """Ids for which there was no room among those of the same tag."""
        self._parts: _Parts
        """What `find` looks at: one tuple is quicker than eight attributes."""
        self._gather()

    def __len__(self) -> int:
        """How many ids there are."""
        return len(self._tags)

    # -- one id

    def find(self, video: str) -> int | None:
        """The row of an id, None if it has none."""
        tag_of, shift, mask, directory, slots, tags, starts, text = self._parts
        tag = tag_of(video) & _TAG
        place = directory[tag >> shift] + (tag & mask)
        while above := slots[place]:
            row = above - 1
            if tags[row] == tag:
                try:
                    if text[starts[row] : starts[above] - 1] == video.encode():
                        return row
                except UnicodeEncodeError:
                    return None
            place = place & ~mask | place + (tag >> 8 & 255 | 1) & mask
        return self._crowded.get(video) if self._crowded else None

    def _gather(self) -> None:
        """Have `find` look at what is there now, after one of these was replaced."""
        self._parts = (
            self.tag_of, 32 - self._depth, self.page - 1,
            self._directory, self._slots, self._tags, self._starts, self._text,
        )  # fmt: skip

    def name(self, row: int) -> str:
        """The id of a row."""
        return self._text[self._starts[row] : self._starts[row + 1] - 1].decode()

    # -- many ids

    def find_many(self, videos: Sequence[str]) -> Rows:
        """The row of each id, -1 where it has none."""
        if not videos:
            return np.zeros(0, np.int64)
        read = _read(videos)
        if read is None:
            # A NUL in an id: such ids are none of videos, but they are not mistaken for any.
            return np.array([_or_none(self.find(video)) for video in videos], np.int64)
        text, begins, sizes = read
        tags = self._tags_of(videos)
        self._asked = videos, tags
        slots, known = np.asarray(self._slots), np.asarray(self._tags)
        first = self._firsts(tags)
        places = tags & self.page - 1
        above = slots[first + places]
        # Where a slot is empty this looks at some row, which does not matter.
        same = known[above.astype(np.int64) - 1] == tags if len(known) else above < 0
        rows = above.astype(np.int64) - 1
        rows[~same] = -1
        at = np.flatnonzero(rows >= 0)
        at = at[~self._are(rows[at], text, begins[at], sizes[at])]
        rows[at] = -1
        left = np.flatnonzero(above > 0)
        left = left[rows[left] < 0]
        left = self._find_behind(left, rows, tags, first, places, read)
        # The last of them would be led far: they are there sooner one by one.
        for place in left.tolist():
            rows[place] = _or_none(self.find(videos[place]))
        if self._crowded:
            for place in np.flatnonzero(rows < 0).tolist():
                rows[place] = self._crowded.get(videos[place], -1)
        return rows

    def names(self, rows: Sequence[int] | Rows) -> list[str]:
        """The id of each of these rows."""
        rows = np.asarray(rows, np.int64)
        starts = np.asarray(self._starts)
        begins = starts[rows].astype(np.int64)
        text = np.asarray(self._text)[_ranges(begins, starts[rows + 1] - begins)]
        names = text.tobytes().decode().split("\0")
        if len(names) == len(rows) + 1:
            return names[:-1]
        return [self.name(row) for row in rows.tolist()]

    def text(self, rows: Rows) -> bytes:
        """The ids of these rows in UTF-8, in ascending order and each with a NUL at its end."""
        starts = np.asarray(self._starts)
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1:
            return self.between(int(rows[0]), int(rows[-1]) + 1)
        starts = np.asarray(self._starts)
        begins = starts[rows].astype(np.int64)
        text = np.asarray(self._text)[_ranges(begins, starts[rows + 1] - begins)]
        return text.tobytes()

    def between(self, first: int, end: int) -> bytes:
        """The same of all rows from one to another."""
        return bytes(memoryview(self._text)[self._starts[first] : self._starts[end]])

    def follow(self, first: int, size: int, text: bytes) -> bool:
        """Whether the ids of so many rows from the first one on are this text."""
        if first + size > len(self):
            return False
        begin, end = self._starts[first], self._starts[first + size]
        return end - begin == len(text) and self._text[begin:end] == text

    def lengths(self, rows: Rows) -> Rows:
        """How many bytes the id of each of these rows has."""
        starts = np.asarray(self._starts)
        sizes: Rows = starts[rows + 1].astype(np.int64) - starts[rows] - 1
        return sizes

    def add(self, videos: Sequence[str]) -> None:
        """Give a row to each of these ids, in this order; none has one, nor is there twice."""
        if not videos:
            return
        read, text = _read(videos), _joined(videos)
        if read is None:
            ends = np.cumsum([len(_joined([video])) for video in videos])
        else:
            ends = read[1] + read[2]
        ends += len(self._text)
        if self._starts.typecode == "I" and len(self._text) + len(text) > _TAG:
            self._starts = array("Q", self._starts)
            self._gather()
        before = len(self)
        # Often these are what was looked for last.
        asked, self._asked = self._asked, None
        tags = asked[1] if asked and asked[0] is videos else self._tags_of(videos)
        self._text += text
        self._starts.frombytes(ends.astype(self._starts.typecode).tobytes())
        self._tags.frombytes(tags.astype(np.uint32).tobytes())
        rows = np.arange(before, before + len(videos))
        pages = self._make_room(tags)
        incoming = np.bincount(pages, minlength=len(self._filled))
        for page in np.flatnonzero(np.asarray(self._filled) + incoming >= self.page).tolist():
            # Split as often as it may be: these ids have the same tag. One slot stays empty.
            room = self.page - 1 - self._filled[page]
            for at in np.flatnonzero(pages == page)[room:].tolist():
                self._crowded[videos[at]] = before + at
                pages[at] = -1
        fits = pages >= 0
        self._insert(rows[fits], tags[fits], pages[fits])

    # -- the table

    def _tags_of(self, videos: Sequence[str]) -> Tags:
        tags: Tags = np.fromiter(map(self.tag_of, videos), np.int64, len(videos)) & _TAG
        return tags

    def _firsts(self, tags: Tags) -> Rows:
        """The first slot of the page that each tag belongs to."""
        firsts: Rows = np.asarray(self._directory)[tags >> 32 - self._depth].astype(np.int64)
        return firsts

    def _pages(self, tags: Tags) -> Rows:
        """The page that each tag belongs to."""
        return self._firsts(tags) // self.page

    def _find_behind(
        self, left: Rows, rows: Rows, tags: Tags, first: Rows, places: Rows, read: "Read"
    ) -> Rows:
        """Put the rows of those `left` into `rows`: they are behind a slot that another id has.

        Returns those that are left when they are few.
        """
        slots, known = np.asarray(self._slots), np.asarray(self._tags)
        text, begins, sizes = read
        steps = _steps(tags)
        while len(left) > _FEW:
            found = []
            while len(left) > _FEW:
                place = places[left] + steps[left] & self.page - 1
                places[left] = place
                above = slots[first[left] + place].astype(np.int64) - 1
                taken = above >= 0
                same = (known[above] == tags[left]) & taken
                here = left[same]
                rows[here] = above[same]
                found.append(here)
                left = left[taken & ~same]
            at = np.concatenate(found)
            wrong = at[~self._are(rows[at], text, begins[at], sizes[at])]
            rows[wrong] = -1
            left = np.concatenate((left, wrong))
        return left

    def _are(self, rows: Rows, text: Text, begins: Rows, sizes: Rows) -> Truths:
        """Whether the id in each of these rows is the one that begins there, byte by byte."""
        starts, texts = np.asarray(self._starts), np.asarray(self._text)
        theirs = starts[rows].astype(np.int64)
        same: Truths = starts[rows + 1] - theirs == sizes
        if not same.all():
            theirs, begins, sizes = theirs[same], begins[same], sizes[same]
        if not len(sizes):
            return same
        if sizes.min() >= _WORD and sizes.max() <= 2 * _WORD:
            # Two words cover the whole of each.
            words, asked = _words(texts), _words(text)
            equal = words[theirs] == asked[begins]
            last = sizes - _WORD
            equal &= words[theirs + last] == asked[begins + last]
            same[same] = equal
            return same
        bytes_are = texts[_ranges(theirs, sizes)] == text[_ranges(begins, sizes)]
        if not bytes_are.all():
            same[same] = np.logical_and.reduceat(bytes_are, np.cumsum(sizes) - sizes)
        return same

    def _make_room(self, tags: Tags) -> Rows:
        """Split pages until all of these tags have room; return the page of each."""
        full = self.page * 5 // 8
        while True:
            pages = self._pages(tags)
            incoming = np.bincount(pages, minlength=len(self._filled))
            over = np.flatnonzero(np.asarray(self._filled) + incoming > full).tolist()
            over = [page for page in over if self._depths[page] < self.deepest]
            if not over:
                return pages
            self._split(over)

    def _split(self, pages: list[int]) -> None:
        """Of the ids in each of these pages move those to a new page whose tags' next bit is set.

        The first of those bits that all ids of a page have in common are its prefix.
        """
        for page in pages:
            if self._depths[page] == self._depth:
                self._directory = array("I", np.repeat(np.asarray(self._directory), 2).tobytes())
                self._depth += 1
                self._gather()
            self._depths[page] += 1
            self._prefixes[page] *= 2
            new, deeper = len(self._depths), self._depth - self._depths[page]
            self._depths.append(self._depths[page])
            self._prefixes.append(self._prefixes[page] + 1)
            np.asarray(self._directory)[
                self._prefixes[new] << deeper : self._prefixes[new] + 1 << deeper
            ] = new * self.page
        self._slots.frombytes(bytes(4 * self.page * len(pages)))
        self._filled.frombytes(bytes(4 * len(pages)))
        by_page = np.asarray(self._slots).reshape(-1, self.page)
        above = by_page[pages].ravel()
        by_page[pages] = 0
        np.asarray(self._filled)[pages] = 0
        del by_page
        rows = above[above > 0].astype(np.int64) - 1
        tags = np.asarray(self._tags)[rows].astype(np.int64)
        self._insert(rows, tags, self._pages(tags))

    def _insert(self, rows: Rows, tags: Tags, pages: Rows) -> None:
        """Put rows into pages that have room for them."""
        filled, slots = np.asarray(self._filled), np.asarray(self._slots)
        filled += np.bincount(pages, minlength=len(filled)).astype(np.uint32)
        first, places, above = pages * self.page, tags & self.page - 1, rows + 1
        steps = _steps(tags)
        while len(above) > _FEW:
            at = first + places
            free = slots[at] == 0
            slots[at[free]] = above[free]
            # Of several for one slot the last is there now.
            left = slots[at] != above
            first, above, steps = first[left], above[left], steps[left]
            places = places[left] + steps & self.page - 1
        # The last ones are led far: one by one they are there sooner.
        lists = (first.tolist(), places.tolist(), steps.tolist(), above.tolist())
        for begin, place, step, row in zip(*lists, strict=True):
            while self._slots[begin + place]:
                place = place + step & self.page - 1
            self._slots[begin + place] = row


def _joined(videos: Sequence[str]) -> bytes:
    return ("\0".join(videos) + "\0").encode() if videos else b""


def _read(videos: Sequence[str]) -> Read | None:
    """Ids as a text; None if there is a NUL in one of them."""
    text = np.frombuffer(_joined(videos), np.uint8)
    ends = np.flatnonzero(text == 0) + 1
    if len(ends) != len(videos):
        return None
    begins = np.zeros_like(ends)
    begins[1:] = ends[:-1]
    return text, begins, ends - begins


def _or_none(row: int | None) -> int:
    return -1 if row is None else row


def _steps(tags: Tags) -> Tags:
    """How far to go from a slot that is taken: odd, so that it leads through the whole page."""
    return tags >> 8 & 255 | 1


def _words(text: Text) -> NDArray[np.uint64]:
    """The eight bytes from each position of a text on, as one number."""
    return np.ndarray((len(text) - _WORD + 1,), np.uint64, text, strides=(1,))


def _ranges(begins: Rows, sizes: Rows) -> Rows:
    """The positions of pieces of a text, one piece behind the other."""
    ends = np.cumsum(sizes)
    places = np.repeat(begins - ends + sizes, sizes)
    places += np.arange(len(places))
    return places
