"""The number as a picture, and what pages of other sites may read."""

import re
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.web.badge import LONGEST_LABEL, shortened, width
from lab.clients import fill, until
from lab.servers import Nginx, Node
from tests.agents import BROWSERS, CRAWLERS
from tests.test_balancer import Backend
from tests.test_http import LONGEST, Answer, ask, browse, get, joining

__all__ = ["joining"]  # a fixture

SVG = "{http://www.w3.org/2000/svg}"
UNITS = {"k": 3, "M": 6, "G": 9, "T": 12, "P": 15}


def picture(answer: Answer) -> ElementTree.Element:
    """The picture that this answer must be, as other sites show it."""
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["access-control-allow-origin"] == "*"
    return ElementTree.fromstring(answer.body)


def texts(answer: Answer) -> list[str]:
    """What a badge says: its title, label and value."""
    shown = picture(answer)
    return [str(part.text) for tag in ("title", "text") for part in shown.iter(SVG + tag)]


def post(node: Node, video: str, visits: int) -> None:
    fill(node.url, {video: visits})


@pytest.mark.parametrize(
    ("visits", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (1999, "1.9k"), (9_999, "9.9k"), (10_999, "10k"),
     (999_999, "999k"), (1_000_000, "1.0M"), (3_456_789, "3.4M"), (2**53 - 1, "9.0P")],
)  # fmt: skip
def test_a_number_is_shortened(visits: int, text: str) -> None:
    assert shortened(visits) == text


@given(st.integers(0, 2**53 - 1))
def test_a_short_number_is_never_more_than_the_truth_nor_a_tenth_less(visits: int) -> None:
    text = shortened(visits)
    assert len(text) <= 4
    number, unit = (text[:-1], text[-1]) if text[-1] in UNITS else (text, "")
    whole, _, tenth = number.partition(".")
    says = int(whole + (tenth or "0")) * 10 ** UNITS.get(unit, 0) // 10
    assert says <= visits < max(says * 1.1, says + 1)


def test_wide_letters_take_more_room() -> None:
    assert width("") == 0
    assert width("iii") < width("aaa") < width("mmm") < width("数数数数")


def test_a_badge_shows_the_number_and_is_kept_for_seconds(node: Node) -> None:
    post(node, "many", 12_345)
    answer = get(node, "/badge/many.svg")
    assert answer.status == 200
    assert texts(answer) == ["visits: 12345", "visits", "12k"]
    assert picture(answer).get("role") == "img"
    assert re.fullmatch(r"public, max-age=\d{1,2}", answer.headers["cache-control"])
    tag = answer.headers["etag"]
    again = get(node, "/badge/many.svg", If_None_Match=tag)
    assert (again.status, again.body) == (304, b"")
    post(node, "many", 1)
    later = get(node, "/badge/many.svg", If_None_Match=tag)
    assert later.status == 200
    assert texts(later)[0] == "visits: 12346"


def test_a_badge_is_no_visit(node: Node) -> None:
    for _ in range(2):
        assert texts(get(node, "/badge/unseen.svg")) == ["visits: 0", "visits", "0"]


def test_a_badge_is_a_visit_only_where_that_is_asked_for(node: Node) -> None:
    for asked, shown in (("?count=1", "1"), ("", "1"), ("?count=0", "1"), ("?count=1", "2")):
        answer = get(node, f"/badge/asked.svg{asked}", User_Agent=BROWSERS[0])
        assert (answer.status, texts(answer)[2]) == (200, shown), asked
        kept = "no-store" if asked == "?count=1" else "public, max-age=10"
        assert answer.headers["cache-control"] == kept
    ask(node, "HEAD", "/badge/asked.svg?count=1")
    ahead = get(node, "/badge/asked.svg?count=1", Sec_Purpose="prefetch")
    assert texts(ahead)[2] == "2"
    answer = get(node, "/badge/asked.svg?count=yes")
    assert (answer.status, answer.problem()["title"]) == (400, "Bad count")


@pytest.mark.parametrize(
    ("agent", "counts"),
    [
        (CRAWLERS[0], False),
        ("github-camo (c006e452)", True),
        ("Mozilla/5.0 Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)", True),
        ("curl/8.5.0", True),
    ],
)  # fmt: skip
def test_a_badge_counts_by_the_same_rules_but_for_those_who_fetch_pictures_for_readers(
    node: Node, agent: str, counts: bool
) -> None:
    before = get(node, "/count/rules?detail").json()
    answer = get(node, "/badge/rules.svg?count=1", User_Agent=agent)
    assert answer.headers.get("x-counted") == (None if counts else "no; reason=bot")
    after = get(node, "/count/rules?detail").json()
    assert after["visits"] == before["visits"] + counts
    assert texts(answer)[2] == str(after["visits"])
    bots = [told["not_counted"].get("bot", 0) for told in (before, after)]
    assert bots[1] == bots[0] + (not counts)


def test_nginx_never_sends_a_badge_that_is_a_visit_twice(tmp_path: Path, stack: ExitStack) -> None:
    dying = [stack.enter_context(Backend()) for _ in range(3)]
    nginx = stack.enter_context(Nginx(tmp_path, [node.address for node in dying]))
    balancer = Node(tmp_path, "nginx", nginx.port)
    assert get(balancer, "/badge/cats.svg?count=1").status == 502
    assert len([request for node in dying for request in node.requests]) == 1
    # One that is no visit is asked of every node.
    get(balancer, "/badge/cats.svg?label=views")
    assert len([request for node in dying for request in node.requests]) > 2


