"""The books of visitors: what they tried, and what they were answered."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field


class Books:
    """What visitors tried, and what they were answered, by video."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.last_answer = 0.0
        self._lock = threading.Lock()

    def note(self, video: str, status: int | None) -> None:
        """Note the outcome of one visit; None when there was no answer."""
        with self._lock:
            self.tried[video] += 1
            self.statuses[status or 0] += 1
            if status in (200, 204):
                self.acknowledged[video] += 1
                self.last_answer = time.monotonic()
            elif status == 503:
                self.refused[video] += 1
            else:
                self.unknown[video] += 1

    def check(self, counted: dict[str, int]) -> None:
        """Each video: acknowledged ≤ counted ≤ acknowledged + unknown."""
        for video in self.tried:
            least = self.acknowledged[video]
            most = least + self.unknown[video]
            assert least <= counted.get(video, 0) <= most, (
                f"{video}: counted {counted.get(video, 0)}, acknowledged {least}, "
                f"answered neither yes nor no {self.unknown[video]}"
            )


@dataclass
class Post:
    """Visits of one video under a key, which are sent until a node says that they are counted.

    `unsure` are the nodes that were asked and said neither yes nor no.
    """

    video: str
    visits: int
    acknowledged: bool = False
    asked: int = 0
    unsure: set[str] = field(default_factory=set)
    window: int = 0
    """How often another node was asked while one was unsure: so often it may be counted more."""


class Posts:
    """The books of visits under keys, each of a video of its own."""

    def __init__(self) -> None:
        self.all: list[Post] = []
        self.wrong: list[str] = []
        """What no node must answer."""
        self._lock = threading.Lock()

    def new(self, prefix: str, visits: int) -> Post:
        """One more."""
        with self._lock:
            post = Post(f"{prefix}-{len(self.all)}", visits)
            self.all.append(post)
            return post

    def lost(self, shown: dict[str, int]) -> int:
        """How many visits were acknowledged, and are not counted."""
        return sum(
            max(0, post.visits - shown.get(post.video, 0)) for post in self.all if post.acknowledged
        )

    def counted_again(self, shown: dict[str, int]) -> tuple[int, int]:
        """How many requests were counted again: through the window, and otherwise."""
        window = others = 0
        for post in self.all:
            again = max(0, -(-shown.get(post.video, 0) // post.visits) - 1)
            window += min(again, post.window)
            others += max(0, again - post.window)
        return window, others
