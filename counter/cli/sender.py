"""Sends visits to a node, each request under a key, until it is certain what became of it."""

import http.client
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import click

from counter.backoff import backoff

_PATIENCE = 60.0
"""Seconds during which a failed request is repeated."""

Record = tuple[str, int]
"""A video and its visits."""


class Sent(NamedTuple):
    """What became of a request: whether it was counted now, and how many visits of it count.

    That is None where the node does not know it any more.
    """

    is_new: bool
    visits: int | None


class FullVideoError(Exception):
    """The video is full: no node will ever count these visits."""

    def __init__(self, video: str, detail: str) -> None:
        super().__init__(detail)
        self.video = video


class Sender:
    """Sends visits to a node over one connection, with these headers."""

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        headers: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._headers = {"Content-Type": "application/json", **headers}
        self._clock = clock

    def send(self, key: str, records: Sequence[Record]) -> Sent:
        """Have visits counted; return what became of them: now, or before this import.

        A failed request is repeated under its key for `_PATIENCE` seconds, then this raises
        ClickException. Raises `FullVideoError`.
        """
        named = [{"video": video, "count": count} for video, count in records]
        body = json.dumps(named, separators=(",", ":")).encode()
        headers = {**self._headers, "Idempotency-Key": key}
        connection, deadline, tries = self._connection, self._clock() + _PATIENCE, 0
        while True:
            tries += 1
            try:
                connection.request("POST", "/visits", body, headers)
                response = connection.getresponse()
                answer = _object(response.read())
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                where = f"{connection.host}:{connection.port}"
                again, reason = True, f"no answer from {where} ({error})"
            else:
                if response.status == 200:
                    # On a repeat, the first try of this import may be what was counted.
                    is_new = tries > 1 or answer.get("repeated") is not True
                    visits = answer.get("visits")
                    return Sent(is_new, visits if isinstance(visits, int) else None)
                reason = f"status {response.status}: {answer.get('detail', response.reason)}"
                if response.status == 409 and any(answer.get("video") == v for v, _ in records):
                    raise FullVideoError(str(answer["video"]), reason)
                again = response.status >= 500 or response.status == 429
            if not again or self._clock() >= deadline:
                raise click.ClickException(reason)
            time.sleep(backoff(tries))  # Ctrl-C ends it


def _object(answer: bytes) -> dict[str, object]:
    """The JSON object in an answer; an empty one if there is none."""
    try:
        found = json.loads(answer)
    except ValueError:
        return {"detail": answer[:100].decode(errors="replace")}
    return found if isinstance(found, dict) else {}
