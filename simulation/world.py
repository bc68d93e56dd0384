"""The states of the exhaustive search, and what can happen in each.

A world is a few integers: each place is frozen once and has a number from then on. A step of some
places is also computed once, and looked up when it happens again in another world.
"""

import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from counter.crdt.ids import member_of
from counter.crdt.tally import Tally
from simulation.cluster import Cluster
from simulation.disk import tally_of
from simulation.frozen import LONG_AGO, digest, freeze, thaw
from simulation.network import Network
from simulation.node import Sent
from simulation.oracle import BrokenPromiseError, union
from simulation.place import APART, TIMING, WHILE, Place
from simulation.rules import Rules
from simulation.scope import NAMES, Action, Scope

FIRST, COPY, SECOND = range(3)
"""The places: the first member, one that runs on a copy of its store, and the second member."""
_NAME = ("a", "a", "b")
_MEMBER = (0, 0, 1)
NOWHERE = -1
_AT_REST = 60
"""Waits within which a healed cluster must come to rest."""
_MAX_MESSAGES = 800
"""Deliveries of one while; more are an endless exchange."""
_VIDEOS = ("cats", "dogs")

Counts = tuple[int, ...]
"""A number for each member and video, in this order."""


class World(NamedTuple):
    """A state of everything. Places are the numbers of frozen places, or `NOWHERE`."""

    places: tuple[int, ...]
    tried: Counts
    floor: Counts
    """Acknowledged visits that some memory or store holds."""
    runs: tuple[int, ...]
    copy: int = NOWHERE
    copies: int = 0
    rolled_back: bool = False
    clock_steps: int = 0
    losses: int = 0
    late: tuple[int, int, int] = (0, 0, 0)
    """How often messages were held back; the number of those that are now, and their sender."""
    removals: int = 0
    apart: int = 0
    """For how many waits the original and the copy have not heard each other."""
    snapshot: int = NOWHERE
    snapshots: int = 0
    debt: tuple[str, Counts] = ("", ())
    """A run that was put back, and how much more of it others hold for each video."""


class Sight(NamedTuple):
    """What can be seen of a frozen place."""

    running: bool
    folds: bool
    ready: bool
    replica: str
    memory: Tally | None
    shown: Counts
    store: Tally
    stored: Counts
    unheard: list[str]
    member: str
    essence: int
    """Equal for places that show and hold the same, whatever they have heard of others."""


