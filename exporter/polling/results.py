"""What the runs of one database's queries have come to: the results that its snapshot shows."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace

import structlog

from exporter.catalogue import Query
from exporter.database import Outcome, QueryRequest
from exporter.errors import DatabaseError, DatabaseUnavailable, Reason
from exporter.metrics.events import EventCounter
from exporter.metrics.snapshot import Family, QueryResult, Snapshot, build_families
from exporter.polling.plan import FRESH_INTERVALS, Plan
from exporter.polling.schedule import Schedule

log = structlog.get_logger("chatqueue.poller")


class Results:
    """Turns the outcomes of runs into results; a change for better or worse is logged once.

    Args:
        plan: With the queries; `apply` replaces it.
        schedule: Told what each run cost.
        monotonic: Clock for freshness.
        wall: Unix time for timestamps.

    Attributes:
        counters: By the name of their query; those of events only.
    """

    def __init__(
        self,
        plan: Plan,
        schedule: Schedule,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._plan = plan
        self._schedule = schedule
        self._monotonic = monotonic
        self._wall = wall
        self._failing: dict[str, Reason] = {}
        self.counters: dict[str, EventCounter] = {}
        self._renew_counters(plan)

    def apply(self, plan: Plan, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot under a new plan; what means the same as before goes on."""
        metrics = {query.name: query.metrics for query in self._plan.queries}
        results = {result.query: result for result in snapshot.results}
        self._plan = plan
        self._renew_counters(plan)
        return replace(
            snapshot,
            labels=plan.labels,
            thresholds=plan.thresholds,
            results=tuple(
                replace(results[query.name], interval_s=query.interval_s)
                if metrics.get(query.name) == query.metrics
                else _never_run(query, results.get(query.name))
                for query in plan.queries
            ),
        )

    def request(self, query: Query) -> QueryRequest:
        """Return a query with what it is to be asked with now."""
        return QueryRequest(query, self.counters[query.name].parameters() if query.events else {})

    def judge(
        self, before: QueryResult, outcome: Outcome, began_at: datetime.datetime
    ) -> QueryResult:
        """Return what one outcome makes of a query's result so far.

        `began_at` is the database's time at the start of the transaction.
        """
        query, error = outcome.query, outcome.error
        families: tuple[Family, ...] = ()
        if error is None:
            try:
                families = self._build(outcome, began_at)
            except DatabaseError as mismatch:
                error = mismatch
        # What a lock or a lost connection took says nothing of the query's own cost.
        if error is None or error.reason is Reason.TIMEOUT:
            self._weigh(query, outcome.duration_s)
        interval_s = self._schedule.interval_s(query.name)
        if error is not None:
            self._log_failure(query, error)
            failed = count_failure(before, error.reason)
            return replace(failed, duration_s=outcome.duration_s, interval_s=interval_s)
        self._log_success(outcome)
        return replace(
            before,
            families=families,
            success=True,
            last_success_s=self._wall(),
            expires_at=self._monotonic() + (query.max_age_s or FRESH_INTERVALS * interval_s),
            duration_s=outcome.duration_s,
            rows=len(outcome.rows),
            interval_s=interval_s,
        )

    def _build(self, outcome: Outcome, began_at: datetime.datetime) -> tuple[Family, ...]:
        """The families of a success."""
        if outcome.query.events is None:
            return build_families(outcome.query, outcome.columns, outcome.rows)
        counter = self.counters[outcome.query.name]
        return counter.absorb(outcome.columns, outcome.rows, began_at)

    def _weigh(self, query: Query, duration_s: float) -> None:
        """Fit the query's interval to what it costs."""
        if self._schedule.weigh(query.name, duration_s):
            interval_s = self._schedule.interval_s(query.name)
            log.warning(
                "query costs too much for its interval"
                if interval_s > query.interval_s
                else "query is back at its interval",
                database=self._plan.database,
                query=query.name,
                duration_s=round(duration_s, 3),
                interval_s=round(interval_s, 3),
            )

    def _log_failure(self, query: Query, error: DatabaseError) -> None:
        """Log once that a query fails, and why; repetition is what the counter is for."""
        if isinstance(error, DatabaseUnavailable) or self._failing.get(query.name) == error.reason:
            return
        self._failing[query.name] = error.reason
        log.warning(
            "query failed",
            database=self._plan.database,
            query=query.name,
            reason=str(error.reason),
            error=str(error),
        )

    def _log_success(self, outcome: Outcome) -> None:
        database, query = self._plan.database, outcome.query.name
        if self._failing.pop(query, None):
            log.info("query works again", database=database, query=query)
        log.debug(
            "query done",
            database=database,
            query=query,
            rows=len(outcome.rows),
            duration_s=round(outcome.duration_s, 6),
        )

    def _renew_counters(self, plan: Plan) -> None:
        """A counter for each query of events; one that counts the same things goes on."""
        overlap_s = float(plan.parameters.get("event_overlap", 0.0))
        before, self.counters = self.counters, {}
        for query in plan.queries:
            if query.events is None:
                continue
            counter = before.get(query.name)
            if counter is None or not counter.counts_like(query):
                counter = EventCounter(query, overlap_s)
            counter.query, counter.overlap_s = query, overlap_s
            self.counters[query.name] = counter


def build_empty_snapshot(plan: Plan) -> Snapshot:
    """Return what is known before the first poll."""
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


def count_failure(result: QueryResult, reason: Reason) -> QueryResult:
    """Return the result with one more failure."""
    errors = {**result.errors, reason: result.errors.get(reason, 0) + 1}
    return replace(result, errors=errors, success=False)


def _never_run(query: Query, before: QueryResult | None = None) -> QueryResult:
    """A query's result before its first run; counters go on where there was one of the name."""
    return QueryResult(
        query=query.name,
        families=(),
        success=False,
        last_success_s=before.last_success_s if before else 0.0,
        expires_at=0.0,
        interval_s=query.interval_s,
        duration_s=0.0,
        rows=0,
        errors=before.errors if before else {},
    )
