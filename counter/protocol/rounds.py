"""Which questions of others were answered: each one once, and so many about one thing at a time.

A question is short and its answer long. A node asks for a page when it has the one before, and
begins anew only when a delta shows a gap, or when no answer came for long. Whoever asks more often
is broken: the rest of its questions stays without an answer.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from dataclasses import dataclass

from counter.crdt.ids import number_of
from counter.protocol.messages import KeysRequest, Question, RepairRequest, RunsRequest
from counter.protocol.records import RecordsRequest

MAX_BEGUN = 10
"""How often an asker may begin to ask for one thing within a `SYNC_INTERVAL`: with every delta."""
MAX_TOLD = 2
"""How often within a `SYNC_INTERVAL` an asker is told everything; it asks for that once."""
_MAX_ROUNDS = 10_000
"""Askers and things that are remembered; the oldest are forgotten first."""


@dataclass(slots=True)
class _Round:
    """What an asker has asked for a thing since `since`: the latest number and position of it."""

    since: float
    begun: int = 0
    number: int = 0
    after: int = 0


class Rounds:
    """What others have asked for lately. One that asks begins a round, and goes on page by page."""

    def __init__(self, sync_interval: float, message_ttl: float) -> None:
        self._sync_interval = sync_interval
        self._memory = max(sync_interval, message_ttl)
        self._rounds: dict[tuple[str, str], _Round] = {}

    def may_answer(self, asker: str, question: Question, now: float) -> bool:
        """Whether to answer a question: not if it was answered, nor if there are too many."""
        match question:
            case RepairRequest():
                # Its salt numbers the rounds: each begins with another.
                # It goes on if it asks for more counts, or for the same when it knows more rows.
                place = question.after * 2**32 + question.known
                return self._may(asker, question.vector, place, question.salt, now)
            case KeysRequest():
                return self._may(asker, f"keys {question.replica}", question.after, 0, now)
            case RunsRequest():
                day = f"runs {question.member} {question.day}"
                return self._may(asker, day, number_of(question.after), 0, now)
            case RecordsRequest():
                after = int(question.after or "0", 16)
                return self._may(asker, "records", after, 0, now)

    def may_tell(self, asker: str, now: float) -> bool:
        """Whether to tell one that asks for it, or that leaves, all that there is to say."""
        return self._may(asker, "", 0, 0, now, MAX_TOLD)

    def _may(
        self,
        asker: str,
        thing: str,
        after: int,
        number: int,
        now: float,
        most: int = MAX_BEGUN,
    ) -> bool:
        """`number` is that of the round, 0 where rounds have none."""
        known = self._rounds.get((asker, thing))
        if known is not None and known.number == number:
            if known.after < after:
                known.after = after
                return True
            if number:
                return False
        if known is None or now - known.since >= self._sync_interval:
            self._rounds.pop((asker, thing), None)
            if len(self._rounds) >= _MAX_ROUNDS:
                del self._rounds[next(iter(self._rounds))]
            known = self._rounds[asker, thing] = _Round(now)
        if known.begun >= most:
            return False
        known.begun += 1
        known.number, known.after = number, after
        return True

    def forget(self, now: float) -> None:
        """Forget what began long ago."""
        for asked, known in list(self._rounds.items()):
            if now - known.since > self._memory:
                del self._rounds[asked]