class Worlds:
    """Everything that can happen within a scope, to nodes made of these parts."""

    def __init__(self, scope: Scope, rules: Rules) -> None:
        assert max(3 * TIMING.sync_interval, 2 * TIMING.message_ttl) < LONG_AGO
        self.scope = scope
        self.rules = rules
        self._numbers: dict[bytes, int] = {}
        self._essences: dict[bytes, int] = {}
        self._frozen: list[bytes] = []
        self._sights: list[Sight] = []
        self._steps: dict[tuple[int, Hashable], int] = {}
        self._seconds: dict[object, tuple[tuple[int, ...], int]] = {}
        self._unions: dict[frozenset[int], Counts] = {}
        self._held: list[tuple[Sent, ...]] = [()]
        self._held_numbers: dict[object, int] = {self._held[0]: 0}
        self._settled: set[tuple[tuple[int, ...], Counts, Counts]] = set()

    def first(self) -> World:
        """Return the first state: two members that have heard each other."""
        numbers = []
        for place in (FIRST, SECOND):
            new = Place(place, _NAME[place], self.rules)
            new.begin(APART)
            numbers.append(self._number(new))
        none = (0,) * (2 * len(_VIDEOS))
        world = World((numbers[0], NOWHERE, numbers[1]), none, none, (1, 1))
        return self.do(world, Action("calm", ((FIRST, SECOND),)))

    # -- what can happen

    def actions(self, world: World) -> Iterator[Action]:
        """Yield what can happen next."""
        scope = self.scope
        running = [p for p in range(3) if self._runs(world, p)]
        for place in running:
            if self._tried(world, _MEMBER[place]) < scope.visits:
                for video in range(scope.videos):
                    # Which video is visited first makes no difference.
                    if not video or world.tried[0] or world.tried[len(_VIDEOS)]:
                        yield Action("visit", ((place,),), video)
        for parts in _partitions(running) if scope.splits else [(tuple(running),)]:
            if running:
                yield Action("wait", parts)
                yield Action("until a fold", parts)
                yield Action("calm", parts)
        for place in running if scope.videos > 1 else ():
            if self._sight(world, place).folds:
                yield Action("move a row", ((place,),))
        if len(running) > 1:
            for place in running:
                if world.losses < scope.losses:
                    for kind in ("dumb", "deaf"):
                        yield Action(kind, ((place,),))
                        yield Action(f"{kind} until a fold", ((place,),))
                if world.late[0] < scope.late:
                    yield Action("hold back", ((place,),))
                    yield Action("send twice", ((place,),))
        if world.late[1]:
            for place in running:
                if place != world.late[2]:
                    yield Action("late", ((place,),))
        clocks = range(1 + (world.clock_steps < scope.clock_steps))
        for place in range(3):
            if place in running:
                if scope.kills:
                    yield Action("kill", ((place,),))
                    if self._may_run(world, place):
                        for clock in clocks:
                            yield Action("restart", ((place,),), clock)
            elif world.places[place] != NOWHERE and self._may_run(world, place):
                for clock in clocks:
                    yield Action("start", ((place,),), clock)
        if world.copies < scope.copies:
            yield Action("copy", ((FIRST,),))
            if world.places[COPY] == NOWHERE and self._may_run(world, COPY):
                for clock in clocks:
                    yield Action("run a copy", ((COPY,),), clock)
        if world.copy != NOWHERE:
            if world.places[COPY] == NOWHERE and self._may_run(world, COPY):
                for clock in clocks:
                    yield Action("start the copy", ((COPY,),), clock)
            yield Action("roll back", ((FIRST,),))
        if world.snapshots < scope.snapshots and FIRST in running:
            yield Action("snapshot", ((FIRST,),))
        if world.snapshot != NOWHERE:
            yield Action("put back", ((FIRST,),))
            if FIRST in running:
                yield Action("put back the memory", ((FIRST,),))
        if world.removals < scope.removals:
            for place in running:
                for member in self._sight(world, place).unheard:
                    yield Action("remove", ((place,),), _NAME.index(member[0]) // 2)

    def _may_run(self, world: World, place: int) -> bool:
        return world.runs[_MEMBER[place]] < self.scope.runs

    def _runs(self, world: World, place: int) -> bool:
        return world.places[place] != NOWHERE and self._sight(world, place).running

    def _tried(self, world: World, member: int) -> int:
        return sum(world.tried[member * len(_VIDEOS) : (member + 1) * len(_VIDEOS)])

    def do(self, world: World, action: Action) -> World:
        """Return the state after an action. Raises `BrokenPromiseError`."""
        kind, parts, what = action
        place = parts[0][0]
        member = _MEMBER[place]
        after = world
        match kind:
            case "visit":
                at = member * len(_VIDEOS) + what
                after = self._place(world, place, ("visit", what), lambda p: p.visit(_VIDEOS[what]))
                after = after._replace(tried=_raised(world.tried, at))
                run, debt = world.debt
                if place == FIRST and run == self._sight(world, place).replica and debt[what]:
                    # Others hold more of this run: this visit is among the smaller of two.
                    after = after._replace(debt=(run, _with(debt, what, debt[what] - 1)))
                else:
                    after = after._replace(floor=_raised(world.floor, at))
            case "move a row":
                after = self._place(world, place, kind, Place.move_a_row)
            case "wait":
                after = self._wait(world, parts)
            case "calm":
                after = self._calm(world, parts)
            case "until a fold":
                after = self._calm(world, parts, until_a_fold=True)
            case "dumb" | "deaf" | "hold back" | "send twice":
                after = self._wait(world, (self._running(world),), kind, place)
                if kind in ("dumb", "deaf"):
                    after = after._replace(losses=world.losses + 1)
            case "dumb until a fold" | "deaf until a fold":
                lossy = kind.partition(" ")[0]
                parts = (self._running(world),)
                after = self._calm(world, parts, lossy, place, until_a_fold=True)
                after = after._replace(losses=world.losses + 1)
            case "snapshot":
                after = world._replace(snapshot=world.places[FIRST], snapshots=world.snapshots + 1)
            case "put back" | "put back the memory":
                after = self._put_back(world, with_disk=kind == "put back")
            case "late":
                after = self._late(world, place)
            case "kill":
                after = self._lost(self._place(world, place, "kill", Place.kill))
            case "restart":
                after = self.do(self.do(world, Action("kill", parts)), Action("start", parts, what))
            case "run a copy":
                after = self.do(world, Action("copy", ((FIRST,),)))
                after = self.do(after, Action("start the copy", parts, what))
            case "start" | "start the copy":
                if kind == "start the copy":
                    places = _with(after.places, COPY, world.copy)
                    after = after._replace(places=places, copy=NOWHERE)
                after = self._start(after, place, is_behind=bool(what))
                after = after._replace(clock_steps=world.clock_steps + what)
            case "copy":
                number = self._copy(world.places[FIRST])
                after = world._replace(copy=number, copies=world.copies + 1)
            case "roll back":
                after = self._place(
                    world,
                    FIRST,
                    ("restore", world.copy),
                    lambda p: p.disk.take(self._thaw(world.copy).disk),
                )
                after = self._lost(after._replace(copy=NOWHERE, rolled_back=True))
            case "remove":
                after = self._remove(world, place, what)
        if after.places[COPY] != NOWHERE and after.apart >= self.scope.apart:
            after = self._parted(after)
        if kind not in ("roll back", "restart", "put back", "put back the memory"):
            self._compare(world.places, after.places)
        self._check(after)
        return after

    # -- steps of one place

    def _place(
        self, world: World, place: int, what: Hashable, do: Callable[[Place], object]
    ) -> World:
        """Return the world after something happened at a place; see `_step`."""
        number = self._step(world.places[place], what, do)
        return world._replace(places=_with(world.places, place, number))

    def _step(self, number: int, what: Hashable, do: Callable[[Place], object]) -> int:
        """Return a place as it is after something, which is named so that it is done once."""
        key = (number, what)
        if key not in self._steps:
            place = self._thaw(number)
            do(place)
            self._steps[key] = self._number(place)
        return self._steps[key]

    def _start(self, world: World, place: int, *, is_behind: bool = False) -> World:
        """Start a place; its clock may be behind every run that is known."""
        runs = world.runs[_MEMBER[place]] + 1
        ahead = 0 if is_behind else APART * runs
        world = self._place(world, place, ("start", ahead), lambda p: p.begin(ahead))
        return world._replace(runs=_with(world.runs, _MEMBER[place], runs))

    def _copy(self, number: int) -> int:
        """Return a place that has a copy of a store."""
        key = (number, "copy")
        if key not in self._steps:
            place = Place(COPY, _NAME[COPY], self.rules)
            place.disk.take(self._thaw(number).disk)
            self._steps[key] = self._number(place)
        return self._steps[key]

    def _put_back(self, world: World, *, with_disk: bool) -> World:
        """Put the first machine back to its snapshot, with or without its disk."""

        def back(place: Place) -> None:
            later = self._thaw(world.places[FIRST])
            if not with_disk:
                place.forget(later)
            # No run gets a name that was used before.
            place.minted = later.minted

        number = self._step(world.snapshot, ("back", with_disk, world.places[FIRST]), back)
        places = _with(world.places, FIRST, number)
        after = self._lost(world._replace(places=places, snapshot=NOWHERE))
        run = self._sights[number].replica
        debt = []
        for video in _VIDEOS:
            counts = [
                one.count(run, video)
                for p in range(3)
                if after.places[p] != NOWHERE
                for one in (self._sight(after, p).memory, self._sight(after, p).store)
                if one is not None
            ]
            memory_ = self._sights[number].memory
            own = memory_.count(run, video) if memory_ else 0
            debt.append(max(counts) - own)
        return after._replace(debt=(run, tuple(debt)))

    def _remove(self, world: World, place: int, member: int) -> World:
        """The operator removes a member; connected nodes hear of it with the next report.

        Given up is what only that member holds of counts that others have lost; and, where two
        processes run as one member, what they do not both hold.
        """
        names = {self._sight(world, p).member: p for p in range(3) if world.places[p] != NOWHERE}
        name = next(n for n, p in names.items() if _MEMBER[p] == member)
        after = self._place(world, place, ("remove", name), lambda p: p.remove(name))
        after = after._replace(removals=world.removals + 1)
        if world.rolled_back:
            others = [after.places[p] for p in range(3) if _MEMBER[p] != member]
            after = after._replace(floor=self._given_up(after.floor, self._union(others)))
        if member == 0 and world.places[COPY] != NOWHERE:
            after = self._parted(after)
        return after

    # -- time

    def _running(self, world: World) -> tuple[int, ...]:
        return tuple(p for p in range(3) if self._runs(world, p))

    def _wait(
        self,
        world: World,
        parts: Sequence[tuple[int, ...]],
        lossy: str = "",
        at: int = NOWHERE,
    ) -> World:
        """Let a while pass, in which places in the same part of the network hear each other."""
        after, kept = world.places, 0
        for part in parts:
            numbers, held = self._part(world.places, part, lossy, at)
            kept = max(kept, held)
            for place, number in zip(part, numbers, strict=True):
                after = _with(after, place, number)
        times, held, _ = world.late
        # What is held back for longer than a message may live is dropped.
        late = (times + 1, kept, at) if kept else (times, 0, 0)
        world = world._replace(places=after, late=late)
        if world.places[COPY] == NOWHERE:
            return world
        if any(FIRST in part and COPY in part for part in parts) and lossy not in ("dumb", "deaf"):
            return world._replace(apart=0)
        world = world._replace(apart=min(self.scope.apart, world.apart + 1))
        return self._parted(world) if world.apart == self.scope.apart else world

    def _part(
        self, places: tuple[int, ...], part: tuple[int, ...], lossy: str, at: int
    ) -> tuple[tuple[int, ...], int]:
        """Let a while pass for one part; return the places after it, and what was held back."""
        key = (tuple(places[p] for p in part), part, lossy, at)
        found = self._seconds.get(key)
        if found is not None:
            return found
        cluster = _cluster([self._thaw(places[p]) for p in part])
        one, others = f"at-{at}", [f"at-{p}" for p in part if p != at]
        if lossy == "dumb":
            cluster.network.cut = {(one, other) for other in others}
        elif lossy == "deaf":
            cluster.network.cut = {(other, one) for other in others}
        kept = 0
        for place, sent in cluster.tick():
            if place.address == one and lossy in ("hold back", "send twice"):
                kept = self._held_numbers.setdefault(tuple(sent), len(self._held))
                if kept == len(self._held):
                    self._held.append(tuple(sent))
                if lossy == "hold back":
                    continue
            cluster.send(place, sent)
        cluster.deliver()
        found = self._seconds[key] = tuple(map(self._number, cluster.nodes)), kept
        return found

    def _calm(
        self,
        world: World,
        parts: Sequence[tuple[int, ...]],
        lossy: str = "",
        at: int = NOWHERE,
        *,
        until_a_fold: bool = False,
    ) -> World:
        """Let time pass until nothing changes any more, or until a node begins to fold."""
        for _ in range(_AT_REST):
            after = self._wait(world, parts, lossy, at)
            self._compare(world.places, after.places)
            if until_a_fold and any(
                self._sights[number].folds for number in after.places if number != NOWHERE
            ):
                return after
            if after.places == world.places and (after.apart in (world.apart, self.scope.apart)):
                return after
            self._check(after)
            if after.places == world.places:
                # Only the time apart grows: skip to where that makes a difference.
                after = after._replace(apart=self.scope.apart - 1)
                return self._wait(after, parts, lossy, at)
            world = after
        raise BrokenPromiseError(f"exact: no rest within {_AT_REST} waits")

    def _late(self, world: World, place: int) -> World:
        """Deliver held-back messages to a place; its answers are lost."""
        held = self._held[world.late[1]]

        def late(place: Place) -> None:
            for target, message in held:
                if target in ("", place.address):
                    place.receive(message)

        after = self._place(world, place, ("late", world.late[1]), late)
        return after._replace(late=(world.late[0], 0, 0))

    # -- what must be true

    def settle(self, world: World) -> None:
        """Heal everything: then all places must become equal and exact.

        Done once for all states that hold the same: they differ only in what the places have heard
        of each other, and every way on is searched anyway. Raises `BrokenPromiseError`.
        """
        key = (self._essences_of(world), world.tried, world.floor)
        if key in self._settled:
            return
        for place in range(3):
            if world.places[place] != NOWHERE and not self._runs(world, place):
                world = self._start(world, place)
        everybody = (self._running(world),)
        on_the_way: list[tuple[tuple[int, ...], Counts, Counts]] = []
        for _ in range(_AT_REST):
            key = (self._essences_of(world), world.tried, world.floor)
            if key in self._settled:
                break
            on_the_way.append(key)
            after = self._wait(world, everybody)
            self._compare(world.places, after.places)
            self._check(after)
            if after.places == world.places:
                self._exact(world)
                break
            world = after
        else:
            raise BrokenPromiseError(f"exact: no rest within {_AT_REST} waits, all healed")
        self._settled.update(on_the_way)

    def _essences_of(self, world: World) -> tuple[int, ...]:
        numbers = (number for number in world.places if number != NOWHERE)
        return tuple(self._sights[number].essence for number in numbers)

    def _exact(self, world: World) -> None:
        places = [p for p in range(3) if world.places[p] != NOWHERE]
        for place in places:
            sight, name = self._sight(world, place), NAMES[place]
            if not sight.ready:
                raise BrokenPromiseError(f"exact: {name} is never ready")
            if sight.stored != sight.shown:
                raise BrokenPromiseError(
                    f"exact: {name} shows {sight.shown}, its store holds {sight.stored}"
                )
            if sight.shown != self._sight(world, places[0]).shown:
                first = self._sight(world, places[0]).shown
                raise BrokenPromiseError(f"exact: {name} shows {sight.shown}, A {first}")
            if any(shown < least for shown, least in zip(sight.shown, world.floor, strict=True)):
                raise BrokenPromiseError(
                    f"exact: {name} shows {sight.shown}, {world.floor} were acknowledged"
                )

    def _compare(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        """Check that nothing a running node or a store shows has fallen."""
        for place in range(3):
            if before[place] in (NOWHERE, after[place]):
                continue
            was, now = self._sights[before[place]], self._sights[after[place]]
            if any(one < other for one, other in zip(now.stored, was.stored, strict=True)):
                raise BrokenPromiseError(
                    f"monotone: the store of {NAMES[place]} held {was.stored}, now {now.stored}"
                )
            if was.running and now.running:
                for one, other in zip(_sums(now.shown), _sums(was.shown), strict=True):
                    if one < other:
                        raise BrokenPromiseError(
                            f"monotone: {NAMES[place]} showed {was.shown}, now {now.shown}"
                        )

    def _check(self, world: World) -> None:
        """Check that nothing is shown that was not tried, and nothing acknowledged is lost."""
        for place in range(3):
            if world.places[place] == NOWHERE:
                continue
            sight = self._sight(world, place)
            for seen in (sight.shown, sight.stored):
                if any(count > most for count, most in zip(seen, world.tried, strict=True)):
                    raise BrokenPromiseError(
                        f"exact: {NAMES[place]} shows {seen}, {world.tried} were tried"
                    )
        there = self._union(world.places)
        if any(count < least for count, least in zip(there, world.floor, strict=True)):
            raise BrokenPromiseError(
                f"exact: {world.floor} were acknowledged, all memories and stores hold {there}"
            )

    def _lost(self, world: World) -> World:
        """Lower the floor after a loss: what nobody holds now is lost for good."""
        return world._replace(floor=_least(world.floor, self._union(world.places)))

    def _given_up(self, floor: Counts, there: Counts) -> Counts:
        """Give up the first member's visits that are not there; its store was rolled back."""
        of_first = len(_VIDEOS)
        return _least(floor[:of_first], there[:of_first]) + floor[of_first:]

    def _parted(self, world: World) -> World:
        """Original and copy were apart for too long: only the larger sum of one counts."""
        most = [0] * len(world.floor)
        for number in world.places:
            if number != NOWHERE:
                sight = self._sights[number]
                for seen in (sight.shown, sight.stored):
                    most = [max(one, other) for one, other in zip(most, seen, strict=True)]
        return world._replace(floor=self._given_up(world.floor, tuple(most)))

    # -- frozen places

    def _thaw(self, number: int) -> Place:
        place: Place = thaw(self._frozen[number])
        return place

    def _sight(self, world: World, place: int) -> Sight:
        return self._sights[world.places[place]]

    def _number(self, place: Place) -> int:
        """Return the number of a place, a new one if it never looked like this."""
        place.disk.renumber()
        key = digest(place, place.now)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._frozen)
            self._frozen.append(freeze(place))
            replica, store = place.replica, tally_of(place.disk)
            memory = replica.tally if replica else None
            self._sights.append(
                Sight(
                    replica is not None,
                    replica is not None and bool(replica.folding.due or replica.backlog.moving),
                    replica is not None and replica.state == "ready",
                    replica.id if replica else "",
                    memory,
                    _content(memory),
                    store,
                    _content(store),
                    sorted(place.unheard()),
                    place.member,
                    self._essence(memory, store),
                )
            )
        return number

    def _essence(self, *tallies: Tally | None) -> int:
        held = [_held(tally) if tally else () for tally in tallies]
        return self._essences.setdefault(digest(held, 0.0), len(self._essences))

    def _union(self, numbers: Iterable[int]) -> Counts:
        """Return what all memories and stores hold together."""
        key = frozenset(numbers)
        found = self._unions.get(key)
        if found is None:
            sights = [self._sights[number] for number in key if number != NOWHERE]
            held = [one for sight in sights for one in (sight.memory, sight.store) if one]
            found = self._unions[key] = _in_order(union(held))
        return found


def _cluster(places: Sequence[Place]) -> Cluster[Place]:
    """Return places on a network on which every message arrives at once, and in order."""
    return Cluster(Network(random.Random(0), delay=0.0), places, tick=WHILE, at_once=_MAX_MESSAGES)


def _held(tally: Tally) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Return the fold marks and the counts in a tally."""
    counts = {vector: dict(counted.items()) for vector, counted in tally.vectors() if counted}
    return {member: tally.mark(member) for member in map(member_of, counts)}, counts


def _content(tally: Tally | None) -> Counts:
    return _in_order(union([tally] if tally else []))


def _in_order(content: dict[tuple[str, str], int]) -> Counts:
    by_name = {(member[0], video): count for (member, video), count in content.items()}
    return tuple(by_name.get((name, video), 0) for name in ("a", "b") for video in _VIDEOS)


def _sums(counts: Counts) -> Counts:
    """Return the sum of each video."""
    return tuple(sum(counts[video :: len(_VIDEOS)]) for video in range(len(_VIDEOS)))


def _least(one: Counts, other: Counts) -> Counts:
    return tuple(min(a, b) for a, b in zip(one, other, strict=True))


def _raised(counts: Counts, at: int) -> Counts:
    return _with(counts, at, counts[at] + 1)


def _with(numbers: tuple[int, ...], at: int, number: int) -> tuple[int, ...]:
    return (*numbers[:at], number, *numbers[at + 1 :])


def _partitions(places: Sequence[int]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """Yield each way to cut a network into parts."""
    if not places:
        yield ()
        return
    for rest in _partitions(places[1:]):
        yield ((places[0],), *rest)
        for at, part in enumerate(rest):
            yield (*rest[:at], (places[0], *part), *rest[at + 1 :])
