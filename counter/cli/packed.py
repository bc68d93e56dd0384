"""How a file of visits is packed and encoded, told by its content, never by its name."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import IO, cast

UNPACKING = (OSError, EOFError, lzma.LZMAError, zlib.error)
"""Exceptions of a file that cannot be read or unpacked."""
_MAX_PACKED = 8
"""How many times a file may be packed. There are files that contain themselves."""
_PACKED: tuple[tuple[bytes, Callable[[IO[bytes]], object]], ...] = (
    (rb"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file, mode="rb")),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", bz2.BZ2File),
    (rb"\xfd7zXZ\0", lzma.LZMAFile),
)
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
BYTES = "latin-1"
"""One character for each byte: enough if only ASCII matters, and the fastest."""
_BYTE_ORDER_MARKS = ("\ufeff", codecs.BOM_UTF8.decode(BYTES))
_ENDS = ("\n", "\r")


class UnreadableError(Exception):
    """What a file looks like that cannot be read, or not safely."""


def unpacked(file: IO[bytes]) -> IO[bytes]:
    """The unpacked content of a file from its beginning, also if it was packed more than once."""
    file.seek(0)
    for _ in range(_MAX_PACKED + 1):
        head = cast(io.BufferedReader, file).peek(64)
        for magic, unpack in _PACKED:
            if re.match(magic, head):
                file = cast(IO[bytes], io.BufferedReader(cast(io.RawIOBase, unpack(file))))
                break
        else:
            return file
    raise UnreadableError(f"a file packed more than {_MAX_PACKED} times")


def pieces(file: IO[bytes], encoding: str, limit: int) -> Iterator[str]:
    """The text of a file in whole lines, at most `limit` characters at once.

    Where a piece begins depends on the text alone. A longer line is cut, and its rest begins with
    a character that no visit has: a long block of zeros, written when a machine lost power, is no
    id.
    """
    decode = codecs.getincrementaldecoder(encoding)("replace").decode
    rest, more, inside = "", True, False
    while more or rest:
        while more and len(rest) < limit:
            read = file.read(limit - len(rest))
            more = bool(read)
            rest += decode(read, final=not more)
        piece = rest[:limit]
        if more or len(piece) < len(rest):
            piece = piece[: max(piece.rfind("\n"), piece.rfind("\r")) + 1] or piece
        rest = rest[len(piece) :]
        if piece:
            yield "\0" + piece[1:] if inside and not piece.startswith(_ENDS) else piece
        inside = not piece.endswith(_ENDS)


def whole_lines(text: str) -> str:
    """The text with a line feed at the end of each line, and without byte order marks."""
    for mark in _BYTE_ORDER_MARKS:
        if mark in text:
            text = text.replace(mark, "")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def encoding_of(sample: bytes) -> str:
    """The encoding of a text that begins with these bytes."""
    for mark, encoding in _MARKS:
        if sample.startswith(mark):
            return encoding
    # Without a mark: every other byte of Latin letters in UTF-16 is zero.
    half = len(sample) // 2
    first, second = sample[0::2].count(0), sample[1::2].count(0)
    if second > 0.8 * half and first < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if first > 0.8 * half and second < 0.1 * half else BYTES
