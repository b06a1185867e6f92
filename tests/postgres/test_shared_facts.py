"""Queries of the same facts are asked in one statement, and give what each gives alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from exporter.catalogue import Facts, Need, Query
from exporter.catalogue.facts import read_from
from exporter.catalogue.statement import statement_text
from exporter.database import Connection, Outcome, Poll, QueryRequest
from exporter.errors import DatabaseUnavailable, QueryFailed, Reason
from tests.servers import PgBouncer, Platform

# What is drawn is another value in each statement.
DRAWN = "SELECT random() AS drawn, n FROM generate_series(1, 3) AS n WHERE '%%' <> 'x'"


def make_query(
    name: str,
    sql: str,
    *,
    facts: str = DRAWN,
    parameters: tuple[str, ...] = (),
    timeout_s: float = 5.0,
) -> Query:
    query = Query(
        *(name, Path(f"{name}.sql"), statement_text(name, sql), 15.0, timeout_s, None, (), ()),
        max_rows=100,
        parameters=parameters,
    )
    return read_from(query, Facts("drawn", Path("drawn.sql"), facts, (), ()), sql)


def ask(connection: Connection, *queries: Query) -> Poll:
    return connection.poll([QueryRequest(query) for query in queries], (), {"low": 2})


def outcomes_of(dsn: str, *queries: Query) -> list[Outcome]:
    connection = Connection(dsn)
    poll = ask(connection, *queries)
    connection.close()
    return list(poll.outcomes)


def value(outcome: Outcome) -> object:
    assert outcome.error is None, outcome.error
    return outcome.rows[0]["value"]


FIRST = make_query("first", "SELECT max(drawn) AS value FROM drawn")
SECOND = make_query("second", "WITH m AS (SELECT max(drawn) AS value FROM drawn) SELECT * FROM m")
BROKEN = make_query("broken", "SELECT 1 / (count(*) - 3) AS value FROM drawn")


def test_the_facts_are_computed_once_for_all_queries_of_a_poll(platform: Platform) -> None:
    first, second = outcomes_of(platform.dsn, FIRST, SECOND)

    assert value(first) == value(second)


def test_so_they_are_through_a_pooler(platform: Platform, pgbouncer: PgBouncer) -> None:
    connection = Connection(pgbouncer.dsn(platform.database))
    for _ in range(5):
        first, second = ask(connection, FIRST, SECOND).outcomes
    connection.close()

    assert value(first) == value(second)


def test_a_query_that_is_due_alone_computes_them_for_itself(platform: Platform) -> None:
    (first,) = outcomes_of(platform.dsn, FIRST)
    (second,) = outcomes_of(platform.dsn, SECOND)

    assert isinstance(value(first), float)
    assert value(first) != value(second)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'a' AS label, 1.50 AS n, 'NaN'::float8 AS f, 'Infinity'::numeric AS i FROM drawn",
        "SELECT '2026-01-02 03:04Z'::timestamptz AS at, NULL AS nothing FROM drawn",
        "SELECT n::bigint AS b, n > 1 AS c FROM drawn",
        "SELECT DATE '2026-01-02' AS d, '1 day'::interval AS i, '{1,2}'::int[] AS a FROM drawn",
        "SELECT 'a'::name AS a, 'b'::varchar AS b, '{\"x\": 1}'::jsonb AS c, 0.1::real AS r",
        "SELECT n, drawn > 2 AS n FROM drawn ORDER BY 1 DESC LIMIT 2",
        "SELECT n AS kept, n, '100 %' AS text FROM drawn WHERE n > 5",
        "SELECT NULL::int AS a, NULL AS b FROM drawn",
        "SELECT n, '%%' AS escaped FROM drawn WHERE n >= %(low)s",
        # psycopg reads neither type but as text.
        "SELECT 'pg_catalog'::regnamespace AS schema, '5'::money AS money FROM drawn",
    ],
)
def test_values_types_columns_and_order_are_those_of_the_query_alone(
    platform: Platform, sql: str
) -> None:
    parameters = ("low",) if "%(low)s" in sql else ()
    query = make_query("own", sql, parameters=parameters)

    (alone,) = outcomes_of(platform.dsn, query)
    together, _ = outcomes_of(platform.dsn, query, FIRST)

    assert (alone.error, together.error) == (None, None)
    assert together.columns == alone.columns
    # repr tells 1 from True, and NaN is like itself.
    assert repr([*map(dict, together.rows)]) == repr([*map(dict, alone.rows)])


def test_a_query_that_fails_takes_only_itself_and_stays_apart_until_it_works(
    platform: Platform,
) -> None:
    connection = Connection(platform.dsn)
    before = ask(connection, FIRST, BROKEN, SECOND).outcomes
    after = ask(connection, FIRST, BROKEN, SECOND).outcomes
    connection.close()

    for first, broken, second in (before, after):
        assert isinstance(broken.error, QueryFailed)
        assert (str(broken.error), broken.error.reason) == ("division by zero", Reason.OTHER)
        assert isinstance(value(first), float)
        assert isinstance(value(second), float)
    # In the first poll each was asked alone, in the second those that work together again.
    assert value(before[0]) != value(before[2])
    assert value(after[0]) == value(after[2])


def test_facts_that_fail_are_an_error_of_each_query_that_reads_them(platform: Platform) -> None:
    facts = "SELECT missing AS drawn FROM public.chats"
    broken = [make_query(name, "SELECT drawn FROM drawn", facts=facts) for name in "ab"]

    *failed, sound = outcomes_of(platform.dsn, *broken, FIRST)

    reasons = [outcome.error.reason for outcome in failed if outcome.error is not None]
    assert reasons == [Reason.MISSING, Reason.MISSING]
    assert isinstance(value(sound), float)


def test_a_need_that_is_missing_takes_only_its_own_query(platform: Platform) -> None:
    need = Need("relation", "public.nowhere")
    needy = replace(SECOND, name="needy", needs=(need,))
    connection = Connection(platform.dsn)

    requests = [QueryRequest(query) for query in (FIRST, needy, SECOND)]
    first, missing, second = connection.poll(requests, (need,), {}).outcomes

    connection.close()
    assert isinstance(missing.error, QueryFailed)
    assert missing.error.reason is Reason.MISSING
    assert value(first) == value(second)


def test_a_timeout_is_that_of_the_query_which_takes_too_long(platform: Platform) -> None:
    slow = make_query("slow", "SELECT pg_sleep(60)::text AS value", timeout_s=0.2)
    quick = make_query("quick", "SELECT max(n) AS value FROM drawn", timeout_s=0.2)

    quick_outcome, slow_outcome = outcomes_of(platform.dsn, quick, slow)

    assert value(quick_outcome) == 3
    assert isinstance(slow_outcome.error, QueryFailed)
    assert slow_outcome.error.reason is Reason.TIMEOUT
    assert "(timeout 0.2s)" in str(slow_outcome.error)


def test_where_the_connection_is_lost_the_next_try_shows_at_which_query(
    platform: Platform,
) -> None:
    fatal = make_query("fatal", "SELECT pg_terminate_backend(pg_backend_pid()) AS value")
    connection = Connection(platform.dsn)
    first_try = ask(connection, FIRST, fatal)
    second_try = ask(connection, FIRST, fatal)
    connection.close()

    assert first_try.lost is not None
    assert first_try.lost_at is None
    assert all(isinstance(o.error, DatabaseUnavailable) for o in first_try.outcomes)
    assert isinstance(value(second_try.outcomes[0]), float)
    assert second_try.lost_at == "fatal"


def test_a_locked_relation_is_waited_for_once(platform: Platform) -> None:
    facts = "SELECT id FROM public.chats"
    queries = [
        make_query(name, "SELECT count(*) AS value FROM drawn", facts=facts) for name in "ab"
    ]
    with platform.connect(autocommit=False) as locking:
        locking.execute("LOCK TABLE public.chats")

        outcomes = outcomes_of(platform.dsn, *queries)

    reasons = [outcome.error.reason for outcome in outcomes if outcome.error is not None]
    assert reasons == [Reason.LOCKED, Reason.LOCKED]


def test_durations_add_up_to_what_the_statement_took(platform: Platform) -> None:
    slow = make_query("slow", "SELECT pg_sleep(0.3)::text AS value")
    quick, slow_outcome = outcomes_of(platform.dsn, FIRST, slow)

    assert slow_outcome.duration_s >= 0.3
    assert quick.duration_s < slow_outcome.duration_s - 0.25
