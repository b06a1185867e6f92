"""What the tests of the built-in queries share: a stopped clock, and a whole poll as plain data."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from exporter.config import load_config
from exporter.database import Connection, Poll, QueryRequest
from exporter.metrics.snapshot import Family, build_families, merge_families
from exporter.polling.plan import Plan, build_plans
from tests.servers import Platform

NOW_S = 1_795_000_000.25
"""Unix time at which the clock of `stop_clock` stands."""

STATES = ("waiting_assignment", "assigned", "waiting_real_user_reply", "completed", "unknown")
CLOCKED = ("waiting_assignment", "assigned", "waiting_real_user_reply", "unknown")
LIMITS_S = (15, 30, 60, 120, 300, 600, 1200, 3600, 14400, 86400)
QUERIES = {
    "customer_wait",
    "idle_detector",
    "operator_load",
    "operators",
    "queue_status",
    "reply_clock",
    "state_clock",
    "state_summary",
    "stuck_chats",
}
"""What `test_queries.py` asserts as one whole; all other queries have tests of their own."""

Figures = dict[str, dict[str, float]]


def stop_clock(platform: Platform) -> Platform:
    """Stop `now()` of a test's own database, so that every age is exact.

    A schema before pg_catalog holds the function; the database's own search_path reaches every
    session, those of a pooler too. Columns' defaults and functions with a search_path of their own
    keep the true clock: give times explicitly.
    """
    platform.execute("CREATE SCHEMA stopped")
    platform.execute("GRANT USAGE ON SCHEMA stopped TO PUBLIC")
    move_clock(platform, 0)
    platform.execute(
        f"ALTER DATABASE {platform.database} SET search_path = stopped, pg_catalog, public"
    )
    platform.close()
    assert platform.value("SELECT extract(EPOCH FROM now())::float8") == NOW_S
    return platform


def move_clock(platform: Platform, seconds: float) -> None:
    """Set the stopped clock to that long after `NOW_S`."""
    platform.execute(
        "CREATE OR REPLACE FUNCTION stopped.now() RETURNS timestamptz LANGUAGE sql STABLE"
        f" AS 'SELECT to_timestamp({NOW_S + seconds})'"
    )


@cache
def plan_of(settings: str = "") -> Plan:
    """The plan of a configuration with these further lines of YAML, for `QUERIES` alone."""
    plan = whole_plan_of(settings)
    return replace(plan, queries=tuple(q for q in plan.queries if q.name in QUERIES))


@cache
def whole_plan_of(settings: str = "") -> Plan:
    """The plan of a configuration with one database and these further lines of YAML."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "chatqueue.yaml"
        file.write_text(f"databases: {{main: {{dsn: host=nowhere}}}}\n{settings}")
        return build_plans(load_config(file))["main"]


def poll(dsn: str, settings: str = "") -> Poll:
    """Run the queries once, as the poller does."""
    plan = plan_of(settings)
    connection = Connection(dsn)
    try:
        return connection.poll(
            [QueryRequest(query) for query in plan.queries], plan.needs, plan.parameters
        )
    finally:
        connection.close()


def families_of(result: Poll) -> tuple[Family, ...]:
    """What a poll without a failure shows."""
    assert {o.query.name: str(o.error) for o in result.outcomes if o.error} == {}
    return merge_families(
        family
        for outcome in result.outcomes
        for family in build_families(outcome.query, outcome.columns, outcome.rows)
    )


def plain(families: Iterable[Family]) -> Figures:
    """Samples by metric without its prefix, and by label values."""
    return {
        family.name.removeprefix("chatqueue_"): {
            ",".join(value for _, value in sample.labels): sample.value for sample in family.samples
        }
        for family in families
    }


def by_state(states: Iterable[str], values: Mapping[str, float]) -> dict[str, float]:
    """Those values, and 0 for the other states."""
    assert set(values) <= set(states)
    return {state: values.get(state, 0) for state in states}


def clock_figures(
    ages_s: Mapping[str, Iterable[float]], limits_s: Mapping[str, tuple[float, float]]
) -> Figures:
    """The four metrics of the state clocks, worked out from every chat's true age.

    Args:
        ages_s: By state; a state that is missing is empty.
        limits_s: Warning and critical by state; a state that is missing has none.
    """
    figures: Figures = {
        "state_oldest_age_seconds": {},
        "state_mean_age_seconds": {},
        "state_overdue_chats": {},
        "state_age_chats": {},
    }
    for state in CLOCKED:
        ages = list(ages_s.get(state, ()))
        limits = dict(zip(("warning", "critical"), limits_s.get(state, ()), strict=False))
        figures["state_oldest_age_seconds"][state] = max(ages, default=0)
        figures["state_mean_age_seconds"][state] = sum(ages) / max(len(ages), 1)
        for severity in ("warning", "critical"):
            over = [age for age in ages if age > limits.get(severity, float("inf"))]
            figures["state_overdue_chats"][f"{state},{severity}"] = len(over)
        for limit_s in LIMITS_S:
            at_most = [age for age in ages if age <= limit_s]
            figures["state_age_chats"][f"{state},{limit_s}"] = len(at_most)
        figures["state_age_chats"][f"{state},+Inf"] = len(ages)
    return figures
