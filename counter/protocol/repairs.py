"""Repair: a receiver that misses something asks for the counts in which two copies differ.

It sends the hashes of its copy's buckets and gets, page by page, the counts in the buckets that
differ. The receiver sets the pace: it asks for the next page when it has the one before. Pages that
it did not ask for are dropped.

Pure: no I/O; times are in seconds of the caller's clock, which never goes back.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from counter.crdt.extract import Room
from counter.crdt.tally import Tally
from counter.protocol.announced import Copy
from counter.protocol.extracts import EXTRACT_BYTES, MAX_EXTRACT
from counter.protocol.messages import PAGE_BYTES, SALTS, RepairPage, RepairRequest, RowsPage
from counter.protocol.numbering import Numbering
from counter.protocol.numberings import Numberings
from counter.protocol.peers import Peer, Peers
from counter.protocol.questions import Questions

_MAX_OF_FEW = 1_000
"""Counts of an extract, while few videos are known: they take some 4 ms."""


@dataclass(slots=True)
class Repair:
    """A repair under way: the address and hashes it asked with, and when it last asked or heard.

    `after` is how far it has come in the copy of the node at that address, `known` how many rows of
    it were known when it asked last. `total` is what was told, None if only the content differs;
    `lacks` says whether most of that is not here when it begins.
    """

    at: float
    address: str
    hashes: bytes
    salt: int
    after: int
    total: int | None
    lacks: bool
    known: int = 0


class Repairs:
    """The repairs under way, one a vector; and the answers to those of others."""

    numbering_class: type[Numbering] = Numbering
    numberings_class: type[Numberings] = Numberings
    at_once = 8
    """How many vectors one address is asked for at a time. With more each would take so long that
    it is asked of others as well."""
    large = 10_000
    """Below this total a vector is not worth that ids are told for it."""
    scanned_a_page = 350_000
    """How many rows one answer looks at: bounds the time that a page takes to some 20 ms."""

    def __init__(
        self,
        tally: Tally,
        peers: Peers,
        questions: Questions,
        sync_interval: float,
        message_ttl: float,
    ) -> None:
        self._tally = tally
        self._peers = peers
        self._questions = questions
        self._sync_interval = sync_interval
        self._message_ttl = message_ttl
        self._repairs: dict[str, Repair] = {}
        """The latest repair of each vector."""
        self._asked: dict[tuple[str, str], Repair] = {}
        """The latest one that asks an address for a vector."""
        self._later: dict[str, dict[str, int | None]] = {}
        """What each address is to be asked for when it has answered other questions, and the total
        that it told, None where only its content differs."""
        self._deferred: dict[str, float] = {}
        """Since when vectors wait for an address that may have all of them."""
        self._answered: dict[str, float] = {}
        """When each address last answered."""
        self._salt = 0
        self._numbering = self.numbering_class(tally)
        self._numberings = self.numberings_class(tally, message_ttl)

    def __contains__(self, vector: object) -> bool:
        """Whether answers are expected that a vector grows by."""
        return vector in self._repairs

    def compare(self, vector: str, total: int, peer: Peer, now: float) -> RepairRequest | None:
        """Ask for what is missing, if `peer` holds more: the writer, or anybody once it is gone.

        What another says of a vector whose writer still speaks proves no loss: its delta may
        have come to them a moment earlier. The writer's own next word settles it. But a writer
        that does not answer may not hear this node.
        """
        if total <= self._tally.total(vector):
            return None
        asked = self._repairs.get(vector)
        unanswered = asked is not None and now - asked.at >= self._sync_interval
        writes = peer is self._peers.get(vector)
        if writes or unanswered or not self._peers.speaks(vector, now):
            return self._ask(vector, peer.address, now, total)
        return None

    def compare_content(
        self, vector: str, copy: Copy, peer: Peer, now: float
    ) -> RepairRequest | None:
        """Ask for what differs, if `peer` holds as much, but not the same."""
        if copy.digest is None or self._tally.total(vector) != copy.total:
            return None
        if self._tally.digest(vector) == copy.digest:
            return None
        return self._ask(vector, peer.address, now)

    def _ask(
        self, vector: str, address: str, now: float, total: int | None = None
    ) -> RepairRequest | None:
        """Ask an address for a vector, of which it has told a `total`, if it is time for that."""
        asked = self._repairs.get(vector)
        if asked is not None:
            # A peer that has not answered is asked again, but others come first.
            patience = self._sync_interval * (2 if asked.address == address else 1)
            if now - asked.at < patience:
                return None
        if not address or not self._tally.current(vector):
            return None
        own = self._tally.vector(vector)
        lacks = total is not None and max(self.large, 2 * own.total) < total
        if lacks and self._waits_elsewhere(vector, address, now):
            return None
        most = self._at_once(address, now) if lacks else self.at_once
        if self._are_many(vector, address, most, now) or not self._questions.may_ask(
            address, vector, now
        ):
            self._later.setdefault(address, {})[vector] = total
            return None
        # If a page was lost, it goes on from there. A position means something only to the copy
        # that it was given by.
        before = self._asked.get((vector, address))
        recent = before is not None and now - before.at <= self._message_ttl
        after = before.after if before is not None and recent else 0
        # With another salt each time, what one repair misses by accident is found by the next.
        self._salt = self._salt % SALTS + 1
        # Of a copy that is told from its beginning, nothing is here that follows.
        whole = not own.total or (before is not None and after and not before.hashes)
        hashes = b"" if whole else own.hashes(own.buckets(), self._salt)
        lacks = lacks or (before is not None and recent and before.lacks)
        repair = Repair(now, address, hashes, self._salt, after, total, lacks)
        self._repairs[vector] = self._asked[vector, address] = repair
        return self._request(vector, repair, now)

    def _request(self, vector: str, repair: Repair, now: float) -> RepairRequest:
        """The question for the next page of a repair."""
        asked = vector, repair.hashes, repair.salt, repair.after, self.most()
        if not self._numberings.is_read(repair.address):
            repair.known = 0
            return RepairRequest(*asked)
        repair.known, digest = self._numberings.known(repair.address)
        home = self._numberings.home(now, 2 * self._sync_interval)
        # The ids of one address are enough.
        is_told = repair.lacks and home in (None, repair.address)
        lacks = self._lacks(repair.address) if is_told else 0
        return RepairRequest(*asked, lacks, repair.known, digest)

    def _lacks(self, address: str) -> int:
        """How many vectors an address is asked for of which most is not here."""
        under_way = sum(one.lacks for one in self._repairs.values() if one.address == address)
        return under_way + len(self._later.get(address, ()))

    def _waits_elsewhere(self, vector: str, address: str, now: float) -> bool:
        """Whether another address that answers is to be asked for a vector, when it is its turn.

        Of all addresses the one whose ids are known comes first, or that was asked first. It gets
        a `SYNC_INTERVAL` to say that it has the vector, too, and `MESSAGE_TTL` for its turn to
        come: one that never ends holds up nothing for ever.
        """
        lead, patience = self._lead(now), 0.0
        for other, later in self._later.items():
            if other != address and vector in later and self._are_asked(other, now):
                if lead == address:
                    del later[vector]
                    return False
                patience = self._message_ttl
        if not patience and lead not in (None, address):
            patience = self._sync_interval
        return patience > 0 and now - self._deferred.setdefault(vector, now) < patience

    def _lead(self, now: float) -> str | None:
        """The address whose ids are known, or are about to be."""
        patience = 2 * self._sync_interval
        home = self._numberings.home(now, patience)
        if home is not None:
            return home
        for one in self._repairs.values():
            if one.lacks and one.address not in self._answered and now - one.at < patience:
                return one.address
        return None

    def _are_asked(self, address: str, now: float) -> int:
        """How many answers of an address are expected."""
        patience = 2 * self._sync_interval
        repairs = self._repairs.values()
        return sum(1 for one in repairs if one.address == address and now - one.at < patience)

    def _at_once(self, address: str, now: float) -> int:
        """How many vectors it is asked for at a time: one until it answers."""
        answered = self._answered.get(address)
        if answered is None or now - answered >= 2 * self._sync_interval:
            return 1
        return self.at_once

    def _are_many(self, vector: str, address: str, most: int, now: float) -> bool:
        """Whether so many answers of an address are expected that others wait.

        While it tells its ids they all do: they are told by row afterwards.
        """
        patience = 2 * self._sync_interval
        if self._numberings.are_coming(address, vector, now, patience):
            return True
        return self._are_asked(address, now) >= most

    def ask(self, vector: str, peer: Peer, now: float) -> RepairRequest | None:
        """Ask `peer` for what it has of a vector, whatever is known of its copy."""
        return self._ask(vector, peer.address, now)

    def wants(self, answer: RepairPage | RowsPage, peer: Peer, now: float) -> bool:
        """Whether `peer` was asked for this, maybe some time ago and others since."""
        asked = self._asked.get((answer.vector, peer.address))
        return asked is not None and now - asked.at <= self._message_ttl

    def read(self, answer: RepairPage | RowsPage, peer: Peer, now: float) -> RepairPage | None:
        """What an answer of `peer` says; None if it was not asked for, or cannot be read here."""
        if not self.wants(answer, peer, now):
            return None
        if isinstance(answer, RowsPage):
            counts = self._numberings.read(answer, peer.address, now)
            if counts is None:
                return None
            return RepairPage(answer.vector, counts, answer.next, answer.total)
        asked = self._asked[answer.vector, peer.address]
        if asked.known > asked.after:
            # It has other rows than it had, or is another node.
            self._numberings.forget_of(peer.address)
        return answer

    def answer(self, ask: RepairRequest, own: str) -> RepairPage | RowsPage | None:
        """The page that is asked for; None if nothing is known here of the vector.

        `own` is the replica that answers: of its own vector it tells the total, too.
        """
        total = self._tally.total(ask.vector)
        if not total:
            return None
        told = total if ask.vector == own else None
        if ask.most and (ask.lacks or ask.known):
            page = self._numbering.page(ask, told, self.scanned_a_page)
            if page is not None:
                return page
        counts: Mapping[str, int]
        if ask.most:
            room = Room(EXTRACT_BYTES, 9, min(ask.most, MAX_EXTRACT))
            asked = ask.vector, ask.hashes, ask.salt, ask.after
            counts, end = self._tally.extract(*asked, room, self.scanned_a_page)
        else:
            counts, end = self._tally.vector(ask.vector).differing(
                ask.hashes, ask.salt, ask.after, PAGE_BYTES, self.scanned_a_page
            )
        return RepairPage(ask.vector, counts, end, told)

    def go_on(self, answer: RepairPage, peer: Peer, now: float) -> list[RepairRequest]:
        """A page has come from `peer`: ask it for the next one, or for other vectors at the end.

        Also when another was asked since, or with a round trip longer than its patience a node
        would ask one after the other, and get no further than their first pages.
        """
        repair = self._asked.get((answer.vector, peer.address))
        if repair is None:
            return []
        self._answered[peer.address] = now
        latest = self._repairs.get(answer.vector)
        repair.after = answer.next or 0
        waits = self._waits(answer.vector, repair, now)
        ends = answer.next is None or self._is_left_to_another(answer.vector, repair, now)
        if ends or waits:
            if self._repairs.get(answer.vector) is repair:
                del self._repairs[answer.vector]
            self._questions.answered(peer.address, answer.vector)
            if waits:
                self._later.setdefault(peer.address, {})[answer.vector] = repair.total
            else:
                self._numberings.ended(peer.address, answer.vector)
            return self._next(peer.address, now)
        self._questions.may_ask(peer.address, answer.vector, now)
        repair.at = now
        if latest is not None:
            # Something comes, so there is no need to ask anybody else meanwhile.
            latest.at = now
        return [self._request(answer.vector, repair, now), *self._next(peer.address, now)]

    def _waits(self, vector: str, repair: Repair, now: float) -> bool:
        """Whether the ids that a repair needs next are on their way with another one."""
        known, _ = self._numberings.known(repair.address)
        patience = 2 * self._sync_interval
        return 0 < known <= repair.after and self._numberings.are_coming(
            repair.address, vector, now, patience
        )

    def _is_left_to_another(self, vector: str, repair: Repair, now: float) -> bool:
        """Whether a repair by ids ends here, because an address that tells its rows has the same.

        When an answer was late others were asked, and each of them would tell all of its ids. As
        ever, that holds up nothing for more than `MESSAGE_TTL`.
        """
        patience = 2 * self._sync_interval
        home = self._numberings.home(now, patience)
        if not repair.lacks or home in (None, repair.address):
            return False
        by_row = self._asked.get((vector, home))
        if by_row is not None and now - by_row.at >= patience:
            by_row = None
        if by_row is None and vector not in self._later.get(home, ()):
            return False
        if now - self._deferred.setdefault(vector, now) >= self._message_ttl:
            return False
        if by_row is not None:
            self._repairs[vector] = by_row
        return True

    def most(self) -> int:
        """How many counts it takes in an extract: new ones take longer while there are few."""
        return MAX_EXTRACT if self._tally.ids.settled else _MAX_OF_FEW

    def _next(self, address: str, now: float) -> list[RepairRequest]:
        """Ask an address for what had to wait for its answers, as far as that is still lacking."""
        asks: list[RepairRequest] = []
        later = self._later.get(address, {})
        while later and not self._are_many("", address, self.at_once, now):
            vector, total = next(iter(later.items()))
            del later[vector]
            if total is None or total > self._tally.total(vector):
                ask = self._ask(vector, address, now, total)
                if ask is not None:
                    asks.append(ask)
                elif vector in later:
                    break
        return asks

    def forget(self, now: float) -> None:
        """End the repairs of vectors that have been folded, and forget old questions."""
        for address in list(self._later):
            # What is still lacking comes up again with the next report.
            if not self._questions.waits(address):
                del self._later[address]
        for vector in list(self._repairs):
            if not self._tally.current(vector):
                del self._repairs[vector]
        for times in (self._answered, self._deferred):
            for key, at in list(times.items()):
                if now - at > 3 * self._message_ttl:
                    del times[key]
        for asked, repair in list(self._asked.items()):
            if now - repair.at > self._message_ttl:
                del self._asked[asked]
        self._numberings.forget({address: None for _, address in self._asked}, now)
