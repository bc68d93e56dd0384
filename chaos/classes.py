"""Visitors who know in which class each of their visits belongs, and the books of it.

They come through nginx, each from an address of its own: 127.0.0.0/8 has enough of them. What a
visit was counted as, its answer says; the books add that up. Beside it they know the rule, and note
each answer that the rule does not allow. In some cases it allows two: a node that was killed has
forgotten whom it saw, and one that is cut off does not hear of it.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from threading import Event, Lock, Thread
from typing import Any, NamedTuple, Self

from lab.clients import AUTHORIZED

COUNTED, BOT, REPEAT, BLOCKED = "counted", "bot", "repeat", "blocked"
CLASSES = (COUNTED, BOT, REPEAT, BLOCKED)
REFUSED, IN_DOUBT = "refused", "in doubt"
"""Certainly not counted (503); or answered neither yes nor no, so it may be in a class or not."""

PEOPLE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 11; CUBOT KINGKONG 5 Pro) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.6099.144 Mobile Safari/537.36",
    "curl/8.5.0",
    "",
)
CRAWLERS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)",
    "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
    "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
)
WAYS = (("GET", "/video/{}"), ("GET", "/hit/{}"), ("POST", "/hit/{}"))
KINDS = {
    "a person": 40,
    "the same person again": 30,
    "a crawler": 15,
    "a crawler with a token": 3,
    "a batch": 6,
    "a batch of a crawler": 3,
}
"""Who sends a request, and how often of all of them."""
TOLD = 2.0
"""Seconds after which all nodes that hear each other know whom one of them saw. They tell it every
0.1 s; the rest is for a machine that is busy."""


class Sighting(NamedTuple):
    """Where a viewer's visit was counted, and when it was sent and answered."""

    node: str
    sent: float
    answered: float


class Silence(NamedTuple):
    """From when to when a node could not hear the others, nor they it."""

    node: str
    begin: float
    end: float


class Hearing:
    """Which node knows of which viewers: who was killed, and who could hear whom. Thread-safe."""

    def __init__(self) -> None:
        self.killed: dict[str, float] = {}
        """When a node was killed last; it has forgotten all viewers."""
        self._silences: dict[str, Silence] = {}
        self._over: list[Silence] = []

    def kill(self, node: str) -> None:
        """Note it, before it is done."""
        self.killed[node] = time.monotonic()
        self.cut(node)

    def cut(self, node: str) -> None:
        """Note, before it is done, that a node will hear nobody."""
        silence = Silence(node, time.monotonic(), float("inf"))
        self._silences.setdefault(node, silence)

    def heal(self, node: str) -> None:
        """Note, after it was done, that it hears the others again."""
        begun = self._silences[node]
        self._over.append(begun._replace(end=time.monotonic() + TOLD))
        del self._silences[node]

    def knows(self, node: str, sightings: Iterable[Sighting], sent: float) -> bool:
        """Whether a node certainly knew of one of these when a request was sent and answered."""
        return any(self._knows(node, one, sent) for one in sightings)

    def _knows(self, node: str, one: Sighting, sent: float) -> bool:
        if self.killed.get(node, 0.0) >= one.sent:
            return False
        if node == one.node:
            return True
        told = one.answered + TOLD
        return sent >= told and not any(
            silence.node in (node, one.node) and silence.begin <= told and one.sent <= silence.end
            for silence in [*self._over, *self._silences.values()]
        )


