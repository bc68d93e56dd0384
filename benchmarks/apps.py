"""The contenders: the Flask apps that one would run instead of a node."""

import os
import time

import msgspec
import redis
from flask import Flask, Response, request


class Record(msgspec.Struct):
    """Visits of one video."""

    video: str
    count: int


def bare() -> Flask:
    """The node's answers out of bare Flask, which counts in a dict and tells nobody.

    Like a node it lets other threads go on once a request.
    """
    app = Flask(__name__)
    name = os.environ["NAME"]
    member = f"{name}~7q2m9f2ck3x8a"
    visits: dict[str, int] = {}
    array, line = msgspec.json.Decoder(list[Record]), msgspec.json.Decoder(Record)

    def counter(video: str) -> dict[str, object]:
        number = visits.get(video, 0)
        return {"video": video, "visits": number, "node": name, "counts": {member: number}}

    @app.get("/video/<path:video>")
    def visit(video: str) -> Response:
        visits[video] = visits.get(video, 0) + 1
        time.sleep(0)
        return answer(counter(video))

    @app.post("/visits")
    def add() -> Response:
        json = request.mimetype == "application/json"
        records = (array.decode if json else line.decode_lines)(request.get_data(cache=False))
        total = 0
        for record in records:
            visits[record.video] = visits.get(record.video, 0) + record.count
            total += record.count
        time.sleep(0)
        return answer({"records": len(records), "visits": total})

    @app.get("/counts")
    def counts() -> Response:
        return answer({"counters": [counter(video) for video in request.args.getlist("video")]})

    return app


def incr() -> Flask:
    """Flask with one INCR for each visit in the Redis of `REDIS_URI`, which all share."""
    app = Flask(__name__)
    store = redis.Redis.from_url(os.environ["REDIS_URI"])

    @app.get("/video/<path:video>")
    def visit(video: str) -> Response:
        number = store.incr(video)
        time.sleep(0)
        return answer({"video": video, "visits": number})

    @app.get("/counts")
    def counts() -> Response:
        videos = request.args.getlist("video")
        numbers = [store.incrby(video, 0) for video in videos]
        shown = zip(videos, numbers, strict=True)
        return answer({"counters": [{"video": v, "visits": number} for v, number in shown]})

    return app


def answer(content: object) -> Response:
    """Return the content as JSON, encoded as a node does it."""
    return Response(msgspec.json.encode(content) + b"\n", content_type="application/json")
