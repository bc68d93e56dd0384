"""Runs jobs at regular intervals of a monotonic clock, whatever the wall clock is set to.

APScheduler 3 sleeps until a time of the wall clock. When that clock is set back, its jobs do not
run for as long as the step; when it is set forward, it lists every missed run one by one. It asks
for the time in one way only, `datetime.now(timezone)`, and Python lets the time zone decide what
that is. So it gets a time zone that reads a monotonic clock, and a trigger that skips missed runs.
Nothing of APScheduler is replaced.
"""

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger

_ZERO = datetime(2000, 1, 1)
"""The time when the clock is 0. Any time would do, because only differences matter."""


class Monotonic(tzinfo):
    """A time zone whose time is that of a monotonic clock, in seconds from an arbitrary zero.

    Only `datetime.now` may be used with it. A timestamp, or a time of another time zone, would be
    converted to the present time as well.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def fromutc(self, _: datetime) -> datetime:
        """The present time, for `datetime.now`."""
        return _ZERO.replace(tzinfo=self) + timedelta(seconds=self._clock())

    def utcoffset(self, _: datetime | None) -> timedelta:
        """Zero, so that times in this zone are compared and subtracted unchanged."""
        return timedelta(0)

    def dst(self, _: datetime | None) -> timedelta:
        """Zero."""
        return timedelta(0)

    def tzname(self, _: datetime | None) -> str:
        """For logs."""
        return "monotonic"


class Every(BaseTrigger):  # type: ignore[misc]  # APScheduler ships no types
    """Fires at an interval in seconds. Missed runs are skipped, however many there are."""

    def __init__(self, seconds: float) -> None:
        self._interval = timedelta(seconds=seconds)

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """The first time after `now` that is a whole number of intervals after the last run."""
        if previous is None:
            return now + self._interval
        missed = max(now - previous, timedelta(0)) // self._interval
        return previous + (missed + 1) * self._interval


class Schedule:
    """Runs each job at its interval, in one thread at a time, from `start` to `stop`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # The next run makes up for a late one, so late runs are not worth a warning.
        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        self._scheduler = BackgroundScheduler(
            # Two threads, so that a long job does not hold up a quick one.
            executors={"default": ThreadPoolExecutor(2)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=Monotonic(clock),
        )

    def every(self, seconds: float, job: Callable[[], None]) -> None:
        """Run this at an interval in seconds, first after one interval. Call it before `start`."""
        self._scheduler.add_job(job, Every(seconds))

    def start(self) -> None:
        """Start running jobs."""
        self._scheduler.start()

    def stop(self) -> None:
        """End, and wait for running jobs."""
        self._scheduler.shutdown()
