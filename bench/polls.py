"""What a poll costs the database: the daemon's own connection asks, a clock of ours watches.

Times are the client's, from asking to the last row, over a loopback connection, so they hold a
little more than the server's execution. The embedded PostgreSQL has no pg_stat_statements; the
server's own view is EXPLAIN (ANALYZE, BUFFERS), whose plans are kept for a person to read.
"""

from __future__ import annotations

import datetime
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from bench.dataset import Dataset
from exporter.catalogue import Query
from exporter.config import load_config
from exporter.database import Connection, QueryRequest
from exporter.metrics.events import EventCounter
from exporter.polling.plan import Plan, build_plans

FREQUENT_S = 15.0
WARM_UPS = 3

# The three calls the ops team used to type by hand.
PLATFORM_CALLS: tuple[tuple[str, LiteralString], ...] = (
    ("chat_state_summary", "SELECT * FROM public.chat_state_summary"),
    ("get_assignment_queue_status()", "SELECT * FROM public.get_assignment_queue_status()"),
    ("detect_stuck_chats(1)", "SELECT * FROM public.detect_stuck_chats(1)"),
)
# As the daemon sets them for every poll.
_SETTINGS: LiteralString = (
    "SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0;"
    " SET LOCAL statement_timeout = 0"
)
_LARGE_SCAN = re.compile(r"Seq Scan on (chats|messages|chat_assignments)\b")
_BUFFERS = re.compile(r"Buffers: shared hit=(\d+)(?: read=(\d+))?")
_EXECUTION = re.compile(r"Execution Time: ([\d.]+) ms")


@dataclass(frozen=True, slots=True)
class QueryCost:
    """One built-in query on one data set.

    Attributes:
        name: Query.
        interval_s: How often it runs.
        client_s: Median from asking to the last row; until it failed where it did.
        problem: Why it failed, and is left out of the polls from then on; empty where it works.
        server_s: Execution time by EXPLAIN ANALYZE, which itself costs; one run.
        pages: Pages of 8 KiB it touched.
        scans: Large tables it reads whole.
    """

    name: str
    interval_s: float
    client_s: float
    problem: str
    server_s: float
    pages: int
    scans: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PollCost:
    """What watching one data set costs its database.

    Attributes:
        dataset: What was asked.
        queries: Each built-in query, the frequent ones first.
        empty_poll_s: Median of a poll without queries: BEGIN, probe, COMMIT.
        frequent_poll_s: Median of a whole 15 s poll: BEGIN, probe, queries, COMMIT.
        rare_poll_s: The same of the 60 s queries alone.
        calls: The platform's own calls and their execution times.
    """

    dataset: Dataset
    queries: tuple[QueryCost, ...]
    empty_poll_s: float
    frequent_poll_s: float
    rare_poll_s: float
    calls: tuple[tuple[str, float], ...]

    @property
    def frequent_s(self) -> float:
        """Sum of the 15 s queries."""
        return sum(q.client_s for q in self.queries if q.interval_s <= FREQUENT_S)

    @property
    def rare_s(self) -> float:
        """Sum of the 60 s queries."""
        return sum(q.client_s for q in self.queries if q.interval_s > FREQUENT_S)

    @property
    def calls_s(self) -> float:
        """Sum of the platform's calls."""
        return sum(seconds for _, seconds in self.calls)


def measure_polls(dataset: Dataset, runs: int, work_dir: Path, plans_dir: Path) -> PollCost:
    """Poll a data set as the daemon does, and keep every plan.

    Args:
        dataset: Warm or not; it is warmed here.
        runs: Polls to take the median of; the 60 s queries and the platform's calls at most 10.
        work_dir: For the daemon's configuration.
        plans_dir: Gets one file a query and size.
    """
    plan = load_plan(dataset.dsn, work_dir)
    frequent = [q for q in plan.queries if q.interval_s <= FREQUENT_S]
    rare_queries = [q for q in plan.queries if q.interval_s > FREQUENT_S]
    connection = Connection(plan.dsn)
    try:
        problems: dict[str, str] = {}
        empty_poll_s, _ = poll_often(connection, plan, (), runs, problems)
        frequent_poll_s, medians = poll_often(connection, plan, frequent, runs, problems)
        rare_poll_s, rare = poll_often(connection, plan, rare_queries, min(runs, 10), problems)
    finally:
        connection.close()
    medians |= rare
    with psycopg.connect(dataset.dsn) as session:
        costs = tuple(
            _explain(
                *(session, plan, query, medians[query.name], problems.get(query.name, "")),
                plans_dir / f"{query.name}-{dataset.shape.chats}.txt",
            )
            for query in (*frequent, *rare_queries)
        )
        calls = tuple(
            (name, _time_call(session, call, min(runs, 10))) for name, call in PLATFORM_CALLS
        )
    return PollCost(dataset, costs, empty_poll_s, frequent_poll_s, rare_poll_s, calls)