@pytest.mark.parametrize("video", ["a.svg", "AZaz09._~-", LONGEST, "__proto__"])
def test_every_id_has_a_badge(node: Node, video: str) -> None:
    post(node, video, 3)
    assert texts(get(node, f"/badge/{video}.svg"))[2] == "3"


@pytest.mark.parametrize(
    "label", ["views", "<b>&\"'", "seen  by", "😀 数", "m" * LONGEST_LABEL, "{{7*7}}"]
)
def test_a_label_is_text(node: Node, label: str) -> None:
    answer = get(node, f"/badge/labelled.svg?label={quote(label)}")
    assert texts(answer)[:2] == [f"{label}: 0", label]
    shown = picture(answer)
    left, right = (int(box.get("width") or 0) for box in shown.findall(f".//{SVG}g/{SVG}rect"))
    assert int(shown.get("width") or 0) == left + right <= 420


@pytest.mark.parametrize("label", ["", "x" * (LONGEST_LABEL + 1), "a\nb", "\0", "\ufffe", "\u202e"])
def test_what_is_no_label_is_refused_in_words(node: Node, label: str) -> None:
    answer = get(node, f"/badge/cats.svg?label={quote(label)}")
    assert answer.status == 400
    assert "label" in answer.problem()["detail"]


@pytest.mark.parametrize("path", ["/badge/a%20b.svg", "/badge/%3Csvg%3E.svg", "/badge/a/b.svg"])
def test_a_badge_of_no_id_is_refused_in_words(node: Node, path: str) -> None:
    answer = get(node, path)
    assert answer.status == 400
    assert "A-Z a-z 0-9" in answer.problem()["detail"]
    assert browse(node, path).status == 400


@pytest.mark.parametrize("path", ["/badge", "/badge/", "/badge/cats", "/badge/.svg"])
def test_without_an_id_or_its_ending_there_is_no_badge(node: Node, path: str) -> None:
    get(node, path).problem()
    assert get(node, path).status == 404


def test_a_joining_node_has_a_badge_without_a_number(joining: Node) -> None:
    answer = get(joining, "/badge/cats.svg")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["cache-control"] == "no-store"
    assert texts(answer) == ["visits: …", "visits", "…"]
    assert texts(get(joining, "/badge/cats.svg?stale=1"))[2] == "0"


def test_nginx_takes_a_badge_from_a_node_that_has_joined(
    node: Node, joining: Node, tmp_path: Path, stack: ExitStack
) -> None:
    backends = [f"127.0.0.1:{each.port}" for each in (joining, node)]
    nginx = stack.enter_context(Nginx(tmp_path, backends))
    balancer = Node(tmp_path, "nginx", nginx.port)
    post(node, "behind", 1_000)
    for _ in range(6):
        answer = get(balancer, "/badge/behind.svg")
        assert (answer.status, answer.headers["x-served-by"]) == (200, "counter1")
        assert texts(answer)[2] == "1.0k"
    for path in ("/static/embed.js", "/count/behind", "/counts?video=behind", "/hit/behind"):
        assert get(balancer, path).headers["access-control-allow-origin"] == "*"
        assert get(balancer, path).headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/count/cats", 200), ("/count/a%20b", 400), ("/counts?video=cats", 200), ("/counts", 400),
     ("/top", 200), ("/hit/cats", 204), ("/hit/a%20b", 400), ("/badge/cats.svg", 200),
     ("/static/embed.js", 200), ("/static/live.js", 200), ("/static/counter.js", 200),
     ("/static/page.js", 200), ("/static/style.css", 200), ("/static/favicon.svg", 200),
     ("/static/clips/clock.webp", 200), ("/static/nothing.js", 404)],
)  # fmt: skip
def test_pages_of_other_sites_may_read_what_is_public(node: Node, path: str, status: int) -> None:
    answer = get(node, path, Origin="https://elsewhere.example")
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    if "etag" in answer.headers:
        again = get(node, path, If_None_Match=answer.headers["etag"])
        assert again.status == 304
        assert again.headers["cross-origin-resource-policy"] == "cross-origin"
    asked = {
        "Origin": "https://elsewhere.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "accept",
    }
    allowed = ask(node, "OPTIONS", path, asked).headers
    assert "GET" in allowed["access-control-allow-methods"].split(", ")
    assert allowed["access-control-allow-headers"] == "*"


@pytest.mark.parametrize(
    "path", ["/", "/video/cats", "/cluster", "/metrics", "/visits", "/nowhere"]
)
def test_pages_of_other_sites_may_read_nothing_else(node: Node, path: str) -> None:
    for answer in (get(node, path), browse(node, path)):
        assert "access-control-allow-origin" not in answer.headers
        assert "cross-origin-resource-policy" not in answer.headers


def test_a_beacon_of_another_site_counts(node: Node) -> None:
    assert ask(node, "POST", "/hit/beacon", {"Origin": "https://elsewhere.example"}).status == 204
    until(lambda: get(node, "/count/beacon").json()["visits"] == 1, 5, "it is counted")
