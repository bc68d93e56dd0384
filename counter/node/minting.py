"""Ids that were never used before: of stores, and of runs that follow others."""

import logging
import secrets
import time

from counter.crdt.ids import mint_run
from counter.crdt.ids import mint_store as mint_store_of
from counter.protocol.replica import Replica

log = logging.getLogger("counter")


def start_new_run(replica: Replica, *, reverted: bool = False) -> set[str]:
    """Go on as another run: the others have ended this one unheard, or know more of it."""
    latest = replica.members.latest(replica.member)
    run = mint_run(int(time.time() * 1000), latest, secrets.randbits(64))
    grew = replica.start_new_run(run, time.monotonic(), reverted=reverted)
    log.warning("renewed replica=%s", replica.id)
    return grew


def mint_store() -> str:
    """The id of a new store."""
    return mint_store_of(secrets.randbits(64))
