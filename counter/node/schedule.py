"""When jobs run: at a steady pace by a monotonic clock, whatever the wall clock is set to.

APScheduler 3 sleeps until a time of the wall clock. When that is set back its jobs stay silent for
as long as the step; when it is set forward it lists every run that was missed, one by one. It asks
for the time in one way only, `datetime.now(timezone)`, and Python leaves it to the time zone what
that is. So it gets a time zone that reads a monotonic clock, and a trigger that skips what was
missed. Nothing of APScheduler is replaced.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

_ZERO = datetime(2000, 1, 1)
"""What is said to be the time when the clock is 0. Any would do: only differences matter."""


class Monotonic(tzinfo):
    """A time zone whose time is what a monotonic clock says, in seconds from an arbitrary zero.

    Only `datetime.now` may be asked for a time in it: that of a timestamp or of another time zone
    would be now as well.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def fromutc(self, _: datetime) -> datetime:
        """The present time, for `datetime.now`."""
        return _ZERO.replace(tzinfo=self) + timedelta(seconds=self._clock())

    def utcoffset(self, _: datetime | None) -> timedelta:
        """Zero, so that times in this zone are compared and subtracted as they are."""
        return timedelta(0)

    def dst(self, _: datetime | None) -> timedelta:
        """Zero."""
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        """For logs."""
        return "monotonic"


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler ships no types
    """Fires every so many seconds. Runs that were missed are skipped, however many there are."""

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """The first time after `now` that is a whole number of intervals after the last one."""
        if previous is None:
            return now + self._interval
        missed = max(now - previous, timedelta(0)) // self._interval
        return previous + (missed + 1) * self._interval


class Schedule:
    """Runs jobs at their pace, each in one thread at a time, from `start` to `stop`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # A run that is late is made up for by the next one, which is not worth a warning each.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler = BackgroundScheduler(
            # Two threads, so that a long job does not hold up a quick one.
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=Monotonic(clock),
        )

    def every(self, seconds: float, job: Callable[[], None]) -> None:
        """Run this every so many seconds; first after as many."""
        self._scheduler.add_job(job, Every(seconds))

    def start(self) -> None:
        """Begin."""
        self._scheduler.start()

    def stop(self) -> None:
        """End, and wait for jobs that run."""
        self._scheduler.shutdown()
