"""Statements are prepared where the connection keeps them, and a migration does not fail them."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.catalogue import Need, Query
from exporter.database import Connection, Poll, QueryRequest
from tests import builders
from tests.servers import PgBouncer, Platform

POLLS = 6
PREPARED = "SELECT count(*) AS value FROM pg_prepared_statements WHERE statement <> 'COMMIT'"


def make_query(name: str, statement: str) -> Query:
    return Query(name, Path(f"{name}.sql"), statement, 15.0, 5.0, None, (), (), 100, ())


def poll_often(connection: Connection, query: Query, times: int = POLLS) -> Poll:
    needs = (Need("relation", "public.chats"),)
    for _ in range(times):
        poll = connection.poll([QueryRequest(query)], needs, {})
    return poll


def value_of(poll: Poll) -> object:
    (outcome,) = poll.outcomes
    assert outcome.error is None, outcome.error
    return outcome.rows[0]["value"]


def test_a_direct_connection_plans_each_statement_once(platform: Platform) -> None:
    connection = Connection(platform.dsn)
    poll = poll_often(connection, make_query("prepared", PREPARED))
    connection.close()

    # The opening and the query itself; the probe has run once.
    assert value_of(poll) == 2


def test_nothing_is_prepared_behind_a_pooler(platform: Platform, pgbouncer: PgBouncer) -> None:
    connection = Connection(pgbouncer.dsn(platform.database))
    poll = poll_often(connection, make_query("prepared", PREPARED))
    connection.close()

    assert value_of(poll) == 0


@pytest.mark.parametrize(
    "change",
    [
        "CREATE VIEW public.told AS SELECT 2::bigint AS value, 'new' AS other",
        "CREATE VIEW public.told AS SELECT '2'::text AS value",
        "CREATE TABLE public.told AS SELECT 2 AS value",
    ],
)
def test_what_a_migration_replaces_is_planned_anew_in_the_same_poll(
    platform: Platform, change: str
) -> None:
    platform.execute("CREATE VIEW public.told AS SELECT 1 AS value")
    connection = Connection(platform.dsn)
    query = make_query("told", "SELECT * FROM public.told")
    before = value_of(poll_often(connection, query))
    platform.execute("DROP VIEW public.told")
    platform.execute(change)

    after = [value_of(poll_often(connection, query, 1)) for _ in range(POLLS)]

    connection.close()
    assert (before, {str(value) for value in after}) == (1, {"2"})


def test_a_fault_of_a_prepared_query_is_one_failure(platform: Platform) -> None:
    builders.make_assigned_chat(platform)
    connection = Connection(platform.dsn)
    query = make_query("share", "SELECT 1 / (SELECT count(*) FROM public.chats) AS value")
    assert value_of(poll_often(connection, query)) == 1
    with platform.connect() as session:
        session.execute("TRUNCATE public.chats CASCADE")

    poll = poll_often(connection, query, 1)

    connection.close()
    (outcome,) = poll.outcomes
    assert "division by zero" in str(outcome.error)
    assert poll.lost is None
