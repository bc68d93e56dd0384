"""What the lines of a file of visits are.

The format is told by the content, never by the name. A file that is not recognized is refused with
a sentence that says what it looks like. So is a file that could be counted wrongly, because a visit
that was counted cannot be taken back.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple, cast
from urllib.parse import unquote

from counter.cli.packed import BYTES, UnreadableError, encoding_of, whole_lines
from counter.crdt.ids import VIDEO, is_video

READ = (
    "lines of ids, a visit log, CSV with the columns 'video,count', nginx's combined log with "
    "--path '/video/{video}', in UTF-8 or UTF-16, plain or packed with gzip, bzip2 or xz"
)
"""Everything that can be read, for messages."""
SAMPLE = 1024 * 1024
"""How many bytes of a file are read to recognize its format."""
HERE = "{video}"
"""Marks the place of the video's id in a path."""

_IDS, _CSV, _ACCESS = "lines of ids", "CSV", "an access log"
_LEAST = 10
"""A file has a format if one line in ten has it: in prose, too, some lines are a single word. It is
counted if at most one line in ten does not have the format."""
_COUNTS = "count counts visit visits view views hit hits total totals viewcount pageviews"
_VIDEOS = "video videos videoid videoids id ids path paths url urls slug slugs name names"
_COLUMNS = dict.fromkeys(_VIDEOS.split(), "video") | dict.fromkeys(_COUNTS.split(), "count")
"""Words in a header that name the column of videos or that of visits."""
_SUMS = ("total", "totals", "sum")
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
# Repetitions of blanks are bounded; otherwise a line of millions of them would take for ever.
_blank = re.compile(r"^[^\S\n]*$", re.MULTILINE).findall
_plain = re.compile(rf'^[ \t]{{0,9}}"?({VIDEO}+)"?[ \t]{{0,9}}$', re.MULTILINE).findall
# Also matches a line that is glued to one that was cut short: see visit_log.py.
_logged = re.compile(
    rf"[0-9]{{10}}\.[0-9]{{3}} [0-9]{{1,20}}\.[0-9]{{1,20}} ({VIDEO})[ \t]{{0,9}}$", re.MULTILINE
).findall
# Without the 0, the word is of another line.
_crawls = re.compile(
    rf"bot [0-9]{{10}}\.[0-9]{{3}} 0[0-9]{{1,20}}\.[0-9]{{1,20}} ({VIDEO})[ \t]{{0,9}}$",
    re.MULTILINE,
).findall
_ID, _DIGITS = rf'"?({VIDEO})"?', r'"?([0-9]{1,16})"?'
_ROW = r"^[ \t]{{0,9}}{}[ \t]{{0,9}}[,;\t][ \t]{{0,9}}{}[ \t,;]{{0,99}}$"
_rows = re.compile(_ROW.format(_ID, _DIGITS), re.MULTILINE).findall
_turned_rows = re.compile(_ROW.format(_DIGITS, _ID), re.MULTILINE).findall
_NAME = r'"?([^",;\t\n]{1,128}?)"?[ \t]{0,9}'
_header = re.compile(rf"[ \t]*+{_NAME}[,;\t][ \t]{{0,9}}{_NAME}[ \t,;]{{0,99}}").fullmatch
_first_line = re.compile(r"\s*+([^\n]*)\n?")
_requests = re.compile(
    r"^.*\[([0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}(?::[0-9]{2}){3} [+-][0-9]{4})\] "
    r'"(.*?)" ([0-9]{3}) (?:[0-9]+|-)(?: .*)?$',
    re.MULTILINE,
).findall
_is_seen = re.compile(r"20(?!6)[0-9]|304").fullmatch


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
    """Finds the visits in whole lines; the flag says that the file begins with these lines."""
    has_header: bool = False


