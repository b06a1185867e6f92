"""One worker a database: when to ask, what came of it, and the latest snapshot.

A worker is a thread of its own with a scheduler and a connection of its own, so that a database
that hangs or dies delays no other. It survives every error of the database; each is logged when the
state changes and counted each time.
"""

from __future__ import annotations

import datetime
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from exporter.catalogue import Need, Query
from exporter.database import Connection, Outcome, Poll, QueryRequest
from exporter.errors import DatabaseError, DatabaseUnavailable, Reason
from exporter.metrics.events import EventCounter, first_values
from exporter.metrics.snapshot import Family, Labels, QueryResult, Snapshot, build_families
from exporter.polling.quarantine import Quarantine
from exporter.polling.schedule import Schedule
from exporter.threads import PeriodicThread

log = structlog.get_logger("chatqueue.poller")

FIRST_RETRY_S = 0.25
# Beyond a query's own limit, a step may take this long before its worker counts as stuck.
STUCK_AFTER_S = 60.0
LONGEST_PAUSE_S = 15.0
FRESH_INTERVALS = 3.0
# Losses of the connection at one query after another before the database itself is given up.
MOST_LOSSES_A_TURN = 3
# Different texts that one outage may put into the log.
MOST_TEXTS = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker is to do; a reload replaces it whole.

    Attributes:
        database: Name in the configuration.
        dsn: libpq connection string, with its password; kept out of repr.
        labels: Extra labels of the database.
        connect_timeout_s: For each host of the connection string.
        queries: The catalogue.
        parameters: Values for the queries' `%(name)s`.
        thresholds: The thresholds as families.
    """

    database: str
    dsn: str
    labels: Labels
    connect_timeout_s: float
    queries: tuple[Query, ...]
    parameters: Mapping[str, Any]
    thresholds: tuple[Family, ...]

    def __repr__(self) -> str:
        return f"Plan(database={self.database!r})"

    @property
    def needs(self) -> tuple[Need, ...]:
        """Every need of every query, each once."""
        return tuple(dict.fromkeys(need for query in self.queries for need in query.needs))

    @property
    def up_for_s(self) -> float:
        """Seconds for which an answer speaks for the database.

        The next poll may take as long as all its queries may together, and says more then.
        """
        longest_poll_s = sum(query.timeout_s for query in self.queries)
        return FRESH_INTERVALS * self.shortest_interval_s + longest_poll_s

    @property
    def first_requests(self) -> tuple[QueryRequest, ...]:
        """Every query as it is asked the first time."""
        return tuple(QueryRequest(query, first_values(query)) for query in self.queries)

    @property
    def shortest_interval_s(self) -> float:
        """Seconds between the runs of the most frequent query."""
        return min((query.interval_s for query in self.queries), default=15.0)


class Worker(PeriodicThread[Plan]):
    """Polls one database until stopped, in mid-query too.

    Args:
        plan: What to do.
        on_change: Called from the worker's thread after each new snapshot.
        monotonic: Clock for freshness.
        wall: Unix time for timestamps.
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
        self._wall = wall
        self._schedule = Schedule()
        self._random = random.Random()  # noqa: S311 - jitter
        self._connection = self._connect_to(plan)
        self._quarantine = Quarantine(monotonic)
        self._outage: _Outage | None = None
        self._retry_at = 0.0
        self._failing: dict[str, Reason] = {}
        self._counters = _counters(plan)
        self.first_poll_done = threading.Event()
        self.snapshot = self._empty_snapshot(plan)
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
        if self._monotonic() >= self._retry_at:
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
        now = self._monotonic()
        idle_s = self._retry_at - now if now < self._retry_at else self._schedule.idle_s()
        return min(idle_s, LONGEST_PAUSE_S)

    def _on_new_plan(self, old: Plan) -> None:
        plan = self._plan
        if (plan.dsn, plan.connect_timeout_s) != (old.dsn, old.connect_timeout_s):
            self._connection.close()
            self._connection = self._connect_to(plan)
            if self._stopping.is_set():  # asked to stop while the old connection was there
                self._connection.abort()
        self._outage, self._retry_at = None, 0.0
        self._quarantine.clear()
        self._schedule.configure((query.name, query.interval_s) for query in plan.queries)
        known = {result.query: result for result in self.snapshot.results}
        metrics = {query.name: query.metrics for query in old.queries}
        self._counters = _counters(plan, self._counters)
        self._publish(
            replace(
                self.snapshot,
                labels=plan.labels,
                thresholds=plan.thresholds,
                results=tuple(
                    replace(known[query.name], interval_s=query.interval_s)
                    if metrics.get(query.name) == query.metrics
                    else _never_run(query, known.get(query.name))
                    for query in plan.queries
                ),
            )
        )

    def _poll(self, due: frozenset[str]) -> None:
        """Run what is due and publish what came of it."""
        queries = tuple(query for query in self._plan.queries if query.name in due)
        shared = tuple(query for query in queries if not self._quarantine.holds(query.name))
        for _ in range(MOST_LOSSES_A_TURN):
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
        requests = [
            QueryRequest(query, self._counters[query.name].parameters() if query.events else {})
            for query in queries
        ]
        try:
            poll = self._connection.poll(requests, self._plan.needs, self._plan.parameters)
        except DatabaseUnavailable as error:
            self._on_unavailable(error, queries)
            return None
        if self._stopping.is_set():
            return None
        self._end_outage()
        updates = {
            outcome.query.name: self._judge(outcome, poll.began_at)
            for outcome in poll.outcomes
            if not _was_not_asked(outcome, poll)
        }
        for outcome in poll.outcomes:
            if outcome.error is None and self._quarantine.succeed(outcome.query.name):
                log.info("query is back", database=self.name, query=outcome.query.name)
        if poll.lost is not None and poll.lost_at is not None:
            self._suspect(poll.lost_at, poll.lost)
        self._publish(self._next_snapshot(poll, updates))
        self.first_poll_done.set()
        return poll

    def _suspect(self, name: str, lost: DatabaseUnavailable) -> None:
        """Let the query at which the connection was lost run apart from now on."""
        if self._quarantine.lose(name, self._schedule.interval_s(name)):
            log.warning(
                "connection lost at a query, which runs apart until it has succeeded",
                database=self.name,
                query=name,
                reason=str(lost.reason),
                error=str(lost),
            )

    def _judge(self, outcome: Outcome, began_at: datetime.datetime) -> QueryResult:
        """What one outcome makes of what was known of its query."""
        query = outcome.query
        known = self._result(query)
        error = outcome.error
        families: tuple[Family, ...] = ()
        if error is None:
            try:
                if query.events is None:
                    families = build_families(query, outcome.columns, outcome.rows)
                else:
                    counter = self._counters[query.name]
                    families = counter.absorb(outcome.columns, outcome.rows, began_at)
            except DatabaseError as mismatch:
                error = mismatch
        # What a lock or a lost connection took says nothing of the query's own cost.
        has_cost = error is None or error.reason is Reason.TIMEOUT
        if has_cost and self._schedule.weigh(query.name, outcome.duration_s):
            log.warning(
                "query costs too much for its interval"
                if self._schedule.interval_s(query.name) > query.interval_s
                else "query is back at its interval",
                database=self.name,
                query=query.name,
                duration_s=round(outcome.duration_s, 3),
                interval_s=round(self._schedule.interval_s(query.name), 3),
            )
        interval_s = self._schedule.interval_s(query.name)
        if error is not None:
            self._log_failure(query, error)
            return replace(
                _count(known, error.reason),
                success=False,
                duration_s=outcome.duration_s,
                interval_s=interval_s,
            )
        if self._failing.pop(query.name, None):
            log.info("query works again", database=self.name, query=query.name)
        log.debug(
            "query done",
            database=self.name,
            query=query.name,
            rows=len(outcome.rows),
            duration_s=round(outcome.duration_s, 6),
        )
        return replace(
            known,
            families=families,
            success=True,
            last_success_s=self._wall(),
            expires_at=self._monotonic() + _max_age_s(query, interval_s),
            duration_s=outcome.duration_s,
            rows=len(outcome.rows),
            interval_s=interval_s,
        )

    def _log_failure(self, query: Query, error: DatabaseError) -> None:
        """Say once that a query fails, and why; repetition is what the counter is for."""
        if isinstance(error, DatabaseUnavailable) or self._failing.get(query.name) == error.reason:
            return
        self._failing[query.name] = error.reason
        log.warning(
            "query failed",
            database=self.name,
            query=query.name,
            reason=str(error.reason),
            error=str(error),
        )

    def _on_unavailable(self, error: DatabaseUnavailable, queries: Sequence[Query]) -> None:
        """Note that the database could not be asked."""
        if self._stopping.is_set():
            return
        results = {
            query.name: replace(_count(self._result(query), error.reason), success=False)
            for query in queries
        }
        self._publish(
            replace(
                self.snapshot,
                up=False,
                results=tuple(results.get(r.query, r) for r in self.snapshot.results),
            )
        )
        self._back_off(error)
        self.first_poll_done.set()

    def _back_off(self, error: DatabaseUnavailable) -> None:
        """Wait before the next attempt: exponential with full jitter, at most one interval."""
        outage = self._outage = self._outage or _Outage(self._monotonic())
        outage.failures += 1
        outage.error = error
        text = (error.reason, str(error))
        if text not in outage.logged and len(outage.logged) < MOST_TEXTS:
            outage.logged.add(text)
            log.error(
                "database is unavailable",
                database=self.name,
                reason=str(error.reason),
                error=str(error),
            )
        if self.snapshot.up:
            self._publish(replace(self.snapshot, up=False))
        cap_s = self._plan.shortest_interval_s
        ceiling_s = min(cap_s, FIRST_RETRY_S * 2.0 ** min(outage.failures, 16))
        self._retry_at = self._monotonic() + self._random.uniform(ceiling_s / 2, ceiling_s)
        self._schedule.make_all_due()

    def _end_outage(self) -> None:
        """Note that the database answers."""
        outage, self._outage, self._retry_at = self._outage, None, 0.0
        if outage is not None:
            log.info(
                "database is back",
                database=self.name,
                failures=outage.failures,
                unavailable_s=round(self._monotonic() - outage.since, 3),
                reason=str(outage.error.reason),
                error=str(outage.error),
            )

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

    def _result(self, query: Query) -> QueryResult:
        """What is known of a query."""
        return next(r for r in self.snapshot.results if r.query == query.name)

    def _connect_to(self, plan: Plan) -> Connection:
        """A connection for that plan, not yet open."""
        return Connection(
            plan.dsn, connect_timeout_s=plan.connect_timeout_s, on_step=self._note_step
        )

    def _empty_snapshot(self, plan: Plan) -> Snapshot:
        """What is known before the first poll."""
        relations = dict.fromkeys(n.name for n in plan.needs if n.kind == "relation")
        return Snapshot(
            database=plan.database,
            labels=plan.labels,
            up=False,
            up_until=0.0,
            clock_skew_s=None,
            in_recovery=None,
            hidden=tuple((relation, False) for relation in relations),
            results=tuple(_never_run(query) for query in plan.queries),
            thresholds=plan.thresholds,
        )


