"""Why a visit does not count, decided in one place.

The rules are asked in this order: the video is blocked; a crawler asks; this viewer was just
counted. The first that applies is the reason, and the visit is counted in that class instead.
"""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from counter.node.agents import Agents, Kind
from counter.node.viewers import Person
from counter.protocol.client import Client

Reason = Literal["blocked", "bot", "repeat"]
"""One of the `CLASSES`."""

_BOTS: dict[str, frozenset[Kind]] = {
    "crawlers": frozenset({"crawler"}),
    "count": frozenset(),
    "programs": frozenset({"crawler", "library"}),
}
"""Which agents are bots, by the setting BOTS."""


class Visitor(NamedTuple):
    """Who makes a visit: what its agent calls itself, and who it is, found out where it matters.

    `is_batch` says that it sends the visits of others, which only programs do. `person` is whom to
    know for a viewer, None for nobody: who sends a batch or has a valid token is none.
    """

    agent: str
    client: Callable[[], Client]
    is_batch: bool = False
    person: Person | None = None


class Judge:
    """Says why a visit does not count. Any thread may call any method; no lock is taken.

    `bots` is the setting BOTS. `blocked` and `repeat` are the rules of others, which are put in
    when a node is made. `repeat` may take note of what it is asked; `would_repeat` must not.
    """

    def __init__(self, bots: str) -> None:
        self.bots = bots
        self.blocked: Callable[[str], bool] = _no_video
        """Whether a video takes no visits."""
        self.repeat: Callable[[str, Person], bool] | None = None
        """Whether this viewer was counted for this video a moment ago; None if that is not asked.
        """
        self.would_repeat: Callable[[str, Person], bool] = _no_visit
        self._kinds = _BOTS[bots]
        self._agents = Agents() if self._kinds else None
        self._kind = self._agents.kind if self._agents else _no_agent

    def reason(self, video: str, visitor: Visitor) -> Reason | None:
        """Why this visit does not count, None if it does. With a valid token only blocks matter."""
        if self.blocked(video):
            return "blocked"
        if self.is_bot(visitor) and not visitor.client().has_token:
            return "bot"
        if visitor.person is None or self.repeat is None:
            return None
        return "repeat" if self.repeat(video, visitor.person) else None

    def reasons(self, videos: Iterable[str], visitor: Visitor) -> dict[str, Reason]:
        """Why visits of these videos do not count; those that count are left out."""
        spared = visitor.client().has_token
        if not spared and (visitor.person is not None or self.is_bot(visitor)):
            each = ((video, self.reason(video, visitor)) for video in videos)
            return {video: reason for video, reason in each if reason is not None}
        if self.blocked is _no_video:
            return {}
        return dict.fromkeys(filter(self.blocked, videos), "blocked")

    def logged(self, video: str, kind: Kind) -> Reason | None:
        """Why a visit does not count of which a log says no more than what its agent is."""
        if self.blocked(video):
            return "blocked"
        return "bot" if kind in self._kinds else None

    def is_bot(self, visitor: Visitor) -> bool:
        """Whether its agent is one of those whose visits do not count.

        Whoever sends a batch is a program of a site, so for that a library is no bot.
        """
        agent = visitor.agent
        if not agent:
            # An agent that says nothing may be any program.
            return "library" in self._kinds and not visitor.is_batch
        kind = self._kind(agent)
        return kind in self._kinds and not (visitor.is_batch and kind == "library")

    def called(self, agent: str) -> str:
        """What the list finds in an agent, as it is written there; "" if that is nothing."""
        return self._agents.found(agent) if self._agents else ""


def _no_video(_: str) -> bool:
    return False


def _no_visit(_: str, __: Person) -> bool:
    return False


def _no_agent(_: str) -> Kind:
    return ""
