"""Visits of a request that are its sender's own, as the pages of the site send them.

Each is judged as a single visit is: with a window for repeats, a viewer counts once on a video,
also within one request. Whoever sends a visit that counts is a viewer.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from counter.node.judge import Reason, Visitor
from counter.node.node import Node
from counter.node.viewers import Person
from counter.web.problems import Problem

MAX_VIDEOS = 100
"""Most videos of one request whose viewer is asked for: each takes 10 µs."""


class Sent:
    """The visits of one request, by video. They are the `visitor`'s own where it has a person.

    What is `judged` must be `counted` or `refused` afterwards, unless it may be counted.
    """

    def __init__(self, node: Node, visitor: Visitor) -> None:
        self._viewers, self._judge = node.viewers, node.judge
        self._visitor, self._person = visitor, visitor.person
        self._persons: dict[str, Person] = {}
        """Who it is on each video whose visit counts: a viewer is of one video."""
        self.once = self._person is not None and node.viewers.recent is not None
        """Whether of each video one visit counts at most, and the others are repeats."""

    def judged(self, videos: Collection[str]) -> dict[str, Reason]:
        """Why visits of these videos do not count; those that count are left out.

        Raises a `Problem` for more videos than one visitor visits at once.
        """
        if self._person is None:
            return self._judge.reasons(videos, self._visitor)
        if len(videos) > MAX_VIDEOS:
            raise Problem(
                422,
                "Beyond the limit",
                f"no visit was counted: with ?own a request has visits of at most {MAX_VIDEOS} "
                f"videos, and this one of {len(videos)}; send several, or, for others, no ?own",
                {"limit": MAX_VIDEOS},
            )
        reasons: dict[str, Reason] = {}
        for video in videos:
            person = Person(self._person.address, self._person.agent)
            reason = self._judge.reason(video, self._visitor._replace(person=person))
            if reason is None:
                self._persons[video] = person
            else:
                reasons[video] = reason
        return reasons

    def counted(self, reasons: Mapping[str, Reason]) -> None:
        """They are counted, but for those with a reason: their visitor is a viewer."""
        for video, person in self._persons.items():
            if video in reasons:
                self._viewers.refused(person)
            else:
                self._viewers.counted(video, person)

    def refused(self) -> None:
        """None of them was counted, so they start no window."""
        for person in self._persons.values():
            self._viewers.refused(person)

    def each(self, videos: Iterable[str], reasons: Mapping[str, Reason]) -> Iterator[Reason | None]:
        """Why each record does not count, in their order; None for one that does."""
        seen: set[str] = set()
        for video in videos:
            again: Reason | None = "repeat" if self.once and video in seen else None
            yield reasons.get(video, again)
            seen.add(video)
