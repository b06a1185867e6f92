"""Queries over the same facts in one statement: as good as each alone, and each fails alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.catalogue import Need, Query, load_catalogue
from exporter.config import Poll
from exporter.database import Connection, QueryRequest
from exporter.errors import DatabaseUnavailable, QueryFailed, Reason
from exporter.metrics.snapshot import build_families
from tests.servers import Platform

ALL = ("ages", "faulty", "kinds", "none")
STATEMENTS = {
    "ages": "SELECT sum(n) AS v FROM rows",
    "faulty": "SELECT 6 / (count(*) - %(a)s::integer) AS v FROM rows",
    "kinds": (
        "SELECT * FROM (VALUES ('nan', 'NaN'::float8, 'x%%'), ('inf', '-Infinity', 'y'),"
        " ('big', 9007199254740993, 'NaN'), ('small', 1e-300, NULL), ('true', 0.1, 'z'))"
        " AS k (kind, v, asked) WHERE %(a)s::integer IS NOT NULL"
    ),
    "none": "SELECT n AS v FROM rows WHERE n > 9",
}


def load(folder: Path) -> dict[str, Query]:
    (folder / "facts").mkdir()
    (folder / "facts" / "rows.sql").write_text("SELECT g AS n FROM generate_series(1, 3) AS g")
    (folder / "facts" / "rows.yaml").write_text("needs: []\n")
    for name, statement in STATEMENTS.items():
        (folder / f"{name}.sql").write_text(statement)
        label = "labels: {k: {column: kind}}\n" if name == "kinds" else ""
        labels = ", labels: [k]" if label else ""
        (folder / f"{name}.yaml").write_text(
            f"facts: rows\n{label}metrics:\n"
            f"- {{name: {name}, type: gauge, help: H., value: v{labels}}}\n"
        )
    queries = load_catalogue([folder], poll=Poll(), overrides={}, parameters={"a"})
    return {query.name: query for query in queries}


def figures(queries: list[Query], connection: Connection, a: int) -> dict[str, object]:
    poll = connection.poll([QueryRequest(query, {}) for query in queries], (), {"a": a})
    return {
        outcome.query.name: [
            (sample.labels, "nan" if math.isnan(sample.value) else sample.value)
            for family in build_families(outcome.query, outcome.columns, outcome.rows)
            for sample in family.samples
        ]
        if outcome.error is None
        else outcome.error
        for outcome in poll.outcomes
    }


def test_one_statement_gives_what_each_gives_alone(platform: Platform, tmp_path: Path) -> None:
    queries = list(load(tmp_path).values())
    connection = Connection(platform.dsn)

    together = figures(queries, connection, 1)
    alone = [figures([query], connection, 1) for query in queries]

    connection.close()
    assert [{name: value} for name, value in together.items()] == alone


def test_a_faulty_one_takes_nothing_else_with_it(platform: Platform, tmp_path: Path) -> None:
    queries = list(load(tmp_path).values())
    connection = Connection(platform.dsn)

    for a, fails in ((3, True), (3, True), (1, False), (3, True)):
        seen = figures(queries, connection, a)
        failed = {name for name, v in seen.items() if isinstance(v, QueryFailed)}
        assert failed == ({"faulty"} if fails else set())
        assert (connection._apart == {"rows"}) == fails

    connection.close()


def test_a_need_that_is_missing_takes_its_own_query(platform: Platform, tmp_path: Path) -> None:
    queries = load(tmp_path)
    need = Need("relation", "public.nowhere")
    queries["none"] = replace(queries["none"], needs=(need,))
    connection = Connection(platform.dsn)

    poll = connection.poll(
        [QueryRequest(query, {}) for query in queries.values()], (need,), {"a": 1}
    )

    connection.close()
    errors = {o.query.name: o.error for o in poll.outcomes if o.error is not None}
    assert {name: getattr(e, "reason", None) for name, e in errors.items()} == {
        "none": Reason.MISSING
    }


@pytest.mark.newest
def test_the_one_that_ends_the_connection_is_found(platform: Platform, tmp_path: Path) -> None:
    queries = load(tmp_path)
    kill = "SELECT pg_terminate_backend(pg_backend_pid())::int AS v"
    queries["faulty"] = replace(queries["faulty"], sql=kill, own_sql=kill, parameters=())
    requests = [QueryRequest(query, {}) for query in queries.values()]
    connection = Connection(platform.dsn)

    first = connection.poll(requests, (), {"a": 1})
    second = connection.poll(requests, (), {"a": 1})

    connection.close()
    assert isinstance(first.lost, DatabaseUnavailable)
    assert (first.lost_at, second.lost_at) == (None, "faulty")