def load_plan(dsn: str, work_dir: Path) -> Plan:
    """Return the plan the daemon would follow with a default configuration."""
    config_file = work_dir / "polls.yaml"
    config_file.write_text(f"databases:\n  bench: {{dsn: '{dsn}'}}\n")
    return build_plans(load_config(config_file, {}))["bench"]


def poll_often(
    connection: Connection,
    plan: Plan,
    queries: Sequence[Query],
    runs: int,
    problems: dict[str, str],
) -> tuple[float, dict[str, float]]:
    """Medians of the whole poll and of each query; adds what fails to `problems`."""
    walls: list[float] = []
    times: dict[str, list[float]] = {query.name: [] for query in queries}
    overlap_s = plan.parameters["event_overlap"]
    counters = {q.name: EventCounter(q, overlap_s) for q in queries if q.events is not None}
    while len(walls) < WARM_UPS + runs:
        working = [query for query in queries if query.name not in problems]
        asks = [
            QueryRequest(query, counters[query.name].parameters() if query.events else {})
            for query in working
        ]
        started = time.perf_counter()
        poll = connection.poll(asks, plan.needs, plan.parameters)
        wall = time.perf_counter() - started
        for outcome in poll.outcomes:
            if outcome.query.name in counters and outcome.error is None:
                counters[outcome.query.name].absorb(outcome.columns, outcome.rows, poll.began_at)
        failed = {o.query.name: str(o.error) for o in poll.outcomes if o.error is not None}
        for outcome in poll.outcomes:
            if outcome.query.name in failed:
                times[outcome.query.name] = [outcome.duration_s]
            elif not failed:
                times[outcome.query.name].append(outcome.duration_s)
        problems |= failed
        if not failed:
            walls.append(wall)
    return (
        statistics.median(walls[WARM_UPS:]),
        {name: statistics.median(taken[-runs:]) for name, taken in times.items()},
    )


def _explain(
    session: psycopg.Connection[Any],
    plan: Plan,
    query: Query,
    client_s: float,
    problem: str,
    plan_file: Path,
) -> QueryCost:
    """Keep the plan of a query and read from it what it touched."""
    # Of events, those of the last three polls.
    recent = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=45)
    known = {**plan.parameters, "since": recent, "seen": [], "pending": []}
    values = {name: known[name] for name in query.parameters}
    text = _explain_text(session, "EXPLAIN (ANALYZE, BUFFERS) " + query.sql, values or None)
    plan_file.parent.mkdir(parents=True, exist_ok=True)
    plan_file.write_text(text + "\n")
    execution, buffers = _EXECUTION.search(text), _BUFFERS.search(text)
    scans = tuple(dict.fromkeys(_LARGE_SCAN.findall(text)))
    if "Function Scan on detect_stuck_chats" in text or "Function Scan on get_assig" in text:
        scans = ("chats",)  # inside the function, where EXPLAIN does not look
    return QueryCost(
        query.name,
        query.interval_s,
        client_s,
        problem,
        float(execution[1]) / 1000 if execution else 0.0,
        sum(int(count or 0) for count in buffers.groups()) if buffers else 0,
        scans,
    )


def _time_call(session: psycopg.Connection[Any], call: LiteralString, runs: int) -> float:
    """Median execution time on the server; the rows are made but not sent."""
    times: list[float] = []
    for _ in range(1 + runs):
        text = _explain_text(session, "EXPLAIN (ANALYZE, TIMING OFF) " + call, None)
        execution = _EXECUTION.search(text)
        assert execution is not None
        times.append(float(execution[1]) / 1000)
    return statistics.median(times[1:])


def _explain_text(session: psycopg.Connection[Any], statement: str, values: Any) -> str:
    """The plan as text, under the daemon's settings."""
    with session.transaction(force_rollback=True):
        session.execute(_SETTINGS)
        rows = session.execute(statement.encode(), values).fetchall()
    return "\n".join(row[0] for row in rows)
