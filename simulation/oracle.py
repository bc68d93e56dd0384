"""The oracle: it knows what is true, and raises when the cluster shows anything else.

For each member and video it keeps how many visits were *tried*, how many the runs have *written*
to some store, and the *floor*: acknowledged visits that at least one memory or store still held
after every fault. What is acknowledged and below the floor must be counted everywhere in the end.

It knows only one thing about folding: it must not change a number.

For each key it knows where visits were counted under it, and which nodes have held it since. Those
nodes must not count them again. A node that the key has not reached yet may: that is the window,
and the oracle counts how often it is hit.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from counter.crdt.gcounter import merge, value
from counter.crdt.ids import class_of, is_folded, member_of, run_of
from counter.crdt.tally import Tally
from counter.node.names import Names
from counter.protocol.keys import Written
from counter.protocol.members import decode_fact
from counter.protocol.messages import KeysPage
from counter.protocol.replica import Replica
from counter.protocol.untold import NOTE
from simulation.book import Book
from simulation.disk import Disk, Request

Entry = tuple[str, str]
"""A member (or a replica) and a video."""


class BrokenPromiseError(AssertionError):
    """A promise of the counter was broken: exact, monotone or honest."""


class Node(Protocol):
    """What the oracle looks at in a node; `replica` is None while it does not run."""

    @property
    def address(self) -> str: ...
    @property
    def member(self) -> str: ...
    @property
    def disk(self) -> Disk: ...
    @property
    def replica(self) -> Replica | None: ...


class Oracle:
    """Watches every node, page and store of a simulated cluster.

    A key is known for `key_life` seconds.
    """

    def __init__(self, key_life: float) -> None:
        self.repeats = 0
        """How many requests were recognized as repeats."""
        self.counted_again = 0
        """How many were counted again through the window after a store had held them."""
        self.book = Book()
        self._key_life = key_life
        self._requests: dict[str, list[Request]] = {}
        self._numbers: dict[tuple[str, int], Request] = {}
        self._known: dict[str, dict[str, Request]] = {}
        self._tried: dict[Entry, int] = {}
        self._written: dict[Entry, int] = {}
        self._written_by_member: dict[Entry, int] = {}
        self._acknowledged: dict[Entry, int] = {}
        self._floor: dict[Entry, int] = {}
        self._aside: dict[Entry, int] = {}
        """How much of that is kept in notes, and is yet to be counted: visits of a class."""
        self._shown: dict[str, dict[str, int]] = {}
        self._showed: dict[str, tuple[float, dict[str, int]]] = {}
        """Until when a started node waits for members, and what it showed before."""
        self._falls_forgiven = False
        self._kept: dict[str, dict[Entry, int]] = {}
        self._looked: dict[str, object] = {}
        self._ready: set[str] = set()
        self._rolled_back: set[str] = set()
        self._damaged: set[str] = set()
        self._bad_disks = False
        """Whether any store was ever damaged."""
        self._reverted: set[str] = set()
        self._before: dict[Entry, int] = {}

    # -- what happens

    def tried(self, member: str, video: str) -> None:
        """A visit was made at a node."""
        self._tried[member, video] = self._tried.get((member, video), 0) + 1

    def written(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """A store holds these counts from now on."""
        for vector, changed in counts.items():
            if vector.endswith("@"):
                continue
            for video, count in changed.items():
                more = count - self._written.get((vector, video), 0)
                if more > 0:
                    self._written[vector, video] = count
                    entry = (member_of(vector), video)
                    self._written_by_member[entry] = self._written_by_member.get(entry, 0) + more

    def acknowledged(self, replica: str, counts: Mapping[str, int]) -> None:
        """The visitors were told that these visits are counted."""
        for video, count in counts.items():
            before = self._acknowledged.get((replica, video), 0)
            if count <= before and replica not in self._reverted:
                raise BrokenPromiseError(
                    f"exact: {replica} has counted {before} for {video}, and again up to {count}"
                )
            more = max(0, count - before)
            self._acknowledged[replica, video] = max(count, before)
            entry = (member_of(replica), video)
            aside = self._aside.get(entry, 0)
            self._aside[entry] = max(0, aside - more)
            self._floor[entry] = self._floor.get(entry, 0) + max(0, more - aside)

    def kept(self, member: str, counts: Mapping[str, int]) -> None:
        """The visitors were told so of visits of classes, which are in notes for now."""
        for key, count in counts.items():
            entry = member, key
            self._aside[entry] = self._aside.get(entry, 0) + count
            self._floor[entry] = self._floor.get(entry, 0) + count

    def counted(self, address: str, key: str, now: float) -> Request:
        """A node has counted visits under a key, which it must not have held."""
        known = self._known.setdefault(address, {})
        if key in known and now - known[key].at < self._key_life:
            raise BrokenPromiseError(f"exact: {address} counts {key} again, which it has held")
        before = self._requests.setdefault(key, [])
        self.counted_again += any(one.written and now - one.at < self._key_life for one in before)
        request = known[key] = Request(key, address, now)
        before.append(request)
        return request

    def answered(self, address: str, key: str) -> None:
        """A node has answered a repeat, so its visits must be counted."""
        self.repeats += 1
        if not any(request.written for request in self._requests[key]):
            raise BrokenPromiseError(f"exact: {address} answers {key}, which no store ever held")

    def numbered(self, written: Written, requests: Mapping[str, Request]) -> None:
        """These keys are in a batch from now on, so they have numbers."""
        for entry in written.own:
            self._numbers[entry.replica, entry.serial] = requests[entry.key.text]

    def saved(self, node: Node) -> None:
        """A node says that its store has everything, so it must have the node's keys."""
        for key, request in self._known[node.address].items():
            if request.address == node.address and request.written:
                node.disk.requests[key] = request

    def told(self, address: str, taken: KeysPage) -> None:
        """A node was told keys, and holds them from now on."""
        for serial, key, _, _ in taken.keys:
            self._hold(address, key, taken.replica, serial)

    def _hold(self, address: str, key: str, replica: str, serial: int) -> None:
        request = self._numbers.get((replica, serial))
        if request is None or request.key != key:
            raise BrokenPromiseError(f"exact: {address} was told {key}, which nobody has counted")
        known = self._known.setdefault(address, {})
        if key not in known or known[key].at < request.at:
            known[key] = request

    @contextmanager
    def loss(self, nodes: Sequence[Node]) -> Iterator[None]:
        """Something is destroyed inside: what nothing holds then is lost for good."""
        self._before, records = _held(nodes), self.book.held(nodes)
        yield
        self._lower(_held(nodes), self._floor)
        self.book.lost(records - self.book.held(nodes))

    def tampered(self, node: Node) -> None:
        """Somebody changes the store of a node from outside."""
        self.forgive_falls()
        self._kept.pop(node.address, None)
        self._looked.pop(f"store of {node.address}", None)
        self._rolled_back.add(node.member)

    def damaged(self, node: Node) -> None:
        """A store was damaged: its counts matter again once a start has repaired it."""
        self.tampered(node)
        self._damaged.add(node.address)
        self._bad_disks = True

    def is_damaged(self, node: Node) -> bool:
        """Whether its store was damaged and no start has repaired it yet."""
        return node.address in self._damaged

    def reverted(self, node: Node, nodes: Iterable[Node]) -> None:
        """A machine was put back to a snapshot with its memory.

        From now on its run counts what others may have heard already. Of the two the larger count
        of each video is kept, so the smaller of new and lost is given up; until it begins another
        run, and it must do so before all is at rest.
        """
        assert node.replica is not None
        self.forgive_falls()
        self._reverted.add(node.replica.id)
        self.book.forget(node.replica.id)
        self._shown.pop(node.address, None)
        self._looked.pop(node.address, None)
        # Whether it is ready is what it was in the snapshot.
        (self._ready.add if node.replica.complete else self._ready.discard)(node.address)
        held: dict[Entry, int] = {}
        for tally in _copies(nodes):
            for vector, videos in tally.vectors():
                if not is_folded(vector):
                    for video in videos:
                        entry = vector, video
                        held[entry] = max(held.get(entry, 0), tally.count(vector, video))
        for replica, video in self._acknowledged:
            if replica == node.replica.id:
                self._acknowledged[replica, video] = held.get((replica, video), 0)

    def parted(self, member: str, nodes: Iterable[Node]) -> None:
        """Two processes on copies of one store are apart for longer than `FOLD_AFTER`.

        So the names of their runs may be forgotten: then the larger sum that somebody holds counts.
        """
        most: dict[Entry, int] = {}
        for tally in _copies(nodes):
            for entry, count in _content(tally).items():
                most[entry] = max(count, most.get(entry, 0))
        for entry in [entry for entry in self._floor if entry[0] == member]:
            self._floor[entry] = min(self._floor[entry], most.get(entry, 0))

    def forgive_falls(self) -> None:
        """From here on a node that is killed may show less when it is ready again."""
        self._falls_forgiven = True

    def holds(self, vector: str, nodes: Iterable[Node]) -> bool:
        """Whether a running node holds all of a vector, as far as any store or memory does."""
        total = max((tally.total(vector) for tally in _copies(nodes)), default=0)
        running = (node.replica.tally for node in nodes if node.replica is not None)
        return any(tally.total(vector) >= total for tally in running)

    def unknown(self, nodes: Sequence[Node]) -> None:
        """A member's report is awaited by the nodes that know the member.

        When a store is rolled back to a time before it knew a member, nobody awaits that member's
        report, as after its removal.
        """
        for node in nodes:
            if any(other is not node and not _knows(other, node) for other in nodes):
                self.without(node, nodes)

    def without(self, node: Node, nodes: Sequence[Node]) -> None:
        """A node's report is not awaited: its copies of what others have lost are given up.

        Those are counts that only it holds, of runs whose own store was rolled back.
        """
        self.forgive_falls()
        self._before = _held(nodes)
        others = _held([other for other in nodes if other is not node])
        self._lower(others, [e for e in self._floor if e[0] in self._rolled_back])

    def _lower(self, after: Mapping[Entry, int], entries: Iterable[Entry]) -> None:
        for entry in list(entries):
            # What was missing before is the cluster's fault, and stays missing.
            missing = max(0, self._floor[entry] - self._before.get(entry, 0))
            self._floor[entry] = min(self._floor[entry], after.get(entry, 0) + missing)

    def started(self, node: Node, waits_until: float) -> None:
        """A node began anew: what it showed in an earlier life binds it when it is ready.

        Unless it gave up waiting for members, or its store did not know them all. It holds the
        keys in its store, and those of visits that are there.
        """
        assert node.replica is not None
        address = node.address
        if address in self._damaged:
            self._damaged.discard(address)
            self._kept.pop(address, None)
        _, showed = self._showed.pop(address, (0.0, {}))
        showed = merge(showed, self._shown.pop(address, {}))
        if all(member in node.replica.members for member, _ in self._written_by_member):
            self._showed[address] = waits_until, showed
        self._ready.discard(address)
        self._known[address] = dict(node.disk.requests)
        for key, replica, serial in node.disk.numbered():
            self._hold(address, key, replica, serial)

    # -- what must be true

    def look(
        self,
        address: str,
        replica: Replica,
        advertised: list[dict[str, int]],
        keys: list[dict[str, int]],
        now: float,
    ) -> None:
        """Check a running node: monotone, honest, and nothing shown that no store holds."""
        notes, digest = replica.backlog.notes, replica.ledger.digest
        kept = {name: notes[name] for name in notes if name.startswith(NOTE)}
        seen = (replica, replica.state, replica.complete, replica.tally.totals(), kept, digest)
        if self._looked.get(address) == seen:
            return
        self._looked[address] = seen
        if wrong := self.book.look(replica):
            raise BrokenPromiseError(f"on record: {wrong}")
        tally, shown = replica.tally, self._shown.setdefault(address, {})
        videos: set[str] = set()
        for vector, counted in tally.vectors():
            videos.update(counted)
            if is_folded(vector):
                continue
            for video in counted:
                most = self._written.get((vector, video), 0)
                if tally.count(vector, video) > most:
                    raise BrokenPromiseError(
                        f"exact: {address} shows {tally.count(vector, video)} for {vector} and "
                        f"{video}, and no store ever held more than {most}"
                    )
        for video in videos | shown.keys() | {name.removeprefix(NOTE) for name in kept}:
            counter = replica.counter(video)
            visits = value(counter)
            if class_of(video):
                visits = replica.pending.untold.visits(video, kept)
            if visits < shown.get(video, 0):
                raise BrokenPromiseError(
                    f"monotone: at {address}, {video} fell from {shown[video]} to {visits}"
                )
            shown[video] = visits
            for member, count in counter.items():
                most = self._written_by_member.get((member, video), 0)
                if count > most:
                    raise BrokenPromiseError(
                        f"exact: {address} shows {count} for {member} and {video}, "
                        f"and its runs have written no more than {most}"
                    )
        if replica.state == "ready" and address in self._showed:
            waits_until, showed = self._showed.pop(address)
            for video, visits in showed.items():
                if shown.get(video, 0) < visits and now < waits_until and not self._falls_forgiven:
                    raise BrokenPromiseError(
                        f"monotone: {address} showed {visits} for {video}, and after a start "
                        f"{shown.get(video, 0)}"
                    )
        if replica.complete and address not in self._ready:
            self._ready.add(address)
            for totals in advertised:
                for vector, total in totals.items():
                    if vector != replica.id and not _holds(tally, vector, total):
                        raise BrokenPromiseError(
                            f"honest: {address} says ready with {tally.total(vector)} of the "
                            f"{total} visits that a peer advertised of {vector}"
                        )
            told = {of: serial for reached in keys for of, serial in reached.items()}
            for (of, serial), request in self._numbers.items():
                lives = now - request.at < self._key_life
                if serial <= told.get(of, 0) and lives and not replica.keys.find(request.key, now):
                    raise BrokenPromiseError(
                        f"honest: {address} says ready without {request.key}, number {serial} "
                        f"of {of}, which a peer advertised"
                    )

    def look_at_store(self, node: Node) -> None:
        """Check a store: no count in it ever falls, unless somebody tampered with it.

        More than the runs of a member have ever written is the work of a bad disk and no count:
        it may be found at a start and go long after that, when the peers were asked. So it binds
        nothing, and nothing but a bad disk may bring it there.
        """
        place = f"store of {node.address}"
        if self._looked.get(place) == node.disk.changes or node.address in self._damaged:
            return
        self._looked[place] = node.disk.changes
        kept = self._kept.setdefault(node.address, {})
        holds = _content(node.disk.tally())
        for entry, count in kept.items():
            if holds.get(entry, 0) < count:
                raise BrokenPromiseError(
                    f"monotone: the store of {node.address} held {count} for {entry}, "
                    f"and now {holds.get(entry, 0)}"
                )
        strange = {
            entry: count
            for entry, count in holds.items()
            if count > self._written_by_member.get(entry, 0)
        }
        if strange and not self._bad_disks:
            raise BrokenPromiseError(
                f"exact: the store of {node.address} holds {strange}, which nobody has written"
            )
        self._kept[node.address] = {
            entry: count for entry, count in holds.items() if entry not in strange
        }

    def look_at_page(self, page: str, visits: Mapping[str, int]) -> None:
        """Check a page: no number on it ever falls, and none is above the visits tried."""
        shown = self._shown.setdefault(page, {})
        for video, number in visits.items():
            most = sum(count for (_, tried), count in self._tried.items() if tried == video)
            if not shown.get(video, 0) <= number <= most:
                raise BrokenPromiseError(
                    f"monotone: {page} shows {number} for {video} after {shown.get(video, 0)}; "
                    f"{most} were tried"
                )
            shown[video] = number

    def at_rest(self, nodes: Iterable[Node], now: float) -> str:
        """Return what keeps the cluster from being exact, "" if nothing does.

        Every node holds the same, at least the floor and at most what was tried. So does every
        store, or what was healed would be lost with the next kill.
        """
        nodes = list(nodes)
        first: dict[Entry, int] | None = None
        stored = (request for node in nodes for request in self._stored(node))
        keys = {request.key for request in stored if now - request.at < self._key_life}
        for node in nodes:
            replica = node.replica
            if replica is None or replica.state != "ready":
                return f"{node.address} is not ready"
            if replica.pending.untold:
                return f"{node.address} keeps what all may be told"
            if replica.pending.unflushed():
                return f"{node.address} has visits that its store does not hold"
            holds = _content(replica.tally)
            for entry in self._floor.keys() | holds.keys():
                least, most = self._floor.get(entry, 0), self._tried.get(entry, 0)
                if not least <= holds.get(entry, 0) <= most:
                    return (
                        f"{node.address} counts {holds.get(entry, 0)} for {entry}: at least "
                        f"{least} were acknowledged and kept, {most} were tried"
                    )
            if first is not None and holds != first:
                return f"{node.address} holds something else than the others"
            first = holds
            # Damaged counts are kept, and shown once every member that may know them was heard.
            # What a peer knew of them comes into the store only then, too.
            in_doubt = replica.recovery.suspected()
            if _content(node.disk.tally(without=in_doubt)) != _content(replica.tally, in_doubt):
                return f"the store of {node.address} does not hold what its node shows"
            if missing := {key for key in keys if not replica.keys.find(key, now)}:
                return f"{node.address} does not hold {missing}"
            if missing := keys - {key for key, _, _ in node.disk.numbered()}:
                return f"the store of {node.address} does not hold {missing}"
        return self.book.wrong(nodes)

    def _stored(self, node: Node) -> Iterator[Request]:
        """The requests whose visits, or keys, a node's store holds."""
        yield from node.disk.requests.values()
        for _, replica, serial in node.disk.numbered():
            yield self._numbers[replica, serial]

    def small(self, nodes: Sequence[Node]) -> str:
        """Return where a member has more vectors than one and those of its live runs."""
        processes = Counter(node.member for node in nodes)
        for node in nodes:
            assert node.replica is not None
            memory = [vector for vector, _ in node.replica.tally.vectors()]
            kept = [*map(Names(node.disk.facts).of, node.disk.counts)]
            for place, vectors in (("memory", memory), ("store", kept)):
                for member in {member_of(vector) for vector in vectors}:
                    of = sorted(v for v in vectors if member_of(v) == member)
                    if len(of) > 1 + max(1, processes[member]):
                        return f"{place} of {node.address} has {of}"
        return ""

    def visits(self) -> int:
        """How many visits were tried."""
        return sum(self._tried.values())


