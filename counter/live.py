"""The newest counter of a video, to every page that watches it.

A page never queues: it keeps the version it last sent, sleeps until its video has a newer one,
and then sends the newest, so a slow page skips versions. One thread sets the pace for all.
"""

from collections.abc import Callable, Iterable
from threading import Event, Lock

PACE = 0.1
"""Seconds between two messages about one video, at least."""


class Page:
    """What one live page watches, and what wakes its handler."""

    def __init__(self, videos: Iterable[str], wake: Event) -> None:
        self.videos = dict.fromkeys(videos, 0)
        self.wake = wake


class Live:
    """Holds the pages, and the newest message of each video that one of them watches.

    `read(video)` gives the message with the video's newest counter, or None while the node has
    nothing to show yet.
    """

    def __init__(self, read: Callable[[str], str | None], most_pages: int) -> None:
        self._read = read
        self._most_pages = most_pages
        self._watchers: dict[str, set[Page]] = {}
        self._messages: dict[str, tuple[int, str]] = {}
        self._changed: set[str] = set()
        self._pages = 0
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

    def open(self, videos: Iterable[str], wake: Event) -> Page | None:
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
        newest = []
        for video, sent in page.videos.items():
            version, message = self._messages.get(video, (0, ""))
            if version > sent:
                page.videos[video] = version
                newest.append(message)
        return newest

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
            with self._lock:
                changed, self._changed = self._changed, set()
            for video in changed:
                message = self._read(video)
                if message is not None:
                    self._show(video, message)
            self._closing.wait(PACE)

    def _show(self, video: str, message: str) -> None:
        with self._lock:
            watchers = list(self._watchers.get(video, ()))
            if not watchers or message == self._messages.get(video, (0, ""))[1]:
                return
            self._version += 1
            self._messages[video] = (self._version, message)
        for page in watchers:
            page.wake.set()

    def stop(self) -> None:
        """Wake every page to be closed, and end `run`. Idempotent."""
        self._closing.set()
        self._news.set()
        with self._lock:
            pages = {page for watchers in self._watchers.values() for page in watchers}
        for page in pages:
            page.wake.set()
