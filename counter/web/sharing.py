"""What pages of other sites may read: numbers, which are public, and what shows them."""

from flask import Flask, Response, request

SHARED = ("/badge/", "/count/", "/counts", "/hit/", "/live", "/static/", "/top")


def install(app: Flask) -> None:
    """Say so to browsers (CORS), also where the answer is a problem.

    WebSockets need no such word: a browser opens them to any site.
    """

    @app.after_request
    def share(response: Response) -> Response:
        if request.path.startswith(SHARED):
            response.headers["Access-Control-Allow-Origin"] = "*"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
                response.headers["Access-Control-Allow-Headers"] = "*"
        return response