def _content(tally: Tally, without: Collection[str] = ()) -> dict[Entry, int]:
    """Return what a tally shows without these vectors: each member's count for each video."""
    content: dict[Entry, int] = {}
    for vector, videos in tally.vectors():
        for video in videos if vector not in without else ():
            entry = (member_of(vector), video)
            content[entry] = content.get(entry, 0) + tally.count(vector, video)
    return content


def _holds(tally: Tally, vector: str, total: int) -> bool:
    """Whether a tally has this much of a vector; a folded vector counts as held."""
    mark, run = tally.mark(member_of(vector)), run_of(vector)
    if is_folded(vector) and run == mark:
        return tally.total(vector) >= total
    return run <= mark or (not is_folded(vector) and tally.total(vector) >= total)


def _copies(nodes: Iterable[Node]) -> Iterator[Tally]:
    for node in nodes:
        yield node.disk.tally()
        if node.replica is not None:
            yield node.replica.tally


def _held(nodes: Sequence[Node]) -> dict[Entry, int]:
    """Return what all nodes and stores hold together, with what they keep in notes."""
    held = union(_copies(nodes))
    for node in nodes:
        kept = node.disk.facts | (node.replica.backlog.notes if node.replica else {})
        for name, text in (*node.disk.facts.items(), *kept.items()):
            if name.startswith(NOTE) and text.isdecimal():
                entry = node.member, name.removeprefix(NOTE)
                held[entry] = max(held.get(entry, 0), int(text))
    return held


