"""What a file of visits looks like: how it is packed and encoded, and what its lines are.

All of it is told by what is in the file, never by its name. What is not recognized is refused
with a sentence that says what it looks like.
"""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, cast
from urllib.parse import unquote

from counter.messages import VIDEO

READ = (
    "lines of ids, a visit log, CSV 'video,count', and nginx's combined log with "
    "--path '/video/{video}', in UTF-8 or UTF-16, plain or packed with gzip, bzip2 or xz"
)
"""Everything that is read, for sentences."""
SAMPLE = 1024 * 1024
"""Bytes by which a file is recognized."""
UNPACKING = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""What is raised where a file cannot be read or unpacked."""
HERE = "{video}"
"""Where a path has the video's id."""

_LEAST = 10
"""One line in so many must be one of the format. In prose, too, some lines are a single word."""
_PACKED: tuple[tuple[bytes, Callable[[IO[bytes]], object]], ...] = (
    (rb"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", bz2.BZ2File),
    (rb"\xfd7zXZ\0", lzma.LZMAFile),
)
_OTHERS = (
    (rb"\x28\xb5\x2f\xfd", "a file packed with zstd"),
    (rb"\x04\x22\x4d\x18", "a file packed with lz4"),
    (rb"\x1f\x9d", "a file packed with compress"),
    (rb"PK(?:\x03\x04|\x05\x06)", "a zip archive, or a spreadsheet"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (rb"Rar!\x1a", "a RAR archive"),
    (rb"(?s:.{257})ustar", "a tar archive"),
    (rb"\xd0\xcf\x11\xe0", "an old spreadsheet or document"),
    (rb"%PDF-", "a PDF"),
    (rb"SQLite format 3\0", "a SQLite database"),
)
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BYTES = "latin-1"
"""A character for each byte: enough where all that counts is ASCII, and the fastest."""
_BYTE_ORDER_MARKS = ("\ufeff", codecs.BOM_UTF8.decode(_BYTES))
_ENDS = ("\n", "\r")
_is_video = re.compile(VIDEO).fullmatch
# How often a blank may be repeated is bounded, or a line of millions of them would take for ever.
_blank = re.compile(r"^[^\S\n]*$", re.MULTILINE).findall
_plain = re.compile(rf'^[ \t]{{0,9}}"?({VIDEO}+)"?[ \t]{{0,9}}$', re.MULTILINE).findall
# Also where the line before was cut short, and this one is glued to it: see visit_log.py.
_logged = re.compile(
    rf"[0-9]{{10}}\.[0-9]{{3}} [0-9]{{1,20}}\.[0-9]{{1,20}} ({VIDEO})[ \t]{{0,9}}$", re.MULTILINE
).findall
_rows = re.compile(
    rf'^[ \t]{{0,9}}"?({VIDEO})"?[ \t]{{0,9}}[,;\t][ \t]{{0,9}}"?([0-9]{{1,16}})"?[ \t,;]{{0,99}}$',
    re.MULTILINE,
).findall
_NAME = r'"?([^",;\t\n]{1,99}?)"?[ \t]{0,9}'
_header = re.compile(rf"\s*+{_NAME}[,;\t][ \t]{{0,9}}{_NAME}[,;\t]*(?:\n|\Z)")
_requests = re.compile(
    r"^.*\[([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}(?::[0-9]{2}){3} [+-][0-9]{4})\] "
    r'"(.*?)" ([0-9]{3}) (?:[0-9]+|-)(?: .*)?$',
    re.MULTILINE,
).findall
_is_seen = re.compile(r"20(?!6)[0-9]|304").fullmatch


class UnreadableError(Exception):
    """What a file looks like that is not read."""


class Found(NamedTuple):
    """What lines are: visits by video, requests that are no visits, and lines that are neither.

    `first` and `last` are the times of the first and the last visit, where there are times.
    """

    visits: Counter[str]
    others: int = 0
    junk: int = 0
    first: str = ""
    last: str = ""


class Shape(NamedTuple):
    """How a file is read: the encoding of its text, and what its lines are."""

    encoding: str
    lines: str
    find: Callable[[str, bool], Found]
    """Finds the visits in whole lines; the flag is for those with which the file begins."""


# -- packed, and encoded


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """What is in a file, from its beginning, however often it was packed."""
    file.seek(0)
    while True:
        head = cast(io.BufferedReader, file).peek(64)
        for magic, unpack in _PACKED:
            if re.match(magic, head):
                file = cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, unpack(file))))
                break
        else:
            return file


def pieces(file: IO[bytes], encoding: str, most: int) -> Iterator[str]:
    """The text of a file in whole lines, up to so many characters at once.

    Where a piece begins depends on the text alone. A longer line is cut, and its rest begins with
    a character that no visit has: a long block of zeros, where a machine lost power, is no id.
    """
    decode = codecs.getincrementaldecoder(encoding)("replace").decode
    rest, more, inside = "", True, False
    while more or rest:
        while more and len(rest) < most:
            read = file.read(most - len(rest))
            more = bool(read)
            rest += decode(read, final=not more)
        piece = rest[:most]
        if more or len(piece) < len(rest):
            piece = piece[: max(piece.rfind("\n"), piece.rfind("\r")) + 1] or piece
        rest = rest[len(piece) :]
        if piece:
            yield "\0" + piece[1:] if inside and not piece.startswith(_ENDS) else piece
        inside = not piece.endswith(_ENDS)