def recognize(sample: bytes, path: str | None, header: bool | None = None, *, whole: bool) -> Shape:
    """How to read a file that begins with `sample`; `whole` says that this is all of it.

    `path` says which requests of an access log are visits. `header` says whether the first line
    has the names of columns, if that is known. Raises `UnreadableError`.
    """
    for magic, what in _OTHERS:
        if re.match(magic, sample):
            raise UnreadableError(what)
    encoding = encoding_of(sample)
    text = whole_lines(sample.decode(encoding, "replace"))
    if not whole:
        text = text[: text.rfind("\n") + 1] or text
    found = {
        _IDS: len(_ids(text)),
        _CSV: max(len(_rows(text)), len(_turned_rows(text))),
        _ACCESS: len(_requests(text)),
    }
    lines = max(found, key=lambda name: found[name])
    # In indented JSON, some lines are a quoted word.
    is_json = lines != _ACCESS and text.lstrip().startswith(("{", "["))
    if is_json or found[lines] == 0 or found[lines] * _LEAST < _count_lines(text):
        raise UnreadableError(_looks_like(text))
    if lines == _ACCESS:
        if path is None:
            raise UnreadableError(
                f"{lines}; say which of its paths are visits, as in --path '/video/{HERE}'"
            )
        if header is not None:
            raise UnreadableError(f"{lines}, which has no header")
        return Shape(encoding, lines, _find_requests(path))
    if path is not None:
        raise UnreadableError(f"{lines}, not like an access log, which --path is for")
    first = cast(re.Match[str], _first_line.match(text))[1]
    if lines == _CSV:
        return _csv(encoding, first, header)
    if _has_header(first, header):
        return Shape(encoding, f"{lines} below a header", _below(_find_ids), has_header=True)
    return Shape(encoding, lines, _find_ids)


def checked(found: Iterator[str], shape: Shape) -> None:
    """Check all of a file, in pieces, before anything of it is counted.

    Raises `UnreadableError` if too much of it is junk (in CSV: anything), or if the columns may be
    in the other order.
    """
    lines = junk = before = total = 0
    first, at_start, all_numbers, returned = "", True, True, False
    sums: Counter[str] = Counter()
    for piece in found:
        text, part = whole_lines(piece), shape.find(piece, at_start)
        # A CR and its LF may be in two pieces.
        before -= returned and piece.startswith("\n")
        if part.junk and not first:
            first = _first_junk(text, shape, before, at_start)
        if part.junk and shape.lines == _CSV:
            raise UnreadableError(
                f"CSV, but an id and a count in digits alone cannot be read in {first}; correct it "
                "or remove it"
            )
        if part.junk and shape.lines != _ACCESS and (_rows(text) or _turned_rows(text)):
            raise UnreadableError(
                f"{shape.lines}, but also like CSV, which would not be counted; the first line "
                f"that is no id is {first}"
            )
        if shape.lines == _CSV:
            all_numbers = all_numbers and all(video.isdigit() for video in part.visits)
            total += part.visits.total()
            sums.update({v: n for v, n in part.visits.items() if v.lower() in _SUMS})
        junk += part.junk
        lines += _count_lines(text)
        before += text.count("\n")
        at_start, returned = False, piece.endswith("\r")
    if junk * _LEAST > lines:
        raise UnreadableError(
            f"{shape.lines}, but {junk} of {lines} lines are none; the first is {first}"
        )
    if shape.lines == _CSV and total and all_numbers and not shape.has_header:
        raise UnreadableError(
            "CSV of numbers alone, and no header says which of them are videos; write video,count "
            "or count,video in a line above them"
        )
    for video, count in sums.items():
        if count * 2 == total:
            raise UnreadableError(
                f"CSV with the sum of all rows in the row {video!r}, which would be counted as a "
                "video; remove that row"
            )


def _first_junk(text: str, shape: Shape, before: int, at_start: bool) -> str:
    """The number and the beginning of the first line that is junk."""
    for number, line in enumerate(text.split("\n"), before + 1):
        if line.strip():
            if shape.find(line, at_start).junk:
                return f"line {number}, {_shown(line)}"
            at_start = False
    return "a line"


def _column(name: str) -> str:
    """The column that a header names so: "video", "count", or "" if that is unknown."""
    words = re.split(r"[\s_.-]+", name[:200].strip().strip('"').strip().lower())
    columns = {_COLUMNS.get(word, "") for word in words}
    return columns.pop() if len(columns) == 1 else ""


def _has_header(first: str, header: bool | None) -> bool:
    """Whether a list of ids begins with the name of its column."""
    is_id = bool(_plain(first))
    if header is None and is_id and _column(first):
        raise UnreadableError(
            f"{_IDS}, the first of which is {_shown(first.strip())}: say --header if that is the "
            "name of the column, --no-header if it is a video"
        )
    if header and not is_id and not _column(first):
        raise UnreadableError(f"{_IDS} without a header: the first line is {_shown(first)}")
    return bool(header) or (header is None and bool(_column(first)))