def union(copies: Iterable[Tally]) -> dict[Entry, int]:
    """Return what all copies hold together of each entry.

    For a run that is the largest count. For runs that are folded in some copy it is the largest
    sum that a copy has of the same runs.
    """
    tallies = list(copies)
    marks: dict[str, str] = {}
    for tally in tallies:
        for vector, _ in tally.vectors():
            member = member_of(vector)
            marks[member] = max(marks.get(member, ""), tally.mark(member))
    folded: dict[Entry, int] = {}
    runs: dict[Entry, int] = {}
    for tally in tallies:
        sums: dict[Entry, int] = {}
        for vector, videos in tally.vectors():
            member = member_of(vector)
            for video in videos:
                count = tally.count(vector, video)
                if run_of(vector) <= marks[member]:
                    sums[member, video] = sums.get((member, video), 0) + count
                else:
                    runs[vector, video] = max(count, runs.get((vector, video), 0))
        for entry, count in sums.items():
            folded[entry] = max(count, folded.get(entry, 0))
    for (replica, video), count in runs.items():
        entry = (member_of(replica), video)
        folded[entry] = folded.get(entry, 0) + count
    return folded


def _knows(node: Node, other: Node) -> bool:
    """Whether a node, running or not, knows another as a member."""
    member = other.member
    if node.replica is not None:
        members = node.replica.members
        return member in members and not members.is_removed(member)
    fact = node.disk.facts.get(member)
    if fact is None:
        return any(vector.startswith(member) for vector in node.disk.counts)
    latest, removed, _ = decode_fact(fact)
    return removed < latest