def _lines(text: str) -> str:
    """With line feeds at the ends of lines, as no file has them that comes from elsewhere."""
    for mark in _BYTE_ORDER_MARKS:
        if mark in text:
            text = text.replace(mark, "")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _encoding(sample: bytes) -> str:
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    # Without a mark: every other byte of Latin letters in UTF-16 is zero.
    half = len(sample) // 2
    first, second = sample[0::2].count(0), sample[1::2].count(0)
    if second > 0.8 * half and first < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if first > 0.8 * half and second < 0.1 * half else _BYTES


# -- lines


def recognize(sample: bytes, path: str | None, *, whole: bool) -> Shape:
    """How to read a file that begins so; `whole` says that this is all of it.

    A `path` says which requests of an access log are visits. Raises `UnreadableError`.
    """
    for magic, what in _OTHERS:
        if re.match(magic, sample):
            raise UnreadableError(what)
    encoding = _encoding(sample)
    text = _lines(sample.decode(encoding, "replace"))
    if not whole:
        text = text[: text.rfind("\n") + 1] or text
    found = {
        "lines of ids": len(_ids(text)),
        "CSV": len(_rows(text)),
        "an access log": len(_requests(text)),
    }
    lines = max(found, key=lambda name: found[name])
    if found[lines] == 0 or found[lines] * _LEAST < _count_lines(text):
        raise UnreadableError(_looks_like(text))
    if lines == "an access log":
        if path is None:
            raise UnreadableError(
                f"{lines}; say which of its paths are visits, as in --path '/video/{HERE}'"
            )
        return Shape(encoding, lines, _find_requests(path))
    if path is not None:
        raise UnreadableError(f"{lines}, not like an access log, which --path is for")
    if lines == "CSV":
        if (header := _header.match(text)) and _is_turned(*header.groups()):
            raise UnreadableError(f"CSV with the columns {header[1]!r}, {header[2]!r}")
        return Shape(encoding, lines, _find_rows)
    return Shape(encoding, lines, _find_ids)


def _ids(text: str) -> list[str]:
    return [*_plain(text), *_logged(text)]


def _find_ids(text: str, _at_start: bool) -> Found:
    text = _lines(text)
    found = _ids(text)
    return Found(Counter(found), junk=_count_lines(text) - len(found))


def _find_rows(text: str, at_start: bool) -> Found:
    text = _lines(text)
    found = _rows(text)
    visits: Counter[str] = Counter()
    for video, count in found:
        visits[video] += int(count)
    header = _header.match(text) if at_start else None
    is_header = header is not None and not _rows(header[0].strip())
    return Found(+visits, junk=_count_lines(text) - len(found) - is_header)


def _find_requests(path: str) -> Callable[[str, bool], Found]:
    before, _, after = path.partition(HERE)
    request = re.compile(
        rf"GET (?:https?://[^/ ?#]+)?{re.escape(before)}([^/ ?#]+){re.escape(after)}"
        r"(?:[?#][^ ]*)?(?: HTTP/[0-9.]+)?"
    ).fullmatch

    def find(text: str, _at_start: bool) -> Found:
        text = _lines(text)
        found = _requests(text)
        visits: Counter[str] = Counter()
        first = last = ""
        for time, asked, status in found:
            matched = request(asked) if _is_seen(status) else None
            video = unquote(matched[1]) if matched else ""
            if _is_video(video):
                visits[video] += 1
                first, last = first or time, time
        others = len(found) - visits.total()
        return Found(visits, others, _count_lines(text) - len(found), first, last)

    return find


def _count_lines(text: str) -> int:
    """How many lines are not blank."""
    return text.count("\n") + 1 - len(_blank(text))


def _is_turned(first: str, second: str) -> bool:
    """Whether a header says that the counts come first."""
    return first.lower() in ("count", "visits", "views") and second.lower() in ("video", "id")


def _looks_like(text: str) -> str:
    """What a text is that holds no visits."""
    start = text.strip()[:200]
    line, _, rest = start.partition("\n")
    if not start:
        return "an empty file"
    if sum(not (letter.isprintable() or letter.isspace()) for letter in start) * 10 > len(start):
        return "binary data"
    if start[0] in "{[":
        return "JSON"
    if start[0] == "<":
        return "HTML or XML"
    columns = [
        len(re.findall("[,;\t]", row)) + 1 for row in (line, rest.partition("\n")[0] or line)
    ]
    if columns[0] == columns[1] > 1:
        return f"CSV with {columns[0]} columns, and begins with {line[:60]!r}"
    return f"text that begins with {line[:60]!r}"
