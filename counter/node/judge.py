"""Why a visit does not count."""

from counter.node.visit_log import Agent


class Judge:
    """Decides which class a visit is of, by the setting `BOTS`."""

    def __init__(self, bots: str = "crawlers") -> None:
        self._bots = bots

    def logged(self, _video: str, agent: Agent | None) -> str | None:
        """Why a visit does not count that a log says no more of; None if it does."""
        named = {"count": (), "crawlers": (Agent.CRAWLER,)}.get(self._bots, tuple(Agent))
        return "bot" if agent in named else None
