"""The visit log that nginx writes: its files, and the visits in their lines.

A line is `time connection.request video` (`log_format visit` in balancer/nginx.conf). Before the
time, `bot` or `library` says what the visitor's agent calls itself; then the number begins with 0.
The version before counts such a line as any other, and recognizes a file by the same line.

A file is identified by its first whole line, which no other file has. So it is the same file under
another name, and another file after it was truncated and written anew.

Calls may come from one thread at a time, except for `unread`. They read small pieces of a file that
was just written. If there is much to read, `offload` keeps the disk from blocking the loop.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from counter.crdt.ids import VIDEO
from counter.node.agents import Kind
from counter.node.turns import Turns
from counter.protocol.positions import Position
from counter.store.contract import Offload, run_here

_TIME, _NUMBER, _WORD = r"[0-9]{10}\.[0-9]{3}", r"[0-9]+\.[0-9]+", r"[A-Za-z0-9._~-]{1,128}"
_first_line = re.compile(rf"({_TIME}) {_NUMBER} {_WORD}\n".encode()).search
_timed_lines = re.compile(rf"({_TIME}) {_NUMBER} {_WORD}\n".encode()).finditer
# Not anchored at the beginning of a line: if nginx left half a line, because it died or the disk
# was full, the next one is glued to it. Only a whole line ends like this.
_videos = re.compile(rf"{_TIME} {_NUMBER} ({VIDEO})\n").findall

# Without the 0, the word was cut off from another line.
_named = re.compile(rf"(bot|library) {_TIME} 0{_NUMBER} ({VIDEO})\n").findall

_KINDS: dict[str, Kind] = {"bot": "crawler", "library": "library"}

_HEAD = 512
_MAX_JUNK = 1024 * 1024
"""Most bytes before the first whole line of a visit log."""
_TAIL = 512
"""Bytes; more than a whole line has."""
_SLICE = 128 * 1024
"""Bytes that are counted without a pause: some 4,000 lines, or 1 ms."""
_PIECE = 4 * 1024 * 1024
_VIDEOS = 4_000
"""A piece ends with the slice in which it reaches so many videos. Each video is a row to write and
to show, which is not interrupted."""
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z", ".zip", ".tmp", ".swp")


class File(NamedTuple):
    """A file of the log. `began` is the time in its first line in ms; nginx writes to `current`."""

    path: Path
    inode: int
    size: int
    id: str
    began: int
    current: bool


class Piece(NamedTuple):
    """What was read: visits by video, lines with visits, other lines, and the position after it.

    `shrunk` says that the file is shorter than the position that was asked for. `named` are visits
    by agents that call themselves something, by that and the video; they are not among `visits`.
    """

    visits: Mapping[str, int]
    lines: int
    junk: int
    position: Position
    shrunk: bool = False
    named: Mapping[tuple[Kind, str], int] = {}


class VisitLog:
    """The log at `path` and its rotated files, which lie beside it with a suffix to its name.

    Compressed files are not read. All methods raise OSError if a file cannot be read.
    """

    def __init__(self, path: Path, offload: Offload = run_here) -> None:
        self.path = path
        self._offload = offload
        self._turns = Turns()
        self._heads: dict[int, tuple[tuple[int, int], tuple[str, int]]] = {}
        self._done: dict[int, tuple[int, int]] = {}
        self._offsets: dict[int, int] = {}

    def look(self) -> list[File]:
        """All files that have a whole line, oldest first; the one being written is last."""
        files: dict[str, File] = {}
        found = set()
        for path, status in self._found():
            inode = status.st_ino
            found.add(inode)
            stamp = status.st_size, status.st_mtime_ns
            if inode not in self._heads or self._heads[inode][0] != stamp:
                head = self._head(path, inode)
                if head is None:
                    continue
                self._heads[inode] = stamp, head
            name, began = self._heads[inode][1]
            file = File(path, inode, status.st_size, name, began, path == self.path)
            # A copy of a file, whole or in part, counts as that file.
            same = files.get(name)
            if same is None or (file.size, file.current) > (same.size, same.current):
                files[name] = file
        for gone in (self._heads.keys() | self._done.keys() | self._offsets.keys()) - found:
            for known in (self._heads, self._done, self._offsets):
                known.pop(gone, None)
        return sorted(files.values(), key=lambda file: (file.current, file.began))

    def read(self, file: File, position: Position) -> Piece | None:
        """The next visits of a file after a position; None while there is no further whole line.

        A file that became shorter than the position is not read twice: reading goes on after the
        last line that was read, found by its time.
        """
        stamp = self._heads.get(file.inode, (None,))[0]
        if stamp is None or self._done.get(file.inode) == stamp:
            return None
        with open(file.path, "rb", buffering=0) as opened:
            descriptor = opened.fileno()
            if os.fstat(descriptor).st_ino != file.inode:
                return None  # it was rotated meanwhile
            if file.size < position.offset or not self._fits(descriptor, position):
                return self._shrunk(descriptor, position)
            piece = self._count(descriptor, file.size, position)
        if piece is None:
            self.skip(file)
            return None
        self._offsets[file.inode] = piece.position.offset
        return piece

    def end(self, file: File) -> Position:
        """The position after the last whole line of a file."""
        with open(file.path, "rb", buffering=0) as opened:
            start = max(0, file.size - _TAIL)
            lines = os.pread(opened.fileno(), file.size - start, start)
        end = lines.rfind(b"\n") + 1
        return Position(file.began, 0, start + end, _latest(lines[:end], file.began))

    def skip(self, file: File) -> None:
        """Treat a file as read until it changes."""
        if file.inode in self._heads:
            self._done[file.inode] = self._heads[file.inode][0]
            self._offsets[file.inode] = file.size

    def give_back(self, file: File, position: Position) -> None:
        """Note that what was read from this position on was not counted, so it is still unread."""
        self._offsets[file.inode] = position.offset

    def unread(self) -> int:
        """Unread bytes of all files. Any thread may call it."""
        try:
            return sum(
                max(0, status.st_size - self._offsets.get(status.st_ino, 0))
                for _, status in self._found()
            )
        except OSError:
            return 0

    def _found(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        name = self.path.name
        with os.scandir(self.path.parent) as entries:
            for entry in entries:
                rest = entry.name.removeprefix(name)
                if not entry.name.startswith(name) or rest[:1] not in ("", ".", "-"):
                    continue
                if rest.endswith(_PACKED):
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                if S_ISREG(status.st_mode):
                    found.append((self.path.parent / entry.name, status))
        return found

    def _head(self, path: Path, inode: int) -> tuple[str, int] | None:
        """A file's id and the time in its first line; None while it has no whole line."""
        try:
            with open(path, "rb", buffering=0) as opened:
                if os.fstat(opened.fileno()).st_ino != inode:
                    return None
                first = _first_line(os.pread(opened.fileno(), _HEAD, 0))
                if first is None:
                    first = _first_line(os.pread(opened.fileno(), _MAX_JUNK, 0))
        except FileNotFoundError:
            return None
        return first and (blake2b(first[0], digest_size=8).hexdigest(), _ms(first[1]))

    @staticmethod
    def _fits(descriptor: int, position: Position) -> bool:
        """Whether a position is after a line that is not later than the last one read."""
        start = max(0, position.offset - _TAIL)
        before = os.pread(descriptor, position.offset - start, start)
        return not before or (before.endswith(b"\n") and _latest(before, 0) <= position.last)

    def _count(self, descriptor: int, size: int, position: Position) -> Piece | None:
        visits: Counter[str] = Counter()
        named: Counter[tuple[str, str]] = Counter()
        lines = junk = 0
        start = offset = at = position.offset
        last = b""
        read = os.pread
        while offset - start < _PIECE and len(visits) < _VIDEOS:
            if size - at > _SLICE and at == offset:
                whole = self._offload(read, descriptor, _PIECE, at)
            else:
                whole = read(descriptor, _SLICE, at)
            end = whole.rfind(b"\n") + 1
            if not end:
                if len(whole) < _SLICE:
                    break
                # So long a line is junk, but a whole one may be glued to it.
                at += len(whole) - _TAIL
                self._turns.take()
                continue
            here = 0
            while here < end and len(visits) < _VIDEOS:
                to = whole.rfind(b"\n", here, here + _SLICE) + 1 or whole.find(b"\n", here) + 1
                text = whole[here:to].decode("latin-1")
                found = _videos(text)
                visits.update(found)
                if _names(text):
                    named.update(_named(text))
                lines += len(found)
                junk += text.count("\n") - len(found)
                last = whole[max(0, to - _TAIL) : to]
                here = to
                if here < len(whole):
                    self._turns.take()
            offset = at = at + here
            if offset >= size:
                break
        if offset == start:
            return None
        after = Position(position.began, position.cut, offset, _latest(last, position.last))
        visits.subtract(_by_video(named))
        by_kind = {(_KINDS[word], video): count for (word, video), count in named.items()}
        return Piece(+visits, lines, junk, after, named=by_kind)

    def _shrunk(self, descriptor: int, position: Position) -> Piece:
        """The position in a file that became shorter: before the first line with a later time."""
        at = behind = 0
        while whole := self._offload(os.pread, descriptor, _SLICE, at):
            until = len(whole)
            for line in _timed_lines(whole):
                if _ms(line[1]) > position.last:
                    until = line.start()
                    break
            end = whole.rfind(b"\n", 0, until) + 1
            behind = at + end if end else behind
            if until < len(whole):
                break
            at = behind if end else at + until
            if not end and until < _SLICE:
                break  # half a line
            self._turns.take()
        after = Position(position.began, position.cut + 1, behind, position.last)
        return Piece({}, 0, 0, after, shrunk=True)


def _names(text: str) -> bool:
    """Whether some of these lines may say what an agent calls itself."""
    return any(f"{word} " in text for word in _KINDS)


def _by_video(named: Mapping[tuple[str, str], int]) -> Counter[str]:
    videos: Counter[str] = Counter()
    for (_, video), count in named.items():
        videos[video] += count
    return videos


def _latest(lines: bytes, last: int) -> int:
    """The latest time in these lines, or `last` if that is later."""
    return max([last, *(_ms(line[1]) for line in _timed_lines(lines))])


def _ms(time_: bytes) -> int:
    return int(time_.replace(b".", b""))
