"""Which agents call themselves programs: crawlers, or libraries that fetch pages.

Who they are is a list that others keep, the package crawler-user-agents. Only its file is read: the
package would keep all of it in memory, with the examples.
"""

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["", "crawler", "library"]
"""What an agent calls itself; "" for neither, as browsers do."""

LONGEST = 256
"""So many characters of an agent are looked at: programs name themselves before that."""
_KEPT = 4096
"""Of so many agents it is remembered what they are."""
_LIBRARY = "http-library"
"""How the list tags what fetches pages for any program."""
_is_plain = re.compile(r"(?:[A-Za-z0-9 _:;,@<>=!&%#'\"~`/-]|\\[^A-Za-z0-9])+").fullmatch


class _Entry(msgspec.Struct):
    """An agent in the list; patterns are found anywhere in an agent, in this very case."""

    pattern: str
    tags: list[str] = []


class Agents:
    """Knows what an agent calls itself. Any thread may call `kind`, which takes some 100 ns.

    That is for one that was seen lately; any other takes 0.1 ms.
    """

    def __init__(self) -> None:
        crawlers: list[str] = []
        libraries: list[str] = []
        for entry in msgspec.json.decode(_file().read_bytes(), type=list[_Entry]):
            (libraries if _LIBRARY in entry.tags else crawlers).append(entry.pattern)
        self._crawlers, self._libraries = _Patterns(crawlers), _Patterns(libraries)
        self._kind = lru_cache(maxsize=_KEPT)(self._look)

    def kind(self, agent: str) -> Kind:
        """What an agent calls itself."""
        return self._kind(agent[:LONGEST])

    def found(self, agent: str) -> str:
        """The first pattern of the list that is found in an agent; "" if none is."""
        agent = agent[:LONGEST]
        return self._crawlers.first(agent) or self._libraries.first(agent)

    def _look(self, agent: str) -> Kind:
        if self._crawlers.are_in(agent):
            return "crawler"
        return "library" if self._libraries.are_in(agent) else ""


class _Patterns:
    """Regular expressions, most of which are plain texts.

    For those it is ten times as quick to look for each text as to search for all in one expression.
    """

    def __init__(self, patterns: list[str]) -> None:
        self._texts = [
            re.sub(r"\\(.)", r"\1", pattern) for pattern in patterns if _is_plain(pattern)
        ]
        self._others = [re.compile(pattern) for pattern in patterns if not _is_plain(pattern)]
        self._searches = [other.search for other in self._others]

    def are_in(self, agent: str) -> bool:
        """Whether one of them is found in an agent."""
        return any(map(agent.__contains__, self._texts)) or any(
            search(agent) for search in self._searches
        )

    def first(self, agent: str) -> str:
        """The first of them that is found in an agent; "" if none is."""
        text = next((text for text in self._texts if text in agent), "")
        return text or next((each.pattern for each in self._others if each.search(agent)), "")


def _file() -> Path:
    spec = find_spec("crawleruseragents")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("crawler-user-agents is not installed: see requirements.txt")
    return Path(spec.origin).with_name("crawler-user-agents.json")
