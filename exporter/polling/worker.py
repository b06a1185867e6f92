"""One worker per database: when to ask, and the latest snapshot.

A worker has its own thread, schedule and connection, so that a database that hangs or dies delays
no other. It survives every error of the database; each is logged when the state changes and counted
each time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from exporter.catalogue import Query
from exporter.config.watch import WatchTimes
from exporter.database import Connection, Outcome, Poll
from exporter.errors import DatabaseUnavailable, Reason
from exporter.metrics.snapshot import QueryResult, Snapshot
from exporter.polling.outage import Outage
from exporter.polling.plan import Plan
from exporter.polling.quarantine import Quarantine
from exporter.polling.results import Results, build_empty_snapshot, count_failure
from exporter.polling.schedule import Schedule, spread
from exporter.threads import PeriodicThread

log = structlog.get_logger("chatqueue.poller")

# Beyond a query's own limit, a step may take this long before its worker counts as stuck.
STUCK_AFTER_S = 60.0
LONGEST_PAUSE_S = 15.0
# Losses of the connection at one query after another before the database itself is given up.
MOST_LOSSES_PER_POLL = 3


class Worker(PeriodicThread[Plan]):
    """Polls one database until stopped, in mid-query too.

    Args:
        plan: What to do.
        on_change: Called from the worker's thread after each new snapshot.
        monotonic: Clock for freshness.
        wall: Unix time for timestamps.

    Attributes:
        watch: The watch that was started by command in this database, at the latest poll.
    """

    def __init__(
        self,
        plan: Plan,
        on_change: Callable[[], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(plan.database, plan, kind="poller", monotonic=monotonic)
        self._on_change = on_change
        self._schedule = Schedule(spread(plan.database))
        self._connection = self._connect_to(plan)
        self._quarantine = Quarantine(plan.database, monotonic)
        self._outage = Outage(plan.database, monotonic)
        self._results = Results(plan, self._schedule, monotonic, wall)
        self.first_poll_done = threading.Event()
        self.watch: WatchTimes | None = None
        self.snapshot = build_empty_snapshot(plan)
        self._schedule.configure((query.name, query.interval_s) for query in plan.queries)

    def request_stop(self) -> None:
        """End the query under way, too."""
        super().request_stop()
        self._connection.abort()

    @property
    def stuck_after_s(self) -> float:
        """As long as the slowest query may take, whatever the database does, and some more."""
        slowest_s = max((query.timeout_s for query in self._plan.queries), default=0.0)
        return STUCK_AFTER_S + slowest_s

    def _run_once(self) -> float:
        """Poll what is due."""
        if not self._outage.pause_s():
            self._poll(self._schedule.take_due())
        return self._pause_s()

    def _on_defect(self) -> float:
        """A defect of ours must not pass for a calm database."""
        log.exception("poller failed", database=self.name)
        self._on_unavailable(DatabaseUnavailable("the poller failed", Reason.OTHER), ())
        return self._pause_s()

    def _close(self) -> None:
        self._connection.close()

    def _pause_s(self) -> float:
        """Seconds until there is something to do; short enough to notice a clock that was set."""
        return min(self._outage.pause_s() or self._schedule.idle_s(), LONGEST_PAUSE_S)

    def _on_new_plan(self, old: Plan) -> None:
        plan = self._plan
        if plan == old:  # a reload that changed other databases
            return
        if (plan.dsn, plan.connect_timeout_s) != (old.dsn, old.connect_timeout_s):
            self._connection.close()
            self._connection = self._connect_to(plan)
            if self._stopping.is_set():  # asked to stop while the old connection was there
                self._connection.abort()
        self._outage.clear()
        self._quarantine.clear()
        self._schedule.configure((query.name, query.interval_s) for query in plan.queries)
        self._publish(self._results.apply(plan, self.snapshot))

    def _poll(self, due: frozenset[str]) -> None:
        """Run what is due and publish what came of it."""
        queries = tuple(query for query in self._plan.queries if query.name in due)
        shared = tuple(query for query in queries if not self._quarantine.holds(query.name))
        for _ in range(MOST_LOSSES_PER_POLL):
            if not shared:
                break
            poll = self._ask(shared)
            if poll is None:
                return
            if poll.lost is None:
                break
            # What came before it stands; what comes behind it is asked again, without it.
            shared = tuple(
                outcome.query
                for outcome in poll.outcomes
                if outcome.error is not None and _was_not_asked(outcome, poll)
            )
        else:
            if shared:
                self._back_off(DatabaseUnavailable("the connection is lost again and again"))
                return
        for query in queries:
            apart = self._quarantine.holds(query.name) and self._quarantine.is_due(query.name)
            if apart and (self._stopping.is_set() or self._ask((query,)) is None):
                return

    def _ask(self, queries: Sequence[Query]) -> Poll | None:
        """Run queries in one poll and publish what came of it; None where there was none."""
        requests = [self._results.request(query) for query in queries]
        try:
            poll = self._connection.poll(requests, self._plan.needs, self._plan.parameters)
        except DatabaseUnavailable as error:
            self._on_unavailable(error, queries)
            return None
        if self._stopping.is_set():
            return None
        self._outage.end()
        updates = {
            outcome.query.name: self._results.judge(
                self._result(outcome.query.name), outcome, poll.began_at
            )
            for outcome in poll.outcomes
            if not _was_not_asked(outcome, poll)
        }
        for outcome in poll.outcomes:
            if outcome.error is None:
                self._quarantine.succeed(outcome.query.name)
        if poll.lost is not None and poll.lost_at is not None:
            interval_s = self._schedule.interval_s(poll.lost_at)
            self._quarantine.lose(poll.lost_at, interval_s, poll.lost)
        self.watch = poll.watch
        self._publish(self._next_snapshot(poll, updates))
        self.first_poll_done.set()
        return poll

    def _on_unavailable(self, error: DatabaseUnavailable, queries: Sequence[Query]) -> None:
        """Note that the database could not be asked."""
        if self._stopping.is_set():
            return
        names = {query.name for query in queries}
        results = tuple(
            count_failure(result, error.reason) if result.query in names else result
            for result in self.snapshot.results
        )
        self._publish(replace(self.snapshot, up=False, results=results))
        self._back_off(error)
        self.first_poll_done.set()

    def _back_off(self, error: DatabaseUnavailable) -> None:
        """Wait before the next attempt, at most one interval, which then asks for everything."""
        if self.snapshot.up:
            self._publish(replace(self.snapshot, up=False))
        self._outage.fail(error, self._plan.shortest_interval_s)
        self._schedule.make_all_due()

    def _next_snapshot(self, poll: Poll, updates: Mapping[str, QueryResult]) -> Snapshot:
        """The snapshot after a poll that reached the database."""
        return replace(
            self.snapshot,
            up=True,
            up_until=self._monotonic() + self._plan.up_for_s,
            clock_skew_s=poll.clock_skew_s,
            in_recovery=poll.in_recovery,
            hidden=poll.hidden,
            reopened=self.snapshot.reopened + poll.reopened,
            results=tuple(updates.get(r.query, r) for r in self.snapshot.results),
        )

    def _publish(self, snapshot: Snapshot) -> None:
        """Make a snapshot the latest, by one assignment, and say so."""
        self.snapshot = snapshot
        self._on_change()

    def _result(self, name: str) -> QueryResult:
        """The result of a query so far."""
        return next(r for r in self.snapshot.results if r.query == name)

    def _connect_to(self, plan: Plan) -> Connection:
        """A connection for that plan, not yet open."""
        return Connection(
            plan.dsn, connect_timeout_s=plan.connect_timeout_s, on_step=self._note_step
        )


def _was_not_asked(outcome: Outcome, poll: Poll) -> bool:
    """Whether the connection was gone by the time of a query."""
    return isinstance(outcome.error, DatabaseUnavailable) and outcome.query.name != poll.lost_at
