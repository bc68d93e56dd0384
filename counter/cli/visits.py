"""`flask visits import`: counts the visits of an old log, through a running node.

Do not import a log that a node follows: this is for logs written before, or elsewhere. Every
request has a key, made from the whole content of the file and the place in it. So an import that
was cut short can be repeated while nodes remember keys, and no two files are taken for one.
"""

import http.client
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import IO, NamedTuple, cast

import click

from counter.cli.addresses import checked_url, default_url
from counter.cli.formats import HERE, READ, SAMPLE, Found, Shape, checked, recognize
from counter.cli.packed import UNPACKING, UnreadableError, pieces, unpacked
from counter.cli.sender import FullVideoError, Record, Sender, Sent
from counter.cli.tokens import authorization, secret_of
from counter.crdt.gcounter import MAX_COUNT

CHUNK = 4 * 1024 * 1024
"""Characters counted at once. The beginnings of chunks must depend on nothing else."""
_RECORDS = 5_000
"""Records in a request. With the longest ids these are within a node's limit of bytes."""
_MAX_REQUESTS = 1_000
"""Requests for one chunk. Without a token, more visits than these may add need one."""
_TIMEOUT = 30.0


class Limits(NamedTuple):
    """The most visits that one record, and all of one request, may add."""

    record: int
    request: int


_STRANGER = Limits(1_000, 100_000)
"""What a node takes without a token, unless its `MAX_COUNT` is another one."""
_TRUSTED = Limits(10**12, _RECORDS * 10**12)


class Chunk(NamedTuple):
    """What was found in some lines; where these begin in the text, and where the next begin."""

    found: Found
    start: int
    end: int


class Source(NamedTuple):
    """A file, its state before it was read, how to read it, and a mark of its content."""

    file: IO[bytes]
    status: os.stat_result
    shape: Shape
    mark: str


class _Hashed:
    """A file whose bytes are hashed while they are read."""

    def __init__(self, file: IO[bytes], content: blake2b) -> None:
        self._file = file
        self._content = content

    def read(self, size: int) -> bytes:
        read = self._file.read(size)
        self._content.update(read)
        return read


class NeedsTokenError(Exception):
    """Without a token, counting these visits would take too many requests."""


@click.group()
def visits() -> None:
    """Count visits in bulk, through a running node."""


@visits.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default=default_url, show_default="this machine's LISTEN_PORT")
@click.option("--token", help="A WRITE_TOKEN of the node; default: the environment's")
@click.option("--from", "start", default=0, show_default=True, help="Position at which to go on")
@click.option("--path", help=f"Which requests of an access log are visits, as '/video/{HERE}'")
@click.option(
    "--header/--no-header",
    default=None,
    help="Whether the first line has the names of columns instead of a visit; detected, unless "
    "that is in doubt",
)
def import_file(
    file: Path, url: str, token: str | None, start: int, path: str | None, header: bool | None
) -> None:
    """Count every visit in FILE.

    FILE has an id in each line, or is a visit log, CSV of video and count, or nginx's access log,
    in which --path selects the visits. It may be packed with gzip, bzip2 or xz. It is read to its
    end before anything is counted, and refused if it could be counted wrongly.

    With a token a request counts as many visits as it can name; without one it takes a request
    for each 100,000.

    Do not import a log that a node follows: the node counts it itself.
    """
    secret = secret_of(token, "WRITE_TOKEN")
    parts = checked_url(url, "http")
    if path is not None and not _is_path(path):
        raise click.ClickException(
            f"--path {path!r} is not one path with one {HERE} in it; write it like '/video/{HERE}'"
        )
    with ExitStack() as stack:
        host = parts.hostname or ""
        connection = http.client.HTTPConnection(host, parts.port or 80, timeout=_TIMEOUT)
        stack.callback(connection.close)
        most = _TRUSTED if secret else _STRANGER
        source = _source(stack.enter_context(_opened(file)), file.name, path, header, most)
        headers = {"Authorization": authorization(secret)} if secret else {}
        _Import(Sender(connection, headers), source, file.name, start, most).run()


def _is_path(path: str) -> bool:
    return path.startswith("/") and path.count(HERE) == 1 and not set("?# ") & set(path)


def _opened(file: Path) -> IO[bytes]:
    """Open a file so that it can be read twice: a pipe is copied."""
    opened = file.open("rb")
    if opened.seekable():
        return opened
    with opened:
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        shutil.copyfileobj(opened, copy)
        copy.flush()
        return copy


def _source(
    file: IO[bytes], name: str, path: str | None, header: bool | None, most: Limits
) -> Source:
    """Read a file once, to check it and to compute its mark."""
    status = os.fstat(file.fileno())
    content = blake2b(digest_size=16)
    try:
        sample = unpacked(file).read(SAMPLE)
        shape = recognize(sample, path, header, whole=len(sample) < SAMPLE)
        hashed = cast(IO[bytes], _Hashed(unpacked(file), content))
        checked(pieces(hashed, shape.encoding, CHUNK), shape)
    except UnreadableError as error:
        raise click.ClickException(
            f"{name} looks like {error}. Nothing was counted; what is read: {READ}"
        ) from None
    except UNPACKING as error:
        raise click.ClickException(
            f"{name} cannot be read to its end ({error}), and nothing was counted; what is read: "
            f"{READ}"
        ) from None
    # The content of a request depends on these as well.
    content.update(f"\n{shape.lines} {path} {CHUNK} {_RECORDS} {most}".encode())
    return Source(file, status, shape, content.hexdigest())


