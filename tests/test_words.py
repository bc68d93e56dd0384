"""One word for one thing: names that were given up do not come back."""

import ast
import io
import re
import subprocess
import tokenize
from functools import cache
from pathlib import Path

import pytest

from lab.servers import ROOT

CODE = ("app.py", "counter", "lab", "chaos", "simulation", "benchmarks", "tools", "examples")
NAMES = {
    "AskKeys": "KeysRequest",
    "Awaited": "FoldBlocker",
    "Beat": "PauseMeter",
    "Leaders": "TopVideos",
    "Pace": "Rate",
    "Standing": "PreviousMemberReport",
    "Taken": "KeysPage",
    "Tell": "ReportRequest",
    "Word": "Claim",
    "Words": "PreviousAnnounced",
    "awaited": "fold_blockers",
    "doubled": "duplicate_names, or counted_again",
    "few": "sparse",
    "hurry": "cancel_waits",
    "in_batch": "in_flight",
    "overtaken": "ended_by_others",
    "raised": "pending",
    "renew": "start_new_run",
    "roll": "roster",
}
"""Names in Python that were given up, and what stands in their place."""
MESSAGES = {"Answer": "RepairPage", "Ask": "RepairRequest", "Condition": "Health"}
"""The same in the protocol and above it; elsewhere these are words of other things."""
ELSEWHERE = re.compile(r"\b(?:awaited|doubled|hurry|in_batch|overtaken|renew|Standing)\b")
"""The same in JavaScript, Lua and templates, whose words are not told apart from prose."""
LIMIT = re.compile(r"_?MOST_\w+")
"""A limit is `MAX_`."""
MODULES = {
    "counter/web/others.py": "survey",
    "counter/web/counters.py": "videos",
    "benchmarks/steady.py": "open_loop",
    "benchmarks/watchers.py": "live_clients",
    "benchmarks/travel.py": "propagation",
    "static/sides.js": "side_by_side",
    "static/kept.js": "saved_counters",
    "static/moves.js": "routes",
    "static/front.js": "cards",
    "static/guide.js": "tour_panel",
    "static/picture.js": "placeholder",
} | {
    f"{folder}/{old}.py": new
    for folder in ("tools", "lab", "chaos")
    for old, new in {"line": "proxy", "overflow": "broker_queue", "watch": "soak"}.items()
}
PHRASES = {
    r"(?i)in the batch": "in flight",
    r"(?i)\bvisits? (is|are|was|were) raised": "pending",
    r"(?i)\braises? (a|its own|the) (count|entry)": "increases, or increments",
    r"(?i)\bovertaken run": "a run that others have ended",
    r"(?i)\bstandings?\b": "member report",
    r"(?i)\bheld by (host|process|pid|\{)": "leased by",
    r"(?i)\b(the|a) roll of\b": "roster",
    r"`(Words|Word|Standing|Tell|Ask|Answer|AskKeys|Taken|Leaders|Beat|Pace)`": "see NAMES",
}
"""What prose does not say any more: in documents, docstrings, comments, logs and help texts."""
OLD_WORDS = re.compile(
    r"\b(?:raised|in the batch|visible|standing|overtaken|leaders|roll of members)\b"
    r"|\bholds? (?:on|of) the store\b|\bMOST_"
    r"|`(?:Words?|Standing|Tell|Ask|Answer|AskKeys|Taken|Condition|Leaders|Beat|Pace)`"
    r"|`(?:awaited|roll|renew|hurry)`|\b(?:kept|sides|moves|front|guide|picture)\.js\b"
)
"""The same for documents alone, where these words have no other sense."""
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@cache
def files(*parts: str) -> list[str]:
    """The files of the repository under these paths, tracked or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *parts],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [name for name in listed.split("\n") if (ROOT / name).is_file()]


@cache
def places() -> dict[str, list[str]]:
    """Where each of the names that were given up stands in Python code, as `file:line`."""
    found: dict[str, list[str]] = {}
    for path in files(*CODE):
        if path.endswith(".py"):
            text = (ROOT / path).read_text()
            above = path.startswith(("counter/protocol/", "counter/node/", "counter/web/"))
            given_up = NAMES | MESSAGES if above else NAMES
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                if token.type == tokenize.NAME and token.string in given_up:
                    found.setdefault(token.string, []).append(f"{path}:{token.start[0]}")
    return found


def test_a_name_that_was_given_up_is_not_in_the_code() -> None:
    assert places() == {}, f"they are {NAMES}"


def test_nor_is_it_in_other_languages() -> None:
    found = [
        f"{path}: {match[0]}"
        for path in files("counter", "static", "templates", "benchmarks")
        if path.endswith((".js", ".lua", ".html"))
        for match in ELSEWHERE.finditer((ROOT / path).read_text())
    ]
    assert found == []


def test_nor_in_what_a_node_says() -> None:
    """In its log, its errors and the help of its metrics: every string that is no docstring."""
    found = []
    for path in files("app.py", "gunicorn.conf.py", "counter"):
        if not path.endswith(".py"):
            continue
        tree = ast.parse((ROOT / path).read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            f"{path}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in prose
            if OLD_WORDS.search(node.value.replace("visible characters", ""))
        ]
    assert found == []


def test_a_limit_is_a_maximum() -> None:
    found = [
        f"{path}: {match[0]}"
        for path in files(*CODE, "tests")
        if path.endswith(".py") and path != "tests/test_words.py"
        for match in LIMIT.finditer((ROOT / path).read_text())
    ]
    assert found == []


@pytest.mark.parametrize("path", MODULES)
def test_a_file_has_its_new_name(path: str) -> None:
    assert not (ROOT / path).exists(), f"it is {MODULES[path]}"


@pytest.mark.parametrize("phrase", PHRASES)
def test_prose_uses_the_words_of_the_field(phrase: str) -> None:
    texts = [
        path
        for path in files("README.md", "CONTRIBUTING.md", "docs", "static", "templates", *CODE)
        if path.endswith((".md", ".py", ".js", ".html"))
    ]
    found = [
        f"{path}: {match[0]}"
        for path in texts
        for match in re.finditer(phrase, (ROOT / path).read_text())
    ]
    assert found == [], f"say {PHRASES[phrase]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_one_word_stands_for_one_thing(page: Path) -> None:
    assert OLD_WORDS.findall(page.read_text()) == []
