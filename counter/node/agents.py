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
_START = 3
"""So many characters of a text are looked up before it is compared."""
_LIBRARY = "http-library"
"""How the list tags what fetches pages for any program."""
_is_plain = re.compile(r"(?:[A-Za-z0-9 _:;,@<>=!&%#'\"~`/-]|\\[^A-Za-z0-9])+").fullmatch


class _Entry(msgspec.Struct):
    """An agent in the list; patterns are found anywhere in an agent, in this very case."""

    pattern: str
    tags: list[str] = []


class Agents:
    """Knows what an agent calls itself. Any thread may call `kind`, which takes some 100 ns.

    That is for one that was seen lately; any other takes some 50 us.
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
        if self._crawlers.first(agent):
            return "crawler"
        return "library" if self._libraries.first(agent) else ""


class _Patterns:
    """Regular expressions, most of which are plain texts.

    Those are looked for by how they begin, which is thirty times as quick as one expression.
    """

    def __init__(self, patterns: list[str]) -> None:
        self._texts: dict[str, list[str]] = {}
        """By their first characters."""
        self._others: list[re.Pattern[str]] = []
        for pattern in patterns:
            text = re.sub(r"\\(.)", r"\1", pattern)
            if _is_plain(pattern) and len(text) >= _START:
                self._texts.setdefault(text[:_START], []).append(text)
            else:
                self._others.append(re.compile(pattern))

    def first(self, agent: str) -> str:
        """The first of them that is found in an agent; "" if none is."""
        for at in range(len(agent) - _START + 1):
            for text in self._texts.get(agent[at : at + _START], ()):
                if agent.startswith(text, at):
                    return text
        return next((other.pattern for other in self._others if other.search(agent)), "")


def _file() -> Path:
    spec = find_spec("crawleruseragents")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("crawler-user-agents is not installed: see requirements.txt")
    return Path(spec.origin).with_name("crawler-user-agents.json")
