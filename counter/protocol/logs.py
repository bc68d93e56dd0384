"""Visit logs: how far each was read, by the node that follows it.

A position counts only together with the visits up to it: it is stored in one step with them, told
after them, and taken in only where all of them are held.

Pure: no I/O, no clock.
"""

from collections.abc import Collection, Iterator, Mapping

from counter.crdt.ids import member_of, name_of
from counter.crdt.tally import Tally
from counter.protocol.announced import MAX_LOGS
from counter.protocol.joining import Joining
from counter.protocol.messages import Delta
from counter.protocol.peers import Peer
from counter.protocol.pending import Pending
from counter.protocol.positions import Positions, decode_positions, encode_positions, join
from counter.protocol.waiting import Waiting

LOG = "log:"
"""How the name of a note begins that says how far a visit log was read."""


class Logs:
    """The positions in every log that is followed, by `NAME/file`, its node and file.

    `member` is this node. `waiting` are visits that were read and are not counted yet.
    """

    def __init__(self, member: str, tally: Tally, pending: Pending, joining: Joining) -> None:
        self.waiting = Waiting(member, tally, pending)
        self._name = name_of(member)
        self._pending = pending
        self._joining = joining
        self._positions: dict[str, Positions] = {}
        self._log = ""
        self._read: Positions = {}
        """How far this process has read its own log, pending visits included."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def of(self, log: str) -> Positions:
        """How far a log was read, as far as that may be told."""
        return self._positions.get(log, {})

    # -- the log that this process follows

    def read(self, log: str, visits: Mapping[str, int], positions: Positions) -> None:
        """Count what the log says up to these positions, as `Pending.count_many` does."""
        read = join(self._read, positions)
        name = f"{self._name}/{log}"
        self._pending.count_many(visits, {LOG + name: encode_positions(read)})
        self._log, self._read = name, read

    def has_read(self, log: str, files: Collection[str]) -> Positions:
        """How far the log that has these files was read, whichever node followed it."""
        same = [known for known in self._positions.values() if not known.keys().isdisjoint(files)]
        return join(self._read, join(*same)) or self.of(f"{self._name}/{log}")

    def publish(self, notes: Mapping[str, str]) -> dict[str, Positions]:
        """What to tell of its own log beside the visits; `notes` are what the store holds.

        Only now: a node that heard of a position before the counts would lose them with this
        store.
        """
        read = decode_positions(notes.get(LOG + self._log, ""))
        told = self.of(self._log)
        news = {file: position for file, position in read.items() if told.get(file) != position}
        if not news:
            return {}
        self.join(self._log, read)
        return {self._log: news}

    # -- the others'

    def opened(self, notes: Mapping[str, str]) -> None:
        """Take in what the store knows."""
        self.waiting.opened(notes)
        for name, text in notes.items():
            if name.startswith(LOG):
                self.join(name.removeprefix(LOG), decode_positions(text))

    def join(self, log: str, positions: Positions) -> bool:
        """Take in how far a log was read; say whether anything of it was news."""
        before = self._positions.get(log, {})
        self._positions[log] = joined = join(before, positions)
        return joined != before

    def heard_delta(self, sender: str, delta: Delta, peer: Peer) -> None:
        """Take how far a log was read, if all visits up to there are held here."""
        member = member_of(sender)
        said = ((v, copy.total) for v, copy in peer.copies() if member_of(v) == member)
        if all(self._joining.holds(*copy) for copy in ((sender, delta.total), *said)):
            for log, positions in delta.read.items():
                self._heard(log, positions)

    def heard_all(self, peer: Peer) -> None:
        """Take what a peer has said of logs, once all is held here that it holds."""
        unnamed = next(self._joining.unnamed(peer), None)
        holds = self._joining.holds
        if unnamed is None and all(holds(v, copy.total) for v, copy in peer.copies()):
            for log, positions in peer.said.logs.items():
                self._heard(log, positions)
            peer.unread = False

    def _heard(self, log: str, positions: Positions) -> None:
        if log not in self._positions and len(self._positions) >= MAX_LOGS:
            return
        if self.join(log, positions):
            read = join(self.of(log), self._read if log == self._log else {})
            self._pending.note({LOG + log: encode_positions(read)})
