"""A contender: what one would write instead, Flask with one INCR in Redis for each visit."""

import os
import time

import redis
from flask import Flask, Response, request

from benchmarks.bare import answer


def create_app() -> Flask:
    """Make the application; the counts are in the Redis of `REDIS_URI`, shared by all."""
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