def _csv(encoding: str, first: str, header: bool | None) -> Shape:
    """CSV that begins with this line: a header decides the order of the columns."""
    names = _header(first)
    columns = [_column(name) for name in names.groups()] if names else []
    if header is None and _rows(first) and columns and columns[0]:
        raise UnreadableError(
            f"CSV that begins with {_shown(first)}: write video,count in a line above it if that "
            "is a video, instead of it if it is a header"
        )
    if header is False or (header is None and _rows(first)):
        return Shape(encoding, _CSV, _find_rows)
    if sorted(columns) != ["count", "video"]:
        raise UnreadableError(
            f"CSV that begins with {_shown(first)}, which does not name one column of videos and "
            "one of counts; write video,count or count,video there if it is a header, else "
            "correct it or remove it"
        )
    find = _find_rows if columns[0] == "video" else _find_turned_rows
    return Shape(encoding, _CSV, _below(find), has_header=True)


def _below(find: Callable[[str, bool], Found]) -> Callable[[str, bool], Found]:
    """A function that finds the visits below the header."""

    def find_below(text: str, at_start: bool) -> Found:
        return find(_first_line.sub("", whole_lines(text), count=1) if at_start else text, at_start)

    return find_below


def _ids(text: str) -> list[str]:
    return [*_plain(text), *_logged(text)]


def _find_ids(text: str, _at_start: bool) -> Found:
    text = whole_lines(text)
    found = _ids(text)
    visits, crawls = Counter(found), _crawls(text) if "bot " in text else []
    visits.subtract(crawls)
    return Found(+visits, len(crawls), _count_lines(text) - len(found))


def _find_rows(text: str, _at_start: bool) -> Found:
    text = whole_lines(text)
    return _added(_rows(text), _count_lines(text))


def _find_turned_rows(text: str, _at_start: bool) -> Found:
    text = whole_lines(text)
    return _added([(video, count) for count, video in _turned_rows(text)], _count_lines(text))


def _added(rows: list[tuple[str, str]], lines: int) -> Found:
    visits: Counter[str] = Counter()
    for video, count in rows:
        visits[video] += int(count)
    return Found(+visits, junk=lines - len(rows))


def _find_requests(path: str) -> Callable[[str, bool], Found]:
    before, _, after = path.partition(HERE)
    request = re.compile(
        rf"GET (?:https?://[^/ ?#]+)?{re.escape(before)}([^/ ?#]+){re.escape(after)}"
        r"(?:[?#][^ ]*)?(?: HTTP/[0-9.]+)?"
    ).fullmatch

    def find(text: str, _at_start: bool) -> Found:
        text = whole_lines(text)
        found = _requests(text)
        visits: Counter[str] = Counter()
        first = last = ""
        for time, asked, status in found:
            matched = request(asked) if _is_seen(status) else None
            video = unquote(matched[1]) if matched else ""
            if is_video(video):
                visits[video] += 1
                first, last = first or time, time
        others = len(found) - visits.total()
        return Found(visits, others, _count_lines(text) - len(found), first, last)

    return find


def _count_lines(text: str) -> int:
    """The number of lines that are not blank."""
    return text.count("\n") + 1 - len(_blank(text))


def _shown(line: str) -> str:
    """The beginning of a line, for messages."""
    with suppress(ValueError):  # it stays as it is if it is not UTF-8
        line = line.encode(BYTES).decode()
    return repr(line[:60])


def _looks_like(text: str) -> str:
    """What a text without visits looks like."""
    start = text.strip()[:200]
    line, _, rest = start.partition("\n")
    if not start:
        return "an empty file"
    if sum(not (letter.isprintable() or letter.isspace()) for letter in start) * 10 > len(start):
        return "binary data"
    if start[0] in "{[":
        return "JSON, which POST /visits takes"
    if start[0] == "<":
        return "HTML or XML"
    columns = [
        len(re.findall("[,;\t]", re.sub(r'"[^"]*"', "", row))) + 1
        for row in (line, rest.partition("\n")[0] or line)
    ]
    if columns[0] == columns[1] == 2:
        return f"CSV without an id and a count in digits alone, and begins with {_shown(line)}"
    if columns[0] == columns[1] > 1:
        return f"CSV with {columns[0]} columns, and begins with {_shown(line)}"
    return f"text that begins with {_shown(line)}"
