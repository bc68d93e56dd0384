"""Which answers pages of other sites may read: public numbers and the code to show them.

CORS lets their scripts read an answer. The resource policy lets pages that isolate themselves show
it, such as a badge.
"""

from flask import Flask, Response, request

SHARED = ("/badge/", "/count/", "/counts", "/hit/", "/live", "/static/", "/top")


def install(app: Flask) -> None:
    """Add the headers that say so, to problems as well.

    WebSockets need none: browsers open them to any site.
    """

    @app.after_request
    def share(response: Response) -> Response:
        if request.path.startswith(SHARED):
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            response.headers["Access-Control-Expose-Headers"] = "X-Counted"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
                response.headers["Access-Control-Allow-Headers"] = "*"
        return response
