"""The pages that people watch: the front of the site and a video, both in one document."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from flask import Flask, Response, current_app, make_response, render_template

from counter.crdt.limits import visits_of
from counter.node.node import Node

CARDS = 50
"""How many of the most visited videos the front page shows, beside those with a clip."""
CARDS_BESIDE = 12
"""How many of them the page of a video knows of."""


class Clip(msgspec.Struct, frozen=True):
    """A video that comes with the site, in static/clips."""

    id: str
    title: str
    about: str
    seconds: int


def install(app: Flask, node: Node) -> None:
    """Add the front page, and read which clips there are."""
    catalogue = Path(app.static_folder or "") / "clips/clips.json"
    clips = msgspec.json.decode(catalogue.read_bytes(), type=list[Clip])
    app.extensions["clips"] = {clip.id: clip for clip in clips}

    @app.get("/")
    def front() -> Response:
        return _page(node, CARDS)


def video_page(node: Node, counter: dict[str, Any]) -> Response:
    """The page of a video, with its counter as it is answered."""
    return _page(node, CARDS_BESIDE, counter)


def _page(node: Node, most: int, counter: dict[str, Any] | None = None) -> Response:
    clips: dict[str, Clip] = current_app.extensions["clips"]
    page = render_template(
        "site.html",
        node=node.name,
        joining=node.joining,
        clips=clips,
        cards=_cards(node, clips, most),
        counter=counter,
    )
    return make_response(page)


def _cards(node: Node, clips: Iterable[str], most: int) -> Sequence[tuple[str, int | None]]:
    """The most visited videos and all with a clip, with their visits; most visits first.

    While the node is joining, visits are not known.
    """
    if node.joining:
        return [(video, None) for video in clips]
    videos = dict.fromkeys([*node.top(most), *clips])
    visited = [(video, visits_of(node.counter(video))) for video in videos]
    # Among equals the order of the catalogue holds.
    return sorted(visited, key=lambda card: -card[1])
