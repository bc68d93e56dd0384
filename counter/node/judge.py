"""Why a visit does not count, decided in one place."""

from collections.abc import Callable


def never(*_: object) -> bool:
    """What holds for no visit."""
    return False


class Judge:
    """Says why a visit does not count. Any thread may call it, without any lock.

    `blocked(video)` says whether an operator has blocked a video.
    """

    def __init__(self, *, blocked: Callable[[str], bool] = never) -> None:
        self._blocked = blocked

    def reason(self, video: str) -> str | None:
        """Why a visit of a video does not count: "blocked", or None if it counts."""
        return "blocked" if self._blocked(video) else None
