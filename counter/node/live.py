"""The newest counter of a video, to every page that watches it.

A page never queues: it keeps the version it last sent, sleeps until its video has a newer one,
and then sends the newest, so a slow page skips versions. One thread sets the pace for all: it
rests for as long as sending took, so that however many pages there are, half of the time is left.
"""

import time
from collections.abc import Callable, Iterable
from threading import Event, Lock
from typing import Protocol

PACE = 0.1
"""Seconds between two messages about one video, at least."""
_ROUND = 1.0
"""Seconds that a round of sending is waited for, at most."""
_WOKEN_AT_ONCE = 50


class Wake(Protocol):
    """What wakes the handler of a page; an `Event` will do."""

    def set(self) -> object:
        """There is something to send."""


class Page:
    """What one live page watches, and what wakes its handler."""

    __slots__ = ("due", "videos", "wake")

    def __init__(self, videos: Iterable[str], wake: Wake) -> None:
        self.videos = dict.fromkeys(videos, 0)
        self.wake = wake
        self.due = 0
        """The round in which it was woken, if it has neither sent nor skipped anything since."""


class Live:
    """Holds the pages, and the newest message of each video that one of them watches.

    `read(video)` gives the message with the video's newest counter, or None while the node has
    nothing to show yet. `clock` gives seconds.
    """

    def __init__(
        self,
        read: Callable[[str], str | None],
        most_pages: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._most_pages = most_pages
        self._clock = clock
        self._watchers: dict[str, set[Page]] = {}
        self._messages: dict[str, tuple[int, str]] = {}
        self._changed: set[str] = set()
        self._pages = 0
        self._round = 0
        self._due = 0
        """How many pages of this round are due."""
        self._none_due = Event()
        self._version = 0
        self._lock = Lock()
        self._news = Event()
        self._closing = Event()

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return self._pages

    @property
    def closing(self) -> bool:
        """Whether every page is to be closed, for the node stops."""
        return self._closing.is_set()

    def open(self, videos: Iterable[str], wake: Wake) -> Page | None:
        """Add a page, woken when there is something to send; None when there are too many."""
        page = Page(videos, wake)
        with self._lock:
            if self._pages >= self._most_pages or self.closing:
                return None
            self._pages += 1
            for video in page.videos:
                self._watchers.setdefault(video, set()).add(page)
            unread = [video for video in page.videos if video not in self._messages]
        wake.set()
        self.grew(unread)
        return page

    def close(self, page: Page) -> None:
        """Remove a page."""
        self.skip(page)
        with self._lock:
            self._pages -= 1
            for video in page.videos:
                watchers = self._watchers[video]
                watchers.discard(page)
                if not watchers:
                    del self._watchers[video]
                    self._messages.pop(video, None)

    def messages(self, page: Page) -> list[str]:
        """The newest message of each video that the page has not sent yet. Marks them as sent."""
        self.skip(page)
        newest = []
        for video, sent in page.videos.items():
            version, message = self._messages.get(video, (0, ""))
            if version > sent:
                page.videos[video] = version
                newest.append(message)
        return newest

    def skip(self, page: Page) -> None:
        """The page sends nothing now, though it was woken."""
        if page.due:
            with self._lock:
                self._due -= page.due == self._round
                page.due = 0
                if not self._due:
                    self._none_due.set()

    def grew(self, videos: Iterable[str]) -> None:
        """Note that these videos have news. Cheap, also for videos that nobody watches."""
        with self._lock:
            watched = self._watchers.keys() & videos
            self._changed |= watched
        if watched:
            self._news.set()

    def wake_all(self) -> None:
        """Read every watched video anew."""
        with self._lock:
            videos = list(self._watchers)
        self.grew(videos)

    def run(self) -> None:
        """Set the pace until `stop`: at each beat, read what changed and wake who watches it."""
        while self._news.wait() and not self.closing:
            self._news.clear()
            began = self._clock()
            with self._lock:
                changed, self._changed = self._changed, set()
            woken: dict[Page, None] = {}
            for video in changed:
                message = self._read(video)
                if message is not None:
                    woken |= dict.fromkeys(self._show(video, message))
            sent = self._send(list(woken))
            # Who did not keep up with a whole round is nobody's concern but its own.
            self._closing.wait(max(PACE, self._clock() - began) if sent else PACE)

    def _show(self, video: str, message: str) -> list[Page]:
        """Keep the newest message; return who watches, if it is news."""
        with self._lock:
            watchers = list(self._watchers.get(video, ()))
            if not watchers or message == self._messages.get(video, (0, ""))[1]:
                return []
            self._version += 1
            self._messages[video] = (self._version, message)
            return watchers

    def _send(self, pages: list[Page]) -> bool:
        """Wake the pages, some at a time and others' requests in between; wait until all have sent.

        At most for a `_ROUND`, and not for a page that is due since an earlier one; say whether
        they have.
        """
        with self._lock:
            self._round += 1
            fresh = [page for page in pages if not page.due]
            for page in fresh:
                page.due = self._round
            self._due = len(fresh)
            self._none_due.clear()
        for first in range(0, len(pages), _WOKEN_AT_ONCE):
            for page in pages[first : first + _WOKEN_AT_ONCE]:
                page.wake.set()
            time.sleep(0)  # the others' turn
        return not self._due or self._none_due.wait(_ROUND)

    def stop(self) -> None:
        """Wake every page to be closed, and end `run`. Idempotent."""
        self._closing.set()
        self._news.set()
        with self._lock:
            pages = {page for watchers in self._watchers.values() for page in watchers}
        for page in pages:
            page.wake.set()
