"""The first ten minutes: what the README, `make run` and `make traffic` lead to."""

import json
import re
from collections import Counter
from itertools import islice

import pytest

from lab.servers import ROOT, Node
from tools import run, traffic

CLIPS = [clip["id"] for clip in json.loads((ROOT / "static/clips/clips.json").read_bytes())]
ADDRESS = r"http://127\.0\.0\.1:[0-9]+/(?:video/|cluster\?video=)([A-Za-z0-9._~-]+)"


def test_the_first_addresses_of_the_readme_have_a_clip() -> None:
    before, _, _ = (ROOT / "README.md").read_text().partition("## Try it")
    videos = re.findall(ADDRESS, before)
    assert videos
    assert set(videos) <= set(CLIPS)


@pytest.mark.parametrize("with_nginx", [True, False])
def test_what_make_run_says_to_open_has_a_clip(
    with_nginx: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    run._announce([Node(ROOT / "data", "counter1", 1231)], with_nginx)
    said = capsys.readouterr().out
    videos = re.findall(ADDRESS, said)
    assert len(videos) == 2, said
    assert set(videos) <= set(CLIPS)


def test_traffic_visits_the_videos_with_a_clip_first_and_most_and_others_too() -> None:
    videos = [path.removeprefix("/video/") for path in islice(traffic.zipf(), 5_000)]
    assert videos[: len(CLIPS)] == CLIPS
    visited = Counter(videos)
    assert {video for video, _ in visited.most_common(3)} <= set(CLIPS)
    assert len(visited.keys() - set(CLIPS)) > 100


def test_the_readme_says_when_another_node_shows_many_visits() -> None:
    _, _, after = (ROOT / "README.md").read_text().partition("Many visits at once")
    about, _, _ = after.partition("```console")
    assert "Another node shows them a tenth of a second later." in " ".join(about.split())
