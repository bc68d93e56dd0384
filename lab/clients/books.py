"""The books of visitors: what they tried, and how they were answered."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


class Books:
    """What visitors tried and how they were answered, by video. Thread-safe."""

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
        """Assert acknowledged ≤ counted ≤ acknowledged + unknown for each video."""
        for video in self.tried:
            least = self.acknowledged[video]
            most = least + self.unknown[video]
            assert least <= counted.get(video, 0) <= most, (
                f"{video}: counted {counted.get(video, 0)}, acknowledged {least}, "
                f"answered neither yes nor no {self.unknown[video]}"
            )


@dataclass
class Post:
    """Visits of one video under a key, sent again until a node says that they are counted.

    `unsure` are the nodes that were asked and gave no clear answer.
    """

    video: str
    visits: int
    acknowledged: bool = False
    asked: int = 0
    unsure: set[str] = field(default_factory=set)
    window: int = 0
    """How often another node was asked while one was unsure: it may be counted that often again."""


class Posts:
    """The books of keyed visits; each post has a video of its own. Thread-safe."""

    def __init__(self) -> None:
        self.all: list[Post] = []
        self.wrong: list[str] = []
        """Answers that no node may give."""
        self._lock = threading.Lock()

    def new(self, prefix: str, visits: int) -> Post:
        """Add a post."""
        with self._lock:
            post = Post(f"{prefix}-{len(self.all)}", visits)
            self.all.append(post)
            return post

    def lost(self, shown: Mapping[str, int]) -> int:
        """Return how many visits were acknowledged and are not counted."""
        return sum(
            max(0, post.visits - shown.get(post.video, 0)) for post in self.all if post.acknowledged
        )

    def counted_again(self, shown: Mapping[str, int]) -> tuple[int, int]:
        """Return how many requests were counted again: through the window, and otherwise."""
        window = others = 0
        for post in self.all:
            again = max(0, -(-shown.get(post.video, 0) // post.visits) - 1)
            window += min(again, post.window)
            others += max(0, again - post.window)
        return window, others
