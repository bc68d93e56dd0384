"""Tallies whose few videos are many to them: everything that large ones do, in small."""

from counter.crdt.index import Index
from counter.crdt.tally import Tally
from counter.crdt.vector import Vector
from counter.crdt.videos import Videos


class SoonMany(Vector):
    """A vector that makes room for every row as soon as it has three counts."""

    __slots__ = ()
    sparse = 2


class SoonLarge(Videos):
    """Videos that are not few any more when there are three, and that are all looked for at once.

    Few stay young or hot for long.
    """

    __slots__ = ()
    small = 3
    many = 1
    young = 2
    lately = 4
    often = 1


class Narrow(Index):
    """An index whose pages are split at once."""

    __slots__ = ()
    page = 8


def _one_of_three(video: str) -> int:
    return len(video) % 3 << 30


class Colliding(Narrow):
    """An index in which most ids have the tag of others."""

    __slots__ = ()
    deepest = 4
    tag_of = staticmethod(_one_of_three)


class NarrowVideos(SoonLarge):
    """Videos in an index whose pages are split at once; most are looked for one by one."""

    __slots__ = ()
    many = 3
    index_class = Narrow


class CollidingVideos(SoonLarge):
    """Videos most of which collide."""

    __slots__ = ()
    index_class = Colliding


class LargeTally(Tally):
    """A tally that soon is a large one."""

    videos_class = SoonLarge
    vector_class = SoonMany


EVERY_VIDEOS = [Videos, SoonLarge, NarrowVideos, CollidingVideos]
EVERY_TALLY = [Tally, LargeTally]
