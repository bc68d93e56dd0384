"""`python -m tools.crawlers`: writes balancer/crawlers.conf, by which nginx tells agents apart.

The list is that of the package crawler-user-agents, by which a node tells them apart as well. nginx
tries the regular expressions of a map one after the other, and 1,500 of them would cost it 170 µs
for each beacon. So plain texts are joined into trees, as few expressions as the parser of nginx has
room for. What most browsers call themselves is tried first, and none of the list is found in it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from lab.servers import ROOT

WRITTEN = ROOT / "balancer/crawlers.conf"
LIBRARY = "http-library"
"""The tag of what programs call themselves that are no crawlers: curl, wget, libraries."""
LONGEST = 3_000
"""Characters of one regular expression: nginx reads at most 4,096 as one parameter."""

_NUMBERS = "[0-9._]+"
_DESKTOP = r"Windows NT 10\.0; Win64; x64|X11; Linux x86_64|Macintosh; Intel Mac OS X #"
BROWSERS = [
    browser.replace("#", _NUMBERS)
    for browser in (
        rf"^Mozilla/5\.0 \((?:{_DESKTOP}|X11; CrOS x86_64 #|Linux; Android #; K)\) "
        r"AppleWebKit/# \(KHTML, like Gecko\) Chrome/# (?:Mobile )?Safari/#(?: (?:Edg|OPR)/#)?$",
        r"^Mozilla/5\.0 \((?:iPhone; CPU iPhone OS # like Mac OS X|iPad; CPU OS # like Mac OS X|"
        r"Macintosh; Intel Mac OS X #)\) AppleWebKit/# \(KHTML, like Gecko\) Version/# "
        r"(?:Mobile/15E148 )?Safari/#$",
        rf"^Mozilla/5\.0 \((?:{_DESKTOP}|Android #; Mobile); rv:#\) Gecko/# Firefox/#$",
    )
]
"""What most browsers call themselves: Chrome and its like, Safari, Firefox."""

# What stands for a few plain texts: letters, what is escaped, `[wW]`, `(a|b)`.
_part = re.compile(r"\\([^A-Za-z0-9])|\[([A-Za-z]+)\]|\(([A-Za-z|]+)\)|([^\\\[\](){}.*+?^$|])")
_special = re.compile(r"[\\.^$|?*+()\[\]{}]")
_captures = re.compile(r"(?<!\\)\((?!\?)")

_HEAD = """\
# What an agent calls itself: a crawler, a library, or "". Made by `python -m tools.crawlers` from
# the list of crawler-user-agents {version} (MIT licence, Martin Monperrus and others), by which
# nodes tell agents apart as well.
"""
_MAPS = """\
# Nobody reads on.
map $http_user_agent $agent {
    "~^(?<agent_begins>.{256})" $agent_begins;
    default $http_user_agent;
}
map $agent $calls_itself {
    default "";
    "" library;
"""


def patterns(entries: Iterable[Mapping[str, Any]], *, libraries: bool) -> list[str]:
    """The regular expressions of the list for libraries, or for crawlers."""
    return [each["pattern"] for each in entries if (LIBRARY in each.get("tags", ())) == libraries]


def texts(pattern: str) -> list[str] | None:
    """The plain texts that a regular expression stands for; None if it is more than these."""
    choices: list[Sequence[str]] = []
    at = 0
    while at < len(pattern):
        part = _part.match(pattern, at)
        if part is None:
            return None
        escaped, letters, words, plain = part.groups()
        choices.append((words.split("|") if words else letters) or [escaped or plain])
        at = part.end()
    return ["".join(parts) for parts in product(*choices)]


def joined(expressions: Iterable[str]) -> Iterator[str]:
    """Regular expressions that together match what any of these matches, each not too long."""
    plain: set[str] = set()
    others: list[str] = []
    for expression in expressions:
        found = texts(expression)
        if found is None:
            others.append(_captures.sub("(?:", expression))
        else:
            plain.update(found)
    yield from _cut(others, "|".join)
    # One that holds another one adds nothing.
    needed = [text for text in sorted(plain) if not any(o in text for o in plain if o != text)]
    yield from _cut(needed, lambda some: _tree(some))


def _cut(parts: list[str], join: Any) -> Iterator[str]:
    """Join as many of the parts as there is room for, again and again."""
    begin = 0
    for end in range(1, len(parts) + 1):
        if end == len(parts) or len(join(parts[begin : end + 1])) > LONGEST:
            yield join(parts[begin:end])
            begin = end


def _tree(sorted_texts: Sequence[str]) -> str:
    """A regular expression for any of these texts that reads what they begin with only once."""
    if "" in sorted_texts:
        return ""
    branches: dict[str, list[str]] = {}
    for text in sorted_texts:
        branches.setdefault(text[0], []).append(text[1:])
    written = [_special.sub(r"\\\g<0>", first) + _tree(rest) for first, rest in branches.items()]
    return written[0] if len(written) == 1 else f"(?:{'|'.join(written)})"


def conf(entries: Sequence[Mapping[str, Any]], version: str) -> str:
    """The file for nginx."""
    lines = [_HEAD.format(version=version), _MAPS]
    lines += [f'    "~{browser}" "";\n' for browser in BROWSERS]
    for libraries, word in ((False, "crawler"), (True, "library")):
        for expression in joined(patterns(entries, libraries=libraries)):
            quoted = expression.replace("\\/", "/").replace('"', '\\"')
            lines.append(f'    "~{quoted}" {word};\n')
    return "".join([*lines, "}\n"])


def pinned(requirements: Path = ROOT / "requirements.txt") -> str:
    """The version of the list that is pinned."""
    found = re.search(r"(?m)^crawler-user-agents==(.+)$", requirements.read_text())
    assert found, f"{requirements.name} pins no crawler-user-agents"
    return found[1]


if __name__ == "__main__":
    WRITTEN.write_text(conf(CRAWLER_USER_AGENTS_DATA, pinned()))
