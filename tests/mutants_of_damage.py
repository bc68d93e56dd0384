"""Faults in what is done with a damaged store, each of which the simulation must catch."""

from collections.abc import Mapping

from counter.protocol.recovery import Recovery
from counter.protocol.suspects import Suspect
from simulation.rules import Rules, SmallPages


class TrustingRecovery(Recovery):
    def suspect(self, vector: str, counts: Mapping[str, int]) -> None:
        self.loaded(vector, counts)


class BoundlessRecovery(Recovery):
    """What is written is no bound of what is used for want of anything better."""

    def suspect(self, vector: str, counts: Mapping[str, int]) -> None:
        super().suspect(vector, counts)
        suspects = self._suspects._suspects
        suspects.update((of, Suspect(had, None)) for of, (had, _) in list(suspects.items()))


class ContentRecovery(Recovery):
    """What is damaged in the store stays there."""

    def suspect(self, vector: str, counts: Mapping[str, int]) -> None:
        super().suspect(vector, counts)
        self._backlog._replace.discard(vector)


class WastefulRecovery(Recovery):
    """Of what is in doubt nothing is used, also where no peer has it."""

    def suspect(self, vector: str, counts: Mapping[str, int]) -> None:
        super().suspect(vector, {})


def _with(recovery: type[Recovery]) -> Rules:
    return Rules(replica=type(recovery.__name__, (SmallPages,), {"recovery_class": recovery}))


FAULTS_OF_DAMAGE = {
    "uses what is in doubt": _with(TrustingRecovery),
    "sets no bound to what is in doubt": _with(BoundlessRecovery),
    "leaves in the store what is damaged": _with(ContentRecovery),
    "throws away what is in doubt": _with(WastefulRecovery),
}
