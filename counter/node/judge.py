"""Why a visit does not count, decided in one place."""

from collections.abc import Callable
from typing import Generic, TypeVar

Who = TypeVar("Who")


def _never(_video: str, _visitor: object) -> bool:
    return False


class Judge(Generic[Who]):
    """Says whether a visit counts. Any thread may ask."""

    def __init__(self, repeat: Callable[[str, Who], bool] = _never) -> None:
        self._repeat = repeat

    def reason(self, video: str, visitor: Who) -> str | None:
        """Why a visit does not count: "repeat", or None if it does."""
        return "repeat" if self._repeat(video, visitor) else None
