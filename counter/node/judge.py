"""Why a visit does not count."""

from counter.node.agents import Kind


class Judge:
    """Decides which class a visit is of, by the setting `BOTS`."""

    def __init__(self, bots: str = "crawlers") -> None:
        self._bots = bots

    def logged(self, _video: str, kind: Kind) -> str | None:
        """Why a visit does not count that a log says no more of; None if it does."""
        named = {"count": (), "crawlers": ("crawler",)}.get(self._bots, ("crawler", "library"))
        return "bot" if kind in named else None
