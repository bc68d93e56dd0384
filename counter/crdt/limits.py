"""The end of a number: how it is shown there, and what is refused.

A video's number is the sum of its counter, and no sum exceeds `MAX_COUNT`: beyond that, programs
that read numbers as JavaScript does see different ones. A node refuses what would take the sum
that it knows beyond the limit. Nodes that do not hear each other may still count more together:
all of it stays in the counter, and the number that is shown stops at the limit.

Pure: no I/O, no clock.
"""

from collections.abc import Mapping

from counter.crdt.gcounter import MAX_COUNT, value


class FullError(OverflowError):
    """A video's number has no room for that many more visits, now or later, on any node.

    `video` is the first of them, `visits` what it has and `more` what was to be counted; `room`
    says how many visits each of them could still take.
    """

    def __init__(self, video: str, more: int, room: Mapping[str, int]) -> None:
        self.video, self.more, self.room = video, more, room
        self.visits, self.limit = MAX_COUNT - room[video], MAX_COUNT
        super().__init__(
            f"the number of {video!r} is at its end: it has {self.visits} visits, {more} more do "
            f"not fit, and the limit is {self.limit}"
        )


def check_room(visits: Mapping[str, int], counted: Mapping[str, int]) -> None:
    """Raise `FullError` for videos whose visits do not fit beside those that are counted."""
    room = {
        video: max(0, MAX_COUNT - counted[video])
        for video, more in visits.items()
        if counted[video] + more > MAX_COUNT
    }
    if room:
        video = next(iter(room))
        raise FullError(video, visits[video], room)


def capped(number: int) -> int:
    """A number as it is shown: up to the limit."""
    return min(MAX_COUNT, number)


def visits_of(counter: Mapping[str, int]) -> int:
    """The visits of a video as they are shown: the sum of its counter, up to the limit."""
    return value(counter)


def shown_counts(counter: Mapping[str, int]) -> dict[str, int]:
    """A counter as it is shown: a member's runs may come to more than one entry can tell."""
    return {member: capped(count) for member, count in counter.items()}
