"""How a node gets the recent viewers that it missed: after a lost message, a split, a restart.

Each process is a writer of those that it tells, and numbers them. A report says of each writer
how far the sender knows it, so two nodes that know the same send nothing more. A node that knows
less asks one peer, one page after another: at most one is under way. Any node that knows a writer
answers for it, so also what a node has told that is gone now, or has restarted, is found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from counter.protocol.seen_log import SeenLog, entries
from counter.protocol.seen_messages import MAX_PLACES_TOLD, SeenPage, SeenRequest

_PATIENCE = 3.0
"""Seconds for which a page is awaited."""
_MAX_WRITERS, _MAX_PEERS = 1_000, 1_000


@dataclass(slots=True)
class _Told:
    """What a peer has said last, and when, in seconds."""

    at: float
    places: Mapping[int, int]


@dataclass(slots=True)
class _Round:
    """The page that is awaited: from where, since when, and what else that peer knows."""

    address: str
    question: SeenRequest
    at: float
    places: Mapping[int, int]


class SeenRepairs:
    """What each writer has told within the window, and what is asked for. Not thread-safe.

    Ticks are tenths of a second, as is `window`; at most `most` entries are held. `now` is in
    seconds. Who was not heard for `silence` seconds is asked at once for what it knows beyond
    this node; else a second report must say so, as the first may have overtaken a message.
    """

    def __init__(self, writer: int, window: int, most: int, silence: float) -> None:
        self.writer = writer
        """This process."""
        self._window = window
        self._most = most
        self._silence = silence
        self._own = SeenLog()
        self._logs: dict[int, SeenLog] = {writer: self._own}
        """The one that was heard longest ago first, but for this process."""
        self._peers: dict[str, _Told] = {}
        self._round: _Round | None = None

    def __len__(self) -> int:
        """How many entries are held."""
        return sum(len(log) for log in self._logs.values())

    @property
    def place(self) -> int:
        """How many this process has told."""
        return self._own.end

    def tell(self, viewer: int, tick: int) -> None:
        """Note one that this process tells now."""
        self._own.append(viewer, tick)

    def hear(self, writer: int, after: int, seen: list[tuple[int, int]]) -> None:
        """Note what a writer has told after a place; what does not follow is asked for later."""
        if writer == self.writer:
            return
        log = self._log(writer)
        if after <= log.end:
            log.take(seen, after + len(seen))

    def _log(self, writer: int) -> SeenLog:
        log = self._logs.pop(writer, None) or SeenLog()
        self._logs[writer] = log
        if len(self._logs) > _MAX_WRITERS:
            oldest = next(one for one in self._logs if one != self.writer)
            del self._logs[oldest]
        return log

    def forget(self, tick: int) -> None:
        """Forget those whose window is over, and the oldest of the most if there are too many."""
        for log in self._logs.values():
            log.forget(tick - self._window + 1)
        if (beyond := len(self) - self._most) > 0:
            max(self._logs.values(), key=len).drop(beyond)

    # -- with the other nodes

    def told(self) -> dict[int, int]:
        """What a report says: how far this node knows each writer of whom it holds any."""
        held = ((writer, log.end) for writer, log in reversed(self._logs.items()) if len(log))
        return dict(islice(held, MAX_PLACES_TOLD))

    def heard(
        self, sender: str, address: str, places: Mapping[int, int], now: float
    ) -> SeenRequest | None:
        """Take in what a report says; return what is to be asked of its sender."""
        before = self._peers.pop(sender, None)
        self._peers[sender] = _Told(now, places)
        if len(self._peers) > _MAX_PEERS:
            del self._peers[next(iter(self._peers))]
        if before is not None and now - before.at < self._silence:
            known = before.places
            places = {writer: min(place, known.get(writer, 0)) for writer, place in places.items()}
        if self._round is not None and now - self._round.at < _PATIENCE:
            return None
        return self._ask(address, places, now)

    def answer(self, request: SeenRequest, tick: int) -> SeenPage | None:
        """The page that was asked for; None if nothing more of this writer is known."""
        log = self._logs.get(request.writer)
        if log is None or log.end <= request.after:
            return None
        return SeenPage(request.writer, request.after, *log.page(request.after, tick))

    def answered(self, page: SeenPage, address: str, tick: int) -> list[tuple[int, int]] | None:
        """Take in a page: its viewers, with ticks; None if it was not asked for.

        `ask_on` must follow.
        """
        if (
            self._round is None
            or self._round.address != address
            or self._round.question != SeenRequest(page.writer, page.after)
            or page.to <= page.after
        ):
            return None
        seen = [one for one in entries(page.seen, tick) if tick - one[1] < self._window]
        self._log(page.writer).take(seen, page.to)
        return seen

    def ask_on(self, now: float) -> SeenRequest | None:
        """The next question to the peer that has answered; None if it knows no more."""
        round_, self._round = self._round, None
        return None if round_ is None else self._ask(round_.address, round_.places, now)

    def _ask(self, address: str, places: Mapping[int, int], now: float) -> SeenRequest | None:
        self._round = None
        for writer, place in places.items():
            log = self._logs.get(writer)
            after = 0 if log is None else log.end
            if writer != self.writer and place > after and address:
                question = SeenRequest(writer, after)
                self._round = _Round(address, question, now, places)
                return question
        return None
