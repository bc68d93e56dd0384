"""The documentation says what the code does."""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from app import create_app
from counter.config import Config
from counter.setting_files import IN_FILES
from lab.servers import ROOT
from tools.proof import proofs

README = (ROOT / "README.md").read_text()
REFERENCE = (ROOT / "docs/reference.md").read_text()
OPERATING = (ROOT / "docs/operating.md").read_text()
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted([ROOT / "app.py", ROOT / "gunicorn.conf.py", *(ROOT / "counter").rglob("*.py")])


def table(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a column heading, without its head."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            break
    else:
        raise AssertionError(f"no table with the column {heading!r}")
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def code(text: str) -> list[str]:
    """Everything in a text that is marked as code."""
    return re.findall(r"`([^`]+)`", text)


class Asked(Mapping[str, str]):
    """An empty environment that remembers which settings were looked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def shown(default: object) -> str:
    """How the table of the settings begins for a default."""
    match default:
        case None:
            return "unset"
        case ():
            return "empty"
        case tuple():
            return f"`{','.join(map(str, default))}`"
        case bool():
            return "on" if default else "off"
        case Path():
            return f"`./{default}`"
        case float():
            return f"`{default:g}` s"
        case _:
            return f"`{default}`"


def test_every_setting_is_in_the_table_with_its_default() -> None:
    listed = {code(row[0])[0]: row[1] for row in table(REFERENCE, "name | default | meaning")}
    asked = Asked()
    config = Config.from_environ(asked)
    assert config == Config(), "one default for tests, another one for nodes"
    assert list(listed) == [field.name.upper() for field in fields(Config)]
    in_files = {f"{name}_FILE" for name in IN_FILES}
    assert set(listed) | in_files == asked.names
    assert in_files <= set(code(REFERENCE)), "each is named"
    for field in fields(Config):
        default = shown(getattr(config, field.name))
        assert re.match(rf"{re.escape(default)}(:|$)", listed[field.name.upper()]), field.name


def test_every_endpoint_is_in_the_table() -> None:
    listed = set()
    for row in table(REFERENCE, "request | does"):
        for request in code(row[0]):
            method, path = request.split()
            listed.add((method, re.sub(r"<[^>]+>", "<>", path.partition("?")[0])))
    served = set()
    every = Config(dev_mode=True, admin_token="only-for-tests")
    for rule in create_app(every).url_map.iter_rules():
        if rule.endpoint != "static":
            path = re.sub(r"<[^>]+>", "<>", rule.rule)
            methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            served |= {(method, path) for method in methods}
    assert listed == served


def test_the_two_commands_come_first_and_are_those_of_ci() -> None:
    first = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)[0]
    commands = [line.partition("#")[0].split() for line in first.splitlines()]
    assert commands == [["make", "run"], ["make", "test"]]
    assert README.index(first) < 1500
    ci = (ROOT / ".ci/run").read_text().splitlines()
    assert {"make check", "make test", "make proof SECONDS=60"} <= set(ci)


def test_make_proof_runs_every_test_that_has_its_marker() -> None:
    runs = [proof.arguments for proof in proofs(60)]
    run = {
        name
        for each in runs
        if any(argument in ("proof", "proof and not alone") for argument in each)
        for name in each
    }
    marked = {path for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)}
    marked = {path for path in marked if "pytest.mark.proof" in path.read_text()}
    assert {f"tests/{path.name}" for path in marked} <= run


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 120


def test_every_make_command_is_a_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    pages = "\n".join(page.read_text() for page in PAGES)
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", pages, re.DOTALL))
    commands = [
        *re.findall(r"`make ([a-z]+)", pages),
        *re.findall(r"^make (\w+)", blocks, re.MULTILINE),
    ]
    assert len(commands) > 5
    assert set(commands) <= targets
    assert {row[0].strip("`").split()[1] for row in table(contributing(), "command | does")} | {
        "help"
    } == targets


def contributing() -> str:
    return (ROOT / "CONTRIBUTING.md").read_text()


def logged(source: str) -> Iterator[str]:
    """The first words of everything that a module logs."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        of = node.func.value
        is_log = isinstance(of, ast.Name) and of.id == "log"
        if not is_log and node.func.attr != "_warn":
            continue
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value.split()[0]


def test_every_log_event_is_explained() -> None:
    events = {event for path in SOURCES for event in logged(path.read_text())}
    # A sentence that was made where the fault was found.
    events.discard("%s")
    listed = {row[0].strip("`") for row in table(OPERATING, "event | level | means")}
    assert all(re.fullmatch(r"[a-z]+(\.[a-z]+)*", event) for event in events)
    assert listed == events


def test_every_metric_is_explained() -> None:
    text = create_app(Config()).extensions["node"].metrics.text().decode()
    metrics = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    listed = {name for row in table(REFERENCE, "metric | means | alert") for name in code(row[0])}
    assert listed == metrics


def test_every_reason_for_a_drop_is_explained() -> None:
    reasons: set[str] = set()
    for path in (ROOT / "counter/protocol/messages.py", ROOT / "counter/node/gossip.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(
                ("RejectedError", "._drop")
            ):
                texts = [part for part in ast.walk(call.args[0]) if isinstance(part, ast.Constant)]
                reasons |= {str(part.value) for part in texts}
    listed = {row[0].strip("`") for row in table(REFERENCE, "reason | means | do")}
    assert listed == reasons


def test_every_decision_is_in_the_index_and_numbered() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text()
    linked = re.findall(r"^\| (\d{4}) \| \[(.+)\]\((\S+)\) \|$", index, re.MULTILINE)
    assert [name for _, _, name in linked] == [page.name for page in DECISIONS]
    for number, ((shown_number, title, name), page) in enumerate(
        zip(linked, DECISIONS, strict=True), 1
    ):
        assert int(shown_number) == number
        assert name.startswith(f"{shown_number}-")
        assert page.read_text().startswith(f"# {shown_number} {title}\n")


def test_every_dependency_has_its_reason() -> None:
    packages = set()
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith(("#", "-r")):
                packages.add(line.partition("==")[0])
    packages |= set(json.loads((ROOT / "package.json").read_text())["devDependencies"])
    page = (ROOT / "docs/decisions/0008-dependencies.md").read_text()
    listed = set()
    for row in re.findall(r"^\| (`.*?) \| ", page, re.MULTILINE):
        listed |= set(code(row))
    assert listed == packages


def anchors(page: Path) -> set[str]:
    """What links into a page may name."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def test_every_place_of_the_flows_exists() -> None:
    text = (ROOT / "docs/flows.md").read_text()
    rows = table(text, "question | place")
    places = [name for row in rows for name in code(row[1])]
    assert len(places) > 20
    for place in places:
        assert (ROOT / place).exists(), place


def test_the_pictures_are_small_and_shown() -> None:
    pictures = [path for path in (ROOT / "docs/pictures").rglob("*") if path.is_file()]
    assert pictures
    pages = "\n".join(page.read_text() for page in PAGES)
    for picture in pictures:
        assert picture.stat().st_size < 100_000, picture.name
        assert picture.name in pages
