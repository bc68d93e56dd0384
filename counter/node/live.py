"""Gives every live page the newest counters of the videos that it watches.

Messages never queue: a page remembers the version it last sent, sleeps until its video has a newer
one, and sends the newest, so a slow page skips versions. One thread sets the pace for all pages. It
rests for as long as sending took, so half of the time is left, however many pages there are.
"""

import time
from collections.abc import Callable, Iterable
from threading import Event, Lock
from typing import Protocol

PACE = 0.1
"""Shortest time in seconds between two messages about one video."""
_ROUND = 1.0
"""Longest time in seconds to wait for a round of sending."""
_WOKEN_AT_ONCE = 50


class Wake(Protocol):
    """Wakes the handler of a page, as an `Event` does."""

    def set(self) -> object:
        """There is something to send."""


class Page:
    """The videos that one live page watches, and what wakes its handler."""

    __slots__ = ("due", "videos", "wake")

    def __init__(self, videos: Iterable[str], wake: Wake) -> None:
        self.videos = dict.fromkeys(videos, 0)
        self.wake = wake
        self.due = 0
        """The round in which it was woken; 0 once it has sent or skipped something since."""


class Live:
    """Holds the live pages, and the newest message of each video that one of them watches.

    `read(video)` returns the message with the video's newest counter, or None while the node has
    nothing to show yet. `clock` returns seconds. Any thread may call any method.
    """

    def __init__(
        self,
        read: Callable[[str], str | None],
        max_pages: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._max_pages = max_pages
        self._clock = clock
        self._watchers: dict[str, set[Page]] = {}
        self._messages: dict[str, tuple[int, str]] = {}
        self._changed: set[str] = set()
        self._pages = 0
        self._round = 0
        self._due = 0
        """How many pages of this round have not answered."""
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
        """Whether every page is to be closed because the node stops."""
        return self._closing.is_set()

    def open(self, videos: Iterable[str], wake: Wake) -> Page | None:
        """Add a page, woken when there is something to send; None if there are too many."""
        page = Page(videos, wake)
        with self._lock:
            if self._pages >= self._max_pages or self.closing:
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
        """The newest messages that the page has not sent yet. Marks them as sent."""
        self.skip(page)
        newest = []
        for video, sent in page.videos.items():
            version, message = self._messages.get(video, (0, ""))
            if version > sent:
                page.videos[video] = version
                newest.append(message)
        return newest

    def skip(self, page: Page) -> None:
        """Note that the page sends nothing now although it was woken."""
        if page.due:
            with self._lock:
                self._due -= page.due == self._round
                page.due = 0
                if not self._due:
                    self._none_due.set()

    def grew(self, videos: Iterable[str]) -> None:
        """Note that these videos grew. Cheap for videos that nobody watches."""
        with self._lock:
            # The videos of many counts are named only if they are looked at.
            watched = self._watchers.keys() & videos if self._watchers else set()
            self._changed |= watched
        if watched:
            self._news.set()

    def wake_all(self) -> None:
        """Read every watched video again."""
        with self._lock:
            videos = list(self._watchers)
        self.grew(videos)

    def run(self) -> None:
        """Until `stop`, read the videos that grew and wake their pages, at a steady pace."""
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
            # A page that did not keep up in a whole round delays nobody else.
            self._closing.wait(max(PACE, self._clock() - began) if sent else PACE)

    def _show(self, video: str, message: str) -> list[Page]:
        """Keep the newest message; return the pages that watch the video, if it is new."""
        with self._lock:
            watchers = list(self._watchers.get(video, ()))
            if not watchers or message == self._messages.get(video, (0, ""))[1]:
                return []
            self._version += 1
            self._messages[video] = (self._version, message)
            return watchers

    def _send(self, pages: list[Page]) -> bool:
        """Wake the pages, a few at a time, with turns for requests; return whether all have sent.

        Waits at most a `_ROUND`, and not for pages that are late since an earlier round.
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
            time.sleep(0)  # lets other threads run
        return not self._due or self._none_due.wait(_ROUND)

    def stop(self) -> None:
        """Wake every page to be closed, and end `run`. Idempotent."""
        self._closing.set()
        self._news.set()
        with self._lock:
            pages = {page for watchers in self._watchers.values() for page in watchers}
        for page in pages:
            page.wake.set()