class Classes:
    """The books: how many visits of each video are in each class. Thread-safe."""

    def __init__(self) -> None:
        self.told: Counter[tuple[str, str]] = Counter()
        """Visits by video and class, as the answers say."""
        self.unsure: Counter[tuple[str, str]] = Counter()
        """Visits without a clear answer, by video and each class that they may be in."""
        self.in_doubt: Counter[str] = Counter()
        """The same by video alone: each is in one class at most."""
        self.ends: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        """What became of visits, by who sent them."""
        self.requests: Counter[str] = Counter()
        self.open = 0
        """Visits of which the rule allows more than one class."""
        self.wrong: list[str] = []
        """Answers that the rule does not allow."""
        self.blocks: dict[str, bool | None] = {}
        """Whether a video is blocked at all nodes; None if that changes just now."""
        self._lock = Lock()

    def blocked(self, video: str) -> bool | None:
        """Whether a video is blocked."""
        return self.blocks.get(video, False)

    def note(
        self, kind: str, video: str, became: str, may: Collection[str], visits: int = 1
    ) -> None:
        """Note what an answer says of visits, and which classes the rule allows."""
        with self._lock:
            self.ends[kind][became] += visits
            if became == REFUSED:
                return
            if became == IN_DOUBT:
                self.in_doubt[video] += visits
                for each in may:
                    self.unsure[video, each] += visits
                return
            self.told[video, became] += visits
            self.open += visits * (len(may) > 1)
            if became not in may:
                self.wrong.append(f"{kind}: {video} is {became}, not {' or '.join(sorted(may))}")

    def asked(self, kind: str) -> None:
        """Note that a request is sent."""
        with self._lock:
            self.requests[kind] += 1

    def differences(self, shown: Mapping[str, Mapping[str, int]]) -> list[str]:
        """Where a node shows other numbers, given as `{video: {class: visits}}`."""
        found = []
        for video in sorted({*shown, *self.in_doubt, *(video for video, _ in self.told)}):
            classes = shown.get(video, {})
            for each in CLASSES:
                least, number = self.told[video, each], classes.get(each, 0)
                if not least <= number <= least + self.unsure[video, each]:
                    found.append(f"{video}: {number} {each}, and the books have {least}")
            least, number = sum(self.told[video, each] for each in CLASSES), sum(classes.values())
            if not least <= number <= least + self.in_doubt[video]:
                found.append(f"{video}: {number} in all, and the books have {least}")
        return found


class Answer(NamedTuple):
    """What became of a request: the class of each of its records, and the node that answered."""

    became: list[str]
    node: str


def ask(
    port: int,
    method: str,
    path: str,
    headers: Mapping[str, str],
    records: Sequence[Mapping[str, Any]] = (),
    address: str = "127.0.0.1",
) -> Answer:
    """Send a visit, or a batch of records, from an address of this machine."""
    body = json.dumps(records).encode() if records else None
    many = max(1, len(records))
    connection = HTTPConnection("127.0.0.1", port, timeout=20, source_address=(address, 0))
    try:
        with closing(connection):
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            content, said = response.read(), response.headers
    except (OSError, HTTPException):
        return Answer([IN_DOUBT] * many, "")
    node, status = said.get("X-Served-By", ""), response.status
    if records and status == 200:
        return Answer(
            [each.get("reason", COUNTED) for each in json.loads(content)["results"]], node
        )
    return Answer([_class(status, content, said.get("X-Counted", ""))] * many, node)


def _class(status: int, content: bytes, said: str) -> str:
    """What an answer says of a visit."""
    match status:
        case 200:
            return str(json.loads(content).get("reason", COUNTED))
        case 204:
            return said.partition("no; reason=")[2] or COUNTED
        case 410:
            return str(json.loads(content)["reason"])
        case 503:
            return REFUSED
        case _:
            return IN_DOUBT


class Viewer(NamedTuple):
    """Who visits what."""

    address: str
    agent: str
    video: str


