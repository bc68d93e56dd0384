"""`flask visits import`: counts what an old log says, through a running node.

A log that a node follows is not to be imported: this is for what was written before, or elsewhere.
Every request has a key, made of what it counts and where that lies in the file, so that an import
that was cut short can be repeated while nodes remember keys.
"""

import gzip
import http.client
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, cast
from urllib.parse import urlsplit

import click

from counter.cli import default_url
from counter.transport import backoff

CHUNK = 4 * 1024 * 1024
"""Bytes that are counted at once; where chunks begin must not depend on anything else."""
_RECORDS = 5_000
"""Records a request, for which a node's limit of bytes suffices, whatever their ids."""
_PATIENCE = 60.0
"""Seconds for which a request that fails is sent again."""
_TIMEOUT = 30.0
_visits = re.compile(
    r"^(?:[0-9]{10}\.[0-9]{3} [0-9]+\.[0-9]+ )?([A-Za-z0-9._~-]{1,128})\r?$", re.MULTILINE
).findall


class Chunk(NamedTuple):
    """Visits by video; lines that are none; where it begins, and the next one would."""

    visits: Counter[str]
    junk: int
    start: int
    end: int


@click.group()
def visits() -> None:
    """Count visits in bulk, through a running node."""


@visits.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--url", default=default_url, show_default="this machine's LISTEN_PORT")
@click.option("--from", "start", default=0, show_default=True, help="Where to go on, in bytes")
def import_file(file: Path, url: str, start: int) -> None:
    """Count every line of FILE: an id, or a line of a visit log. A name in .gz is unpacked.

    Not for a log that a node follows, which counts it itself.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise click.ClickException(f"--url {url!r} is not an address; write http://HOST:PORT")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_TIMEOUT)
    counted = junk = 0
    at = start
    try:
        with file.open("rb") as packed, _unpacked(file, packed) as lines:
            size = file.stat().st_size
            with click.progressbar(length=size, label=file.name) as bar:
                for chunk in _chunks(lines, start):
                    for key, records in _requests(chunk):
                        _send(connection, key, records)
                    counted, junk = counted + chunk.visits.total(), junk + chunk.junk
                    at = chunk.end
                    bar.update(packed.tell() - bar.pos)
    except (KeyboardInterrupt, click.ClickException, OSError, EOFError, ValueError) as error:
        reason = error.message if isinstance(error, click.ClickException) else str(error)
        raise click.ClickException(
            f"{reason or 'interrupted'}; {counted} visits are counted, up to byte {at}. Repeat it "
            f"as it is within 10 minutes, or go on later with --from {at}, which may count some "
            "of the next lines twice"
        ) from None
    finally:
        connection.close()
    click.echo(f"{counted} visits counted" + (f", {junk} lines are none" if junk else ""))


def _unpacked(file: Path, packed: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=packed)) if file.suffix == ".gz" else packed


def _chunks(lines: IO[bytes], start: int) -> Iterator[Chunk]:
    """Whole lines, beginning where each chunk has always begun."""
    at = 0
    while read := lines.read(CHUNK):
        read += lines.readline()
        end = at + len(read)
        if end > start:
            text = read[max(0, start - at) :].decode("latin-1")
            found = _visits(text)
            blank = len(re.findall(r"^\s*$", text.removesuffix("\n"), re.MULTILINE))
            junk = text.removesuffix("\n").count("\n") + 1 - blank - len(found)
            yield Chunk(Counter(found), junk, max(at, start), end)
        at = end


def _requests(chunk: Chunk) -> Iterator[tuple[str, bytes]]:
    """Each request that counts a chunk, with its key."""
    rest = iter(sorted(chunk.visits.items()))
    while records := [{"video": video, "count": n} for video, n in islice(rest, _RECORDS)]:
        body = json.dumps(records, separators=(",", ":")).encode()
        mark = blake2b(body, digest_size=16).hexdigest()
        yield f"import-{mark}-{chunk.start}", body


def _send(
    connection: http.client.HTTPConnection,
    key: str,
    body: bytes,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Have it counted; what fails is sent again under its key, and raises at last."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    deadline, tries = clock() + _PATIENCE, 0
    while True:
        tries += 1
        try:
            connection.request("POST", "/visits", body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            again, reason = True, f"no answer from {connection.host}:{connection.port} ({error})"
        else:
            if response.status == 200:
                return
            again = response.status >= 500
            reason = f"status {response.status}: {_detail(answer)}"
        if not again or clock() >= deadline:
            raise click.ClickException(reason)
        time.sleep(backoff(tries))  # Ctrl-C ends it


def _detail(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["detail"])
    except (ValueError, TypeError, KeyError):
        return answer[:100].decode(errors="replace")