@dataclass(slots=True)
class _Outage:
    """A time in which the database cannot be asked.

    Attributes:
        since: Monotonic time of its beginning.
        failures: Attempts that failed.
        error: Why the latest one did.
        logged: What is in the log already.
    """

    since: float
    failures: int = 0
    error: DatabaseUnavailable = field(default_factory=lambda: DatabaseUnavailable("unknown"))
    logged: set[tuple[Reason, str]] = field(default_factory=set)


def _was_not_asked(outcome: Outcome, poll: Poll) -> bool:
    """Whether the connection was gone by the time of a query."""
    return isinstance(outcome.error, DatabaseUnavailable) and outcome.query.name != poll.lost_at


def _counters(
    plan: Plan, known: Mapping[str, EventCounter] | None = None
) -> dict[str, EventCounter]:
    """A counter for each query of events; one that counts the same things goes on."""
    overlap_s = float(plan.parameters.get("event_overlap", 0.0))
    counters = {}
    for query in plan.queries:
        if query.events is None:
            continue
        counter = (known or {}).get(query.name)
        if counter is None or not counter.counts_like(query):
            counter = EventCounter(query, overlap_s)
        counter.query, counter.overlap_s = query, overlap_s
        counters[query.name] = counter
    return counters


def _never_run(query: Query, known: QueryResult | None = None) -> QueryResult:
    """A query's result before its first run; counters go on where there was one of the name."""
    return QueryResult(
        query=query.name,
        families=(),
        success=False,
        last_success_s=known.last_success_s if known else 0.0,
        expires_at=0.0,
        interval_s=query.interval_s,
        duration_s=0.0,
        rows=0,
        errors=known.errors if known else dict.fromkeys(Reason, 0),
    )


def _count(result: QueryResult, reason: Reason) -> QueryResult:
    """The result with one more failure."""
    return replace(result, errors={**result.errors, reason: result.errors[reason] + 1})


def _max_age_s(query: Query, interval_s: float) -> float:
    """How long a success of the query may be shown."""
    return query.max_age_s or FRESH_INTERVALS * interval_s