class _Import:
    """The import of one file: how far it is, and what became of its visits."""

    def __init__(
        self, sender: "Sender", source: Source, name: str, start: int, most: Limits
    ) -> None:
        self._sender = sender
        self._most = most
        self._source = source
        self._name = name
        self._at = self._start = start
        self._counted = self._before = self._blocked = self._unknown = 0
        self._others = self._junk = 0
        self._refused: dict[str, int] = {}
        self._first = self._last = ""

    def run(self) -> None:
        """Count everything and print what that was; raises ClickException if anything failed."""
        file, before = self._source.file, self._source.status
        try:
            with click.progressbar(length=before.st_size, label=self._name) as bar:
                for chunk in _chunks(self._source, self._start):
                    self._count(chunk)
                    self._at = chunk.end
                    bar.update(file.tell() - bar.pos)
        except NeedsTokenError as error:
            raise click.ClickException(
                f"{error}; {self._told()}, up to {self._at}. Go on with --from {self._at} and "
                "--token, or set WRITE_TOKEN to one of the node's"
            ) from None
        except (KeyboardInterrupt, click.ClickException, *UNPACKING) as error:
            reason = error.message if isinstance(error, click.ClickException) else str(error)
            raise click.ClickException(
                f"{reason or 'interrupted'}; {self._told()}, up to {self._at}. Repeat it as it is "
                f"within 10 minutes, or go on later with --from {self._at}, which may count some "
                "of the next lines twice"
            ) from None
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise click.ClickException(
                f"{self._name} was written to meanwhile; {self._told()}, up to {self._at}. Go on "
                f"with --from {self._at} when nothing writes to it any more"
            )
        taken = self._counted + self._before + self._blocked + self._unknown
        if not taken + sum(self._refused.values()):
            raise click.ClickException(
                f"nothing in {self._name} is a visit ({self._told()}), though it looks like "
                f"{self._source.shape.lines}; what is read: {READ}"
            )
        if self._refused:
            raise click.ClickException(self._told())
        click.echo(self._told())

    def _count(self, chunk: Chunk) -> None:
        found = chunk.found
        for video, visits in found.visits.items():
            if visits > MAX_COUNT:
                self._refused[video] = self._refused.get(video, 0) + visits
        for key, records in _requests(chunk, self._source.mark, self._most):
            self._send(key, records)
        self._others += found.others
        self._junk += found.junk
        self._first, self._last = self._first or found.first, found.last or self._last

    def _send(self, key: str, records: list[Record]) -> None:
        """Have some records counted, except those of videos that are full."""
        refused = 0
        while records:
            try:
                sent = self._sender.send(f"{key}.{refused}" if refused else key, records)
            except FullVideoError as error:
                refused += 1
                more = sum(count for video, count in records if video == error.video)
                records = [record for record in records if record[0] != error.video]
                self._refused[error.video] = self._refused.get(error.video, 0) + more
            else:
                self._note(sent, sum(count for _, count in records))
                return

    def _note(self, sent: Sent, visits: int) -> None:
        """Note what became of so many visits."""
        if sent.visits is None:
            self._unknown += visits
            return
        if sent.is_new:
            self._counted += sent.visits
        else:
            self._before += sent.visits
        # A program that does not call itself anything is no crawler, so nothing else stops them.
        self._blocked += visits - sent.visits

    def _told(self) -> str:
        """What became of all that was read."""
        told = [f"{self._counted} visits counted"]
        if self._first:
            told[0] += f" (of {self._first} to {self._last})"
        if self._before:
            told.append(f"{self._before} counted before")
        if self._blocked:
            told.append(f"{self._blocked} not: their videos are blocked")
        if self._unknown:
            told.append(
                f"{self._unknown} sent before: how many of them count is not known any more"
            )
        if self._refused:
            videos = ", ".join(sorted(self._refused)[:3])
            more = f" and {len(self._refused) - 3} more" if len(self._refused) > 3 else ""
            told.append(
                f"{sum(self._refused.values())} refused: {videos}{more} can have no more visits"
            )
        if self._others:
            told.append(f"{self._others} requests are no visits")
        if self._junk:
            told.append(f"{self._junk} lines are none")
        return ", ".join(told)


def _chunks(source: Source, start: int) -> Iterator[Chunk]:
    """The chunks from `start` on; their boundaries are always the same."""
    at = 0
    for text in pieces(unpacked(source.file), source.shape.encoding, CHUNK):
        end = at + len(text)
        if end > start:
            found = source.shape.find(text[max(0, start - at) :], at == start == 0)
            yield Chunk(found, max(at, start), end)
        at = end


def _requests(chunk: Chunk, mark: str, most: Limits) -> Iterator[tuple[str, list[Record]]]:
    """The records of each request that counts a chunk, with its key.

    Raises `NeedsTokenError` before the first of them if there are too many. Visits beyond what any
    video can have are left out.
    """
    fitting = {video: n for video, n in sorted(chunk.found.visits.items()) if n <= MAX_COUNT}
    if (visits := sum(fitting.values())) > _MAX_REQUESTS * most.request:
        raise NeedsTokenError(
            f"{visits} visits would take {-(-visits // most.request)} requests without a token"
        )
    rest = (
        (video, min(most.record, count - before))
        for video, count in fitting.items()
        for before in range(0, count, most.record)
    )
    number = visits = 0
    records: list[Record] = []
    for record in rest:
        if records and (len(records) == _RECORDS or visits + record[1] > most.request):
            yield f"import-{mark}-{chunk.start}-{number}", records
            number, visits, records = number + 1, 0, []
        records.append(record)
        visits += record[1]
    if records:
        yield f"import-{mark}-{chunk.start}-{number}", records