class Visitors:
    """Sends mixed requests, one after the other, until it is stopped. `port` is nginx's.

    Its viewers are nobody else's, so it knows of each where it was seen.
    """

    def __init__(
        self,
        number: int,
        port: int,
        videos: Sequence[str],
        books: Classes,
        hearing: Hearing,
        pause: float = 0.02,
    ) -> None:
        self.seen: dict[Viewer, list[Sighting]] = {}
        """Where visits of each viewer were counted."""
        self.unsure: set[Viewer] = set()
        """Whose visit got no clear answer, and may count. They do not come again."""
        self.failure: BaseException | None = None
        """What ended it too early."""
        self._number, self._port, self._videos = number, port, videos
        self._books, self._hearing, self._pause = books, hearing, pause
        self._choose = random.Random(number)
        self._people = 0
        self._again: list[Viewer] = []
        self._stopping = Event()
        self._thread = Thread(target=self._run, name=f"visitors-{number}")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Return once the last request is answered."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._pause):
                self._step()
        except BaseException as failure:
            self.failure = failure
            raise

    def _step(self) -> None:
        (kind,) = self._choose.choices(list(KINDS), list(KINDS.values()))
        if kind == "the same person again" and not self._again:
            kind = "a person"
        self._books.asked(kind)
        match kind:
            case "a person":
                self._people += 1
                viewer = Viewer(
                    f"127.{self._number + 1}.{self._people // 250}.{self._people % 250 + 1}",
                    self._choose.choice(PEOPLE),
                    self._choose.choice(self._videos),
                )
                self._person(kind, viewer)
            case "the same person again":
                self._person(kind, self._choose.choice(self._again))
            case "a crawler":
                self._visit(kind, {}, BOT)
            case "a crawler with a token":
                self._visit(kind, AUTHORIZED, COUNTED)
            case "a batch":
                self._batch(kind, "python-requests/2.32.3", COUNTED)
            case "a batch of a crawler":
                self._batch(kind, self._choose.choice(CRAWLERS), BOT)

    def _person(self, kind: str, viewer: Viewer) -> None:
        method, path = self._choose.choice(WAYS)
        before, sent = self._books.blocked(viewer.video), time.monotonic()
        headers = {"User-Agent": viewer.agent} if viewer.agent else {}
        (became,), node = ask(
            self._port, method, path.format(viewer.video), headers, address=viewer.address
        )
        sightings = self.seen.get(viewer, [])
        if not sightings:
            classes = {COUNTED}
        elif became != IN_DOUBT and self._hearing.knows(node, sightings, sent):
            classes = {REPEAT}
        else:
            classes = {COUNTED, REPEAT}
        may = self._note(kind, viewer.video, became, classes, before)
        if became == IN_DOUBT:
            if COUNTED in may:
                self.unsure.add(viewer)
            if viewer in self._again:
                self._again.remove(viewer)
        elif became == COUNTED:
            if not sightings:
                self._again.append(viewer)
            self.seen[viewer] = [*sightings, Sighting(node, sent, time.monotonic())]

    def _visit(self, kind: str, headers: Mapping[str, str], class_: str) -> None:
        """A visit of a crawler."""
        video = self._choose.choice(self._videos)
        method, path = self._choose.choice(WAYS)
        before = self._books.blocked(video)
        agent = {"User-Agent": self._choose.choice(CRAWLERS)}
        (became,), _ = ask(self._port, method, path.format(video), {**headers, **agent})
        self._note(kind, video, became, {class_}, before)

    def _batch(self, kind: str, agent: str, class_: str) -> None:
        videos = self._choose.sample(self._videos, self._choose.randint(1, 4))
        records = [{"video": video, "count": self._choose.randint(1, 9)} for video in videos]
        before = [self._books.blocked(video) for video in videos]
        headers = {"Content-Type": "application/json", "User-Agent": agent}
        answer = ask(self._port, "POST", "/visits?detail", headers, records)
        for record, became, was in zip(records, answer.became, before, strict=True):
            video, count = str(record["video"]), int(str(record["count"]))
            self._note(kind, video, became, {class_}, was, count)

    def _note(
        self,
        kind: str,
        video: str,
        became: str,
        classes: set[str],
        before: bool | None,
        visits: int = 1,
    ) -> set[str]:
        """Note an answer; `before` is whether the video was blocked when the request was sent.

        Returns which classes the rule allows.
        """
        blocked = {before, self._books.blocked(video)}
        may = set() if blocked == {True} else classes
        if blocked != {False}:
            may = may | {BLOCKED}
        self._books.note(kind, video, became, may, visits)
        return may
