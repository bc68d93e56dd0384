"""Faults in how visits are counted that do not count, each of which the simulation must catch."""

from collections.abc import Iterable, Mapping
from typing import Any

from counter.crdt.ids import class_of
from counter.protocol.untold import NOTE, Untold
from simulation.rules import Rules, SmallPages, SmallSteps


class CountsItForTheVideoToo(SmallPages):
    def count_many(self, visits: Mapping[str, int], *arguments: Any, **more: Any) -> None:
        both = {key.partition("/")[0]: n for key, n in visits.items() if class_of(key)}
        super().count_many({**visits, **both}, *arguments, **more)


class KeptInMemory(Untold):
    def _put(self, key: str, due: int) -> None:
        self._due[key] = due


class ToldAsOften(Untold):
    def _lacking(self, key: str) -> int:
        return self._due[key]


class NeverTold(Untold):
    def _tell(self, keys: Iterable[str]) -> None:
        self._pending.note(dict.fromkeys(map(NOTE.__add__, keys), ""))
        for key in keys:
            del self._due[key]


class EndedTooEarly(Untold):
    """The note ends with one batch, and it is counted with a later one."""

    _ended: tuple[str, ...] = ()

    def _tell(self, keys: Iterable[str]) -> None:
        if not self._ended:
            self._ended = tuple(keys)
            self._pending.note(dict.fromkeys(map(NOTE.__add__, self._ended), ""))
            return
        ended, self._ended = self._ended, ()
        super()._tell(ended)


def _with(untold: type[Untold]) -> Rules:
    pending = type(untold.__name__, (SmallSteps,), {"untold_class": untold})
    return Rules(replica=type(untold.__name__, (SmallPages,), {"pending_class": pending}))


FAULTS_OF_CLASSES = {
    "counts for the video what does not count": Rules(replica=CountsItForTheVideoToo),
    "keeps in memory what is not told": _with(KeptInMemory),
    "tells again what it has told": _with(ToldAsOften),
    "never tells what it kept": _with(NeverTold),
    "ends a note before it is counted": _with(EndedTooEarly),
}
