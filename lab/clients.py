"""Visitors with real connections, and the books that are kept of what they were told."""

import http.client
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


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


class Client:
    """One keep-alive connection to one node or balancer; not thread-safe."""

    def __init__(self, url: str, timeout: float = 15.0) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._timeout = parts.hostname or "", parts.port or 80, timeout
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """GET; raises OSError or HTTPException when there is no answer."""
        return self.ask("GET", path, headers)

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, bytes]:
        """Any request; raises OSError or HTTPException when there is no answer."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(
                self._host, self._port, timeout=self._timeout
            )
        try:
            self._connection.request(method, path, body or None, headers or {})
            response = self._connection.getresponse()
            return response.status, response.read()
        except BaseException:
            self.close()
            raise

    def json(self, path: str) -> Any:
        """The JSON at a path, which must be there."""
        status, body = self.get(path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Traffic:
    """Concurrent visitors, each at one of the urls, until `stop` or a number of visits.

    `pause` seconds between two visits of one visitor bound the rate. The videos are named
    `prefix` and a number.
    """

    def __init__(
        self,
        urls: Sequence[str],
        books: Books,
        *,
        videos: int = 50,
        visitors: int = 12,
        visits: int | None = None,
        pause: float = 0.0,
        seed: int = 1,
        prefix: str = "video",
    ) -> None:
        self.books = books
        self._stop = threading.Event()
        self._left = visits
        self._lock = threading.Lock()
        self._videos, self._pause, self._prefix = videos, pause, prefix
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(urls[number % len(urls)], random.Random(seed * 1000 + number)),
                name=f"visitor {number}",
            )
            for number in range(visitors)
        ]

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the visits and wait for the visitors."""
        self._stop.set()
        self.join()

    def more(self, visits: int, seconds: float = 20) -> None:
        """Wait until so many more visits are acknowledged."""
        goal = sum(self.books.acknowledged.values()) + visits
        until(lambda: sum(self.books.acknowledged.values()) >= goal, seconds, "traffic goes on")

    def join(self) -> None:
        """Wait until every visit is made."""
        for thread in self._threads:
            thread.join()

    def _next(self) -> bool:
        with self._lock:
            if self._left is not None:
                self._left -= 1
                return self._left >= 0
        return not self._stop.is_set()

    def _run(self, url: str, choose: random.Random) -> None:
        client = Client(url)
        while self._next():
            video = f"{self._prefix}-{choose.randrange(self._videos)}"
            try:
                status: int | None = client.get(f"/video/{video}")[0]
            except ConnectionRefusedError:
                status = 503  # nobody there: certainly not counted
            except (OSError, http.client.HTTPException):
                status = None
            self.books.note(video, status)
            if status != 200 or self._pause:
                self._stop.wait(self._pause or 0.02)
        client.close()


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


class Posters:
    """Concurrent visitors that post visits under keys, and again elsewhere if not answered.

    With the probability `again` also at the same node, when that has answered.
    """

    def __init__(
        self,
        urls: Sequence[str],
        posts: Posts,
        *,
        visitors: int = 3,
        pause: float = 0.01,
        seed: int = 1,
        again: float = 0.1,
        prefix: str = "keyed",
    ) -> None:
        self._urls, self._posts, self._pause, self._prefix = urls, posts, pause, prefix
        self._again = again
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run,
                args=(random.Random(seed * 1000 + number),),
                name=f"poster {number}",
            )
            for number in range(visitors)
        ]

    def __enter__(self) -> "Posters":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, choose: random.Random) -> None:
        with ExitStack() as stack:
            clients = {url: stack.enter_context(Client(url, 5)) for url in self._urls}
            while not self._stop.wait(self._pause):
                post = self._posts.new(self._prefix, choose.randint(1, 3))
                url = choose.choice(self._urls)
                for _ in range(20):
                    self._send(post, url, clients[url])
                    if post.acknowledged:
                        break
                    time.sleep(0.1 * choose.random())
                    url = choose.choice([other for other in self._urls if other != url] or [url])
                if post.acknowledged and choose.random() < self._again:
                    # Nothing may be between these two, so that this is never the window.
                    self._send(post, url, clients[url])

    def _send(self, post: Post, url: str, client: Client) -> None:
        post.asked += 1
        post.window += bool(post.unsure - {url})
        try:
            status, answer = send(client, post)
        except ConnectionRefusedError:
            return
        except (OSError, http.client.HTTPException):
            post.unsure.add(url)
            return
        if status == 200:
            post.acknowledged = True
        elif status == 504:
            post.unsure.add(url)
        elif status != 503:
            self._posts.wrong.append(f"{post.video} at {url}: {status} {answer!r}")


def send(client: Client, post: Post) -> tuple[int, bytes]:
    """Send a post to a node; raises OSError or HTTPException when there is no answer."""
    body = json.dumps([{"video": post.video, "count": post.visits}]).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"key-of-{post.video}"}
    return client.ask("POST", "/visits", headers, body)


class Watcher:
    """Reads counts from several nodes over and over; remembers every number that fell."""

    def __init__(self, urls: Sequence[str], videos: Sequence[str], path: str = "/counts") -> None:
        self.falls: list[str] = []
        self.reads = 0
        self._query = path + "?" + "&".join(f"video={video}" for video in videos)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url,)) for url in urls]

    def __enter__(self) -> "Watcher":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, url: str) -> None:
        client, seen = Client(url), Counter[str]()
        while not self._stop.wait(0.02):
            try:
                status, body = client.get(self._query)
            except (OSError, http.client.HTTPException):
                continue
            if status != 200:
                continue
            self.reads += 1
            for counter in json.loads(body)["counters"]:
                video, visits = counter["video"], counter["visits"]
                if visits < seen[video]:
                    self.falls.append(f"{url}: {video} fell from {seen[video]} to {visits}")
                seen[video] = max(visits, seen[video])
        client.close()


def counted(url: str, videos: Sequence[str]) -> dict[str, int]:
    """What a node shows for these videos."""
    visits = {}
    with Client(url) as client:
        for first in range(0, len(videos), 1000):
            query = "&".join(f"video={video}" for video in videos[first : first + 1000])
            for counter in client.json(f"/counts?{query}")["counters"]:
                visits[counter["video"]] = counter["visits"]
    return visits


def fetch(url: str, path: str) -> Any:
    """The JSON at a path of a node."""
    with Client(url) as client:
        return client.json(path)


STRETCH = 4.0 if "PYTEST_XDIST_WORKER" in os.environ else 1.0
"""How many times longer deadlines are beside other workers of pytest-xdist, which are busy."""


def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait for a condition with a deadline; return how many seconds it took.

    The deadline is `STRETCH` times as long: tests that assert a time run alone.
    """
    start = time.monotonic()
    seconds *= STRETCH
    while True:
        try:
            if condition():
                return time.monotonic() - start
        except (OSError, http.client.HTTPException, AssertionError) as error:
            what = f"{what.partition(' (last: ')[0]} (last: {error!r:.300})"
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def agree(urls: Sequence[str], books: Books, seconds: float) -> float:
    """Wait until every node shows the same, and that is right; return how long it took."""
    videos = sorted(books.tried)

    def same() -> bool:
        first, *others = (counted(url, videos) for url in urls)
        return all(other == first for other in others) and (
            sum(first.values()) >= sum(books.acknowledged.values())
        )

    took = until(same, seconds, "the nodes agree")
    books.check(counted(urls[0], videos))
    return took
