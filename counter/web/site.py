"""The pages for people: the front of the site and a video, both in one document."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from flask import Blueprint, Response, current_app, make_response, render_template, request
from flask.blueprints import BlueprintSetupState

from counter.crdt.ids import is_video
from counter.node.node import Node

CARDS = 50
"""How many of the most visited videos the front page shows, beside those with a clip."""
CARDS_BESIDE = 12
"""How many of them the page of a video has."""


class Clip(msgspec.Struct, frozen=True):
    """A video that comes with the site, in static/clips."""

    id: str
    title: str
    about: str
    seconds: int


def blueprint(node: Node) -> Blueprint:
    """The front page. Reads which clips there are when it is registered."""
    pages = Blueprint("site", __name__)

    @pages.record_once
    def read_clips(state: BlueprintSetupState) -> None:
        catalogue = Path(state.app.static_folder or "") / "clips/clips.json"
        clips = msgspec.json.decode(catalogue.read_bytes(), type=list[Clip])
        state.app.extensions["clips"] = {clip.id: clip for clip in clips}

    @pages.get("/")
    def front() -> Response:
        asked = request.args.get("video", "").strip()
        if is_video(asked):
            # Without JavaScript the form sends the id here.
            return Response(status=303, headers={"Location": f"/video/{asked}"})
        page = _page(node, CARDS, asked=asked)
        page.status_code = 400 if asked else 200
        return page

    return pages


def video_page(node: Node, counter: dict[str, Any], after: float = 0) -> Response:
    """The page of a video, with its counter as it is answered.

    With `after` the page itself counts a visit, once its video was played for so many seconds.
    """
    if counter["visits"] is not None:
        video = counter["video"]
        counter = {**node.show(video, node.counter(video), detail=True), **counter}
    return _page(node, CARDS_BESIDE, counter, after=after)


def apart_in_words(apart: Mapping[str, int]) -> str:
    """Visits that do not count, in words; "" for none. static/footnotes.js says the same."""
    bot, repeat, blocked = (apart.get(reason, 0) for reason in ("bot", "repeat", "blocked"))
    parts = [
        f"{bot} by crawlers" if bot else "",
        f"{repeat} {'repeat' if repeat == 1 else 'repeats'}" if repeat else "",
        f"{blocked} while taken down" if blocked else "",
    ]
    return ", ".join(filter(None, parts))


def _page(
    node: Node,
    limit: int,
    counter: dict[str, Any] | None = None,
    asked: str = "",
    after: float = 0,
) -> Response:
    clips: dict[str, Clip] = current_app.extensions["clips"]
    page = render_template(
        "site.html",
        node=node.name,
        joining=node.joining,
        clips=clips,
        cards=_cards(node, clips, limit),
        counter=counter,
        apart_in_words=apart_in_words,
        asked=asked,
        after=after,
    )
    return make_response(page)


def _cards(node: Node, clips: Collection[str], limit: int) -> Sequence[tuple[str, int | None]]:
    """All videos with a clip, then the most visited others, with their visits; most visits first.

    While the node is joining, the visits are unknown: None.
    """
    if node.joining:
        return [(video, None) for video in clips if not node.corrections.is_blocked(video)]
    videos = dict.fromkeys([*node.top(limit), *clips])
    corrected = node.corrections
    visited = [
        (video, corrected.visits(video, node.counter(video)))
        for video in videos
        if not corrected.is_blocked(video)
    ]
    # The sort is stable: equals stay in the order of the catalogue.
    return sorted(visited, key=lambda card: (card[0] not in clips, -card[1]))
