"""When a query is due: `schedule`, kept honest about clocks, coincidence and cost.

Three things `schedule` does not do by itself, and a watch needs. It reads the wall clock, which may
be set back; jobs of equal rhythm drift apart, while the figures of one poll should agree; and it
runs a job as often as asked, whatever the job costs.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable

import schedule

# Queries due within this time of each other go into one poll.
COALESCE_S = 1.0
# A query may take this share of its interval; beyond it, it is run less often.
MAX_SHARE = 0.2
MAX_STRETCH = 20.0
# A multiple of the usual intervals, so that databases are spread over each of them.
SPREAD_S = 3600.0


def spread(database: str) -> float:
    """Return the seconds by which a database's rhythm is set off, the same for the same name."""
    digest = hashlib.sha256(database.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 * SPREAD_S


class Schedule:
    """The due times of one database's queries, on a scheduler of its own.

    Args:
        offset_s: The second run of a query comes within its interval, at this many seconds modulo
            the interval, so that databases that were first polled together are not polled together
            again; queries of one rhythm, or of a multiple of it, stay together.
    """

    def __init__(self, offset_s: float = 0.0) -> None:
        self._offset_s = offset_s
        self._scheduler = schedule.Scheduler()
        self._configured: dict[str, float] = {}
        self._jobs: dict[str, schedule.Job] = {}
        self._due: set[str] = set()

    def configure(self, intervals_s: Iterable[tuple[str, float]]) -> None:
        """Set the queries and their intervals; every one is due at once.

        Args:
            intervals_s: Query name and seconds between runs.
        """
        self._scheduler.clear()
        self._jobs.clear()
        self._configured = dict(intervals_s)
        for name, interval_s in self._configured.items():
            self._plan(name, interval_s, self._offset_s % interval_s or interval_s)
        self._due = set(self._configured)

    def take_due(self) -> frozenset[str]:
        """Return the names that are due now or within COALESCE_S, and count them as begun."""
        self._scheduler.run_pending()
        if self._due:
            self._take_neighbours()
        due, self._due = frozenset(self._due), set()
        return due

    def make_all_due(self) -> None:
        """Ask for everything at the next look, as after a reconnection."""
        self._due = set(self._configured)

    def idle_s(self) -> float:
        """Return how long nothing will be due; at most the shortest interval.

        A wall clock that was set back would make `schedule` wait as long as it was set back: jobs
        that seem further away than their own interval are planned anew.
        """
        if self._due:
            return 0.0
        for name, job in list(self._jobs.items()):
            if _seconds_until(job) > job.interval + COALESCE_S:
                self._plan(name, job.interval)
        waits = [_seconds_until(job) for job in self._jobs.values()]
        return max(0.0, min(waits, default=1.0))

    def interval_s(self, name: str) -> float:
        """Return the seconds between runs of that query now in force."""
        return float(self._jobs[name].interval)

    def weigh(self, name: str, duration_s: float) -> bool:
        """Fit a query's interval to what it costs.

        Args:
            name: The query.
            duration_s: What its latest run took.

        Returns:
            Whether the interval changed by a quarter or more, which is worth a line in the log.
        """
        configured = self._configured[name]
        wanted = min(max(configured, duration_s / MAX_SHARE), configured * MAX_STRETCH)
        current = self.interval_s(name)
        if abs(wanted - current) < current / 4 and wanted != configured:
            return False
        if wanted == current:
            return False
        self._plan(name, wanted)
        return True

    def _plan(self, name: str, interval_s: float, first_s: float | None = None) -> None:
        """Run that query every interval from now, or from `first_s` on."""
        known = self._jobs.pop(name, None)
        if known is not None:
            self._scheduler.cancel_job(known)
        # schedule types its interval as int, and hands it to timedelta, which takes fractions.
        job = self._scheduler.every(interval_s)  # type: ignore[arg-type]
        self._jobs[name] = job.seconds.do(self._mark, name)
        if first_s is not None:
            job.next_run = datetime.datetime.now() + datetime.timedelta(seconds=first_s)  # noqa: DTZ005

    def _mark(self, name: str) -> None:
        """What a job does: cheap, and unable to fail."""
        self._due.add(name)

    def _take_neighbours(self) -> None:
        """Bring forward what would be due just later, so that rhythms stay in step."""
        for name, job in list(self._jobs.items()):
            window_s = min(COALESCE_S, job.interval / 4)
            if name not in self._due and _seconds_until(job) <= window_s:
                self._due.add(name)
                self._plan(name, job.interval)


def _seconds_until(job: schedule.Job) -> float:
    """Seconds until the job's next run; negative when overdue."""
    assert job.next_run is not None  # noqa: S101 - set by do()
    # schedule itself reads the naive local clock.
    return (job.next_run - datetime.datetime.now()).total_seconds()  # noqa: DTZ005


__all__ = ["COALESCE_S", "MAX_SHARE", "Schedule", "spread"]
