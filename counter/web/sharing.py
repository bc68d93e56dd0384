"""Which answers pages of other sites may read (CORS): public numbers and the code to show them."""

from flask import Flask, Response, request

SHARED = ("/badge/", "/count/", "/counts", "/hit/", "/live", "/static/", "/top")


def install(app: Flask) -> None:
    """Add the CORS headers, to problems as well.

    WebSockets need none: browsers open them to any site.
    """

    @app.after_request
    def share(response: Response) -> Response:
        if request.path.startswith(SHARED):
            response.headers["Access-Control-Allow-Origin"] = "*"
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
                response.headers["Access-Control-Allow-Headers"] = "*"
        return response
