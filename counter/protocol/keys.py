"""Idempotency keys: which requests were counted, so that a repeat of one is not counted again.

Each replica numbers the keys that it takes: 1, 2, 3 ... A key goes to the store in the same batch
as its visits, and is told to everybody once it is stored. A receiver of keys knows up to which
number it holds those of each replica without a gap, and says so in its reports; a node that holds
less asks for the rest, page by page. So a key gets everywhere, whatever is lost on the way.

A key is forgotten after its `life`; where there are too many, new ones are refused. No clock of
another node is needed: a message says how old a key is, not when it was taken.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from counter.crdt.ids import run_of
from counter.protocol.client import Client, has_token
from counter.protocol.key_log import Entry, Key, KeyLog, RunLog
from counter.protocol.key_room import KeyRoom
from counter.protocol.messages import PAGE_BYTES, KeysPage, KeysRequest
from counter.protocol.peers import Peer, Peers
from counter.protocol.questions import Questions

_ENTRY_BYTES = 36
"""What an entry takes in a message, beside the key itself."""


class Found(NamedTuple):
    """A key that is known, with the request it belongs to, and how far that has come.

    Its visits are pending, in flight to the store, or committed, here or elsewhere.
    """

    fingerprint: bytes
    place: Literal["pending", "in flight", "committed"]


class Written(NamedTuple):
    """What a batch writes of keys: `own` are new ones of this replica, `notes` the text of all.

    `behind` says from which serial on keys of each replica are in it, `gone` which are removed.
    """

    own: list[Entry]
    notes: dict[str, str]
    behind: dict[str, int]
    gone: set[str]


@dataclass(slots=True)
class _Asked:
    """Whom keys of a replica were asked of, when it last answered, and how far it holds them."""

    at: float
    address: str
    wanted: int


class Keys:
    """The keys that are known to a replica: its own, and everybody's that it was told.

    `own` is the replica's id; for `epoch` see `KeyLog`.
    """

    life = 600.0
    """Seconds for which a repeat is known for one."""
    limit = 100_000
    """How many keys are held; beyond that new ones are refused, and those of peers held as well."""
    page_bytes = PAGE_BYTES

    def __init__(
        self,
        own: str,
        peers: Peers,
        questions: Questions,
        sync_interval: float,
        epoch: float,
        message_ttl: float,
        now: float,
    ) -> None:
        self.own = own
        self._log = KeyLog(self.life, self.limit, epoch, now)
        """The keys that the store holds, or will hold without being waited for."""
        self._room = KeyRoom(self.life, self.limit)
        self._peers = peers
        self._questions = questions
        self._sync_interval = sync_interval
        self._message_ttl = message_ttl
        self._pending: dict[str, Key] = {}
        self._in_flight: dict[str, Key] = {}
        self._tokenless = 0
        """How many keys came without a token of those that the store does not hold yet."""
        self._published = 0
        self._asked: dict[str, _Asked] = {}
        self._addresses: dict[tuple[str, str], float] = {}
        """When an address was last asked for the keys of a replica."""

    def __len__(self) -> int:
        """How many keys are held."""
        return len(self._log)

    @property
    def counted_again(self) -> int:
        """How many keys were found that two replicas have counted, neither knowing of the other."""
        return self._log.counted_again

    @property
    def last_counted_again(self) -> str:
        """What is to be said of the latest of them."""
        return self._log.last_counted_again

    # -- requests and the store

    def find(self, key: str, now: float) -> Found | None:
        """A request that has this key, if one was counted within the `life` of a key."""
        if (held := self._log.find(key, now)) is not None:
            return Found(held.fingerprint, "committed")
        if (pending := self._pending.get(key)) is not None:
            return Found(pending.fingerprint, "pending")
        if (written := self._in_flight.get(key)) is not None:
            return Found(written.fingerprint, "in flight")
        return None

    def check_room(self, client: Client, now: float) -> None:
        """Raise `NoRoomError` if there is no room for another key of this client."""
        log = self._log
        held = len(log) + len(self._pending) + len(self._in_flight)
        self._room.check(client, held, log.tokenless + self._tokenless, log.oldest, now)

    def charge(self, client: Client, now: float) -> None:
        """Note that a key that is taken now is of this client."""
        self._room.take(client, now)

    def take(self, key: Key) -> None:
        """Keep a key with visits that were just counted; it must not be known."""
        self._pending[key.text] = key
        self._tokenless += not has_token(key.text)

    def batch(self, limit: int) -> Written:
        """What is to be written next: every new key of this replica, about `limit` of others.

        One batch at a time: it ends with `stored` or `not_stored`.
        """
        self._in_flight, self._pending = self._pending, {}
        reached = self._log.runs[self.own].reached if self.own in self._log.runs else 0
        own = [
            Entry(self.own, serial, key)
            for serial, key in enumerate(self._in_flight.values(), reached + 1)
        ]
        written: list[Entry] = []
        behind: dict[str, int] = {}
        for replica, run in self._log.runs.items():
            if run.saved >= run.reached:
                continue
            behind[replica] = run.saved
            # The store must hold no key without those before it, or a later run, which goes by
            # the last one, would not know that it lacks some.
            all_of_it = bool(own) and replica == self.own
            last = run.reached
            for entry in run.between(run.saved, run.reached):
                if limit <= 0 and not all_of_it:
                    last = entry.serial - 1
                    break
                written.append(entry)
                limit -= 1
            run.saved = last
        gone = {self._log.gone.pop() for _ in range(min(max(limit, 0), len(self._log.gone)))}
        notes = dict.fromkeys(gone, "")
        notes |= {entry.note: self._log.text(entry) for entry in written + own}
        return Written(own, notes, behind, gone)

    def stored(self, written: Written) -> None:
        """The store holds this: its keys are told from now on."""
        self._in_flight = {}
        self._tokenless = self._without_token()
        for entry in written.own:
            run = self._log.run(self.own, entry.key.taken)
            run.reached = run.saved = entry.serial
            self._log.put(run, entry)

    def not_stored(self, written: Written) -> None:
        """The store may or may not hold this: it is to be written again."""
        self._pending = self._in_flight | self._pending
        self._in_flight = {}
        for replica, saved in written.behind.items():
            if (run := self._log.runs.get(replica)) is not None:
                run.saved = min(run.saved, saved)
        self._log.gone |= written.gone

    def opened(self, notes: Mapping[str, str], zero: float = 0.0) -> None:
        """Take in what the store holds; `zero` is its age at the clock's zero, in seconds."""
        self._log.opened(self.own, notes, zero)

    def forgotten(self) -> None:
        """The store lost something: everything is to be written again."""
        for run in self._log.runs.values():
            run.saved = 0

    def unsaved(self) -> bool:
        """Whether there is anything to be written."""
        unsaved = any(run.unsaved() for run in self._log.runs.values())
        return unsaved or bool(self._pending or self._log.gone)

    def start_new_run(self, own: str, *, reverted: bool = False) -> None:
        """The replica goes on as another run, which takes over the keys that are not written.

        If it was `reverted` to an earlier state, others may hold other keys under the numbers that
        it has given since: it numbers all of its own anew, and asks for those of the run before.
        """
        if reverted:
            for key in self._log.remove(self.own):
                self._pending.setdefault(key.text, key)
            self._tokenless = self._without_token()
        self.own, self._published = own, 0

    def forget(self, now: float) -> None:
        """Forget the keys that are older than their life, and runs that have none."""
        self._room.forget(now)
        for asked, at in list(self._addresses.items()):
            if now - at > self._message_ttl:
                del self._addresses[asked]
        for replica in self._log.forget(self.own, now):
            self._asked.pop(replica, None)

    # -- the others

    def publish(self, now: float) -> list[KeysPage]:
        """The keys of this replica that were stored since the last call."""
        run = self._log.runs.get(self.own)
        if run is None or self._published == run.reached:
            return []
        before = run.oldest()
        # A node that never heard of this replica need not ask for what is forgotten here, too.
        after = self._published if before and before.serial <= self._published else 0
        pages = []
        while after < run.reached:
            pages.append(self._page(self.own, after, now))
            after = pages[-1].last
        self._published = run.reached
        return pages

    def report(self, most: int) -> dict[str, int]:
        """Up to which serial the keys of each replica are held, where there are any.

        Of the latest runs, if there are more. Of its own it reports what it has published: more
        would look like a loss.
        """
        held = {replica: run.reached for replica, run in self._log.runs.items() if run.serials}
        if self.own in held:
            held[self.own] = self._published
        latest = sorted(held, key=run_of, reverse=True)[:most] if len(held) > most else held
        return {replica: held[replica] for replica in latest if held[replica]}

    def compare(self, reported: Mapping[str, int], peer: Peer, now: float) -> Iterator[KeysRequest]:
        """Ask for the keys that `peer` says to hold and that are missing here."""
        for replica, serial in reported.items():
            if replica == self.own or not self._log.has_room(replica):
                continue
            run = self._log.run(replica, now)
            run.heard = now
            if serial > run.reached and (ask := self._ask(replica, run, serial, peer, now)):
                yield ask

    def was_asked(self, taken: KeysPage, peer: Peer, now: float) -> bool:
        """Whether `peer` was asked for these keys, maybe some time ago and others since."""
        asked = self._addresses.get((taken.replica, peer.address))
        return asked is not None and now - asked <= self._message_ttl

    def merge(self, taken: KeysPage, peer: Peer, now: float) -> KeysRequest | None:
        """Take in keys that `peer` tells; ask for those before them, or for the next page."""
        if taken.replica == self.own:
            return None
        run = self._log.run(taken.replica, now)
        run.heard = now
        for serial, text, fingerprint, age in taken.keys:
            if taken.after < serial <= taken.last:
                key = Key(text, fingerprint, now - age / 1000)
                if now - key.taken < self.life:
                    self._log.receive(run, Entry(taken.replica, serial, key))
        if taken.after > run.reached:
            return self._ask(taken.replica, run, taken.last, peer, now)
        self._questions.answered(peer.address, _question(taken.replica))
        progress = taken.last > run.reached
        run.reached = max(run.reached, taken.last)
        asked = self._asked.get(taken.replica)
        if asked is None:
            return None
        if run.reached >= asked.wanted:
            del self._asked[taken.replica]
        elif progress and asked.address == peer.address:
            asked.at = self._addresses[taken.replica, peer.address] = now
            self._questions.may_ask(peer.address, _question(taken.replica), now)
            return KeysRequest(taken.replica, run.reached)
        return None

    def answer(self, ask: KeysRequest, now: float) -> KeysPage | None:
        """The page that is asked for; None if no more is held here."""
        run = self._log.runs.get(ask.replica)
        if run is None or run.reached <= ask.after:
            return None
        return self._page(ask.replica, ask.after, now)

    def holds(self, peer: Peer) -> bool:
        """Whether it holds all keys that `peer` has reported to hold."""
        runs = self._log.runs
        return all(
            replica == self.own or (replica in runs and runs[replica].reached >= serial)
            for replica, serial in peer.keys.items()
        )

    def held(self, peer: Peer) -> bool:
        """Whether `peer` has reported to hold all keys of this replica."""
        run = self._log.runs.get(self.own)
        return run is None or not run.serials or peer.keys.get(self.own, 0) >= run.reached

    def _without_token(self) -> int:
        return sum(not has_token(text) for text in (*self._pending, *self._in_flight))

    def _ask(
        self, replica: str, run: RunLog, wanted: int, peer: Peer, now: float
    ) -> KeysRequest | None:
        asked = self._asked.get(replica)
        waited = now - asked.at if asked else 0.0
        # What another says of a replica that still speaks proves no loss: its word may have come
        # to them a moment earlier. But one that does not answer may not hear this node.
        writes = peer is self._peers.get(replica)
        unanswered = asked is not None and waited >= self._sync_interval
        if not (writes or unanswered or not self._peers.speaks(replica, now)) or not peer.address:
            return None
        if asked is not None:
            # A peer that has not answered is asked again, but others come first.
            patience = self._sync_interval * (2 if asked.address == peer.address else 1)
            if waited < patience:
                asked.wanted = max(wanted, asked.wanted)
                return None
        if not self._questions.may_ask(peer.address, _question(replica), now):
            return None
        self._asked[replica] = _Asked(now, peer.address, wanted)
        self._addresses[replica, peer.address] = now
        return KeysRequest(replica, run.reached)

    def _page(self, replica: str, after: int, now: float) -> KeysPage:
        """As many keys after a serial as fit into one message."""
        run = self._log.runs[replica]
        page = KeysPage(replica, after, [], run.reached)
        size = 0
        for entry in run.between(after, run.reached):
            text, fingerprint, taken = entry.key
            size += len(text) + _ENTRY_BYTES
            if size > self.page_bytes and page.keys:
                page.last = page.keys[-1][0]
                break
            age = max(0, round((now - taken) * 1000))
            page.keys.append((entry.serial, text, fingerprint, age))
        return page


def _question(replica: str) -> tuple[str, str]:
    return replica, "keys"
