"""Closed loop: visitors that send their next request once the last one is answered."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Self

from lab.clients.books import Books, Post, Posts
from lab.clients.bulk import AUTHORIZED
from lab.clients.connection import Client, counted, until


class _Visitors:
    """Threads, each of which runs `_run` until `stop`."""

    def __init__(self, name: str, each: Iterable[tuple[Any, ...]]) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=own, name=f"{name} {number}")
            for number, own in enumerate(each)
        ]

    def _run(self, *own: Any, **more: Any) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the visits and wait for the visitors."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until every visitor has ended."""
        for thread in self._threads:
            thread.join()


class Traffic(_Visitors):
    """Concurrent visitors, each at one of the urls, until `stop` or a number of visits.

    Each visitor waits `pause` seconds between two visits. The videos are named by `prefix` and a
    number.
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
        self._left = visits
        self._lock = threading.Lock()
        self._videos, self._pause, self._prefix = videos, pause, prefix
        each = ((urls[n % len(urls)], random.Random(seed * 1000 + n)) for n in range(visitors))
        super().__init__("visitor", each)

    def more(self, visits: int, seconds: float = 20) -> None:
        """Wait until `visits` more are acknowledged."""
        goal = sum(self.books.acknowledged.values()) + visits
        until(lambda: sum(self.books.acknowledged.values()) >= goal, seconds, "traffic goes on")

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


class Posters(_Visitors):
    """Concurrent visitors that post visits under keys, and try another node if one does not answer.

    With probability `again` an acknowledged post is sent once more to the same node.
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
        super().__init__("poster", ((random.Random(seed * 1000 + n),) for n in range(visitors)))

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
                    # Sent at once to the node that answered: so it never counts through the window.
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
    """Send a post to a node; raises OSError or HTTPException when there is no answer.

    It comes with a token: one address alone sends more keys than a stranger may.
    """
    body = json.dumps([{"video": post.video, "count": post.visits}]).encode()
    headers = {
        **AUTHORIZED,
        "Content-Type": "application/json",
        "Idempotency-Key": f"key-of-{post.video}",
    }
    return client.ask("POST", "/visits", headers, body)


class Watcher(_Visitors):
    """Reads counts from several nodes over and over, and notes every number that fell."""

    def __init__(self, urls: Sequence[str], videos: Sequence[str], path: str = "/counts") -> None:
        self.falls: list[str] = []
        self.reads = 0
        self._query = path + "?" + "&".join(f"video={video}" for video in videos)
        super().__init__("watcher", ((url,) for url in urls))

    def _run(self, url: str) -> None:
        client, seen = Client(url), Counter[str]()
        while not self._stop.wait(0.05):
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


def agree(urls: Sequence[str], books: Books, seconds: float) -> float:
    """Wait until all nodes show the same visits, and check them; return the seconds it took."""
    videos = sorted(books.tried)

    def same() -> bool:
        first, *others = (counted(url, videos) for url in urls)
        return all(other == first for other in others) and (
            sum(first.values()) >= sum(books.acknowledged.values())
        )

    took = until(same, seconds, "the nodes agree")
    books.check(counted(urls[0], videos))
    return took
