"""What runs every 15 s costs in proportion to the waiting and assigned chats, not to all chats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from exporter.demo.postgres import LocalServer
from tests import builders
from tests.postgres.test_queries_support import plan_of, poll
from tests.servers import Platform, clone_platform

FAST = [query.name for query in plan_of().queries if query.interval_s == 15]
BIG = {"chats", "messages", "chat_assignments"}
Node = dict[str, Any]


def fill(platform: Platform, *, quiet: int = 4000, busy: int = 20) -> None:
    """Many chats that wait for their user, and a few that wait for or have an operator."""
    builders.add_people(platform, users=quiet, operators=busy)
    platform.execute(
        """
        WITH numbered AS (SELECT id, row_number() OVER () AS rank FROM operators),
        customer AS (SELECT id, row_number() OVER ()::int AS n FROM real_users),
        chat AS (
            INSERT INTO chats (
                real_user_id, fictional_user_id, chat_state, created_at, operator_replied_at,
                assigned_operator_id, assignment_time)
            SELECT customer.id, persona.id, s.state,
                   now() - make_interval(hours => n), now() - make_interval(mins => n),
                   CASE s.state WHEN 'assigned' THEN numbered.id END,
                   CASE s.state WHEN 'assigned' THEN now() END
            FROM customer
            CROSS JOIN fictional_users AS persona
            CROSS JOIN LATERAL (
                SELECT CASE
                    WHEN n <= %(busy)s THEN 'waiting_assignment'
                    WHEN n <= %(busy)s * 2 THEN 'assigned'
                    ELSE 'waiting_real_user_reply'
                END AS state
            ) AS s
            LEFT JOIN numbered ON numbered.rank = n - %(busy)s
            RETURNING id, created_at
        ),
        message AS (
            INSERT INTO messages (chat_id, sender_type, content, created_at)
            SELECT chat.id, CASE k WHEN 2 THEN 'fictional' ELSE 'real' END, 'text',
                   chat.created_at + make_interval(mins => k)
            FROM chat CROSS JOIN generate_series(1, 3) AS k
        )
        INSERT INTO chat_assignments (chat_id, operator_id, assigned_at, released_at)
        SELECT chat.id, numbered.id, chat.created_at, chat.created_at + interval '1 minute'
        FROM chat INNER JOIN numbered ON numbered.rank = 1
        """,
        {"busy": busy},
    )
    platform.execute("ANALYZE")


def explain(platform: Platform, name: str, *, run: bool = False) -> list[Node]:
    """Every node of the plan of a built-in query, with the settings of a poll."""
    plan = plan_of()
    (query,) = (query for query in plan.queries if query.name == name)
    values = {parameter: plan.parameters[parameter] for parameter in query.parameters}
    kind = "(FORMAT JSON, ANALYZE)" if run else "(FORMAT JSON)"
    with platform.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0")
        cursor = connection.execute(f"EXPLAIN {kind} {query.sql}".encode(), values or None)
        ((answer,),) = cursor.fetchall()
    return list(walk(answer[0]["Plan"]))


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for below in node.get("Plans", ()):
        yield from walk(below)


def rows_read(nodes: list[Node], relation: str) -> float:
    """Rows that scans of a relation looked at, thrown away ones included."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes
        if node.get("Relation Name") == relation
    )


@pytest.fixture(scope="module")
def filled(postgres_server: LocalServer) -> Iterator[Platform]:
    """A filled database for tests that only read."""
    with clone_platform(postgres_server) as platform:
        fill(platform)
        yield platform


@pytest.mark.parametrize("name", FAST)
def test_a_fast_query_reads_no_big_table_from_end_to_end(filled: Platform, name: str) -> None:

    nodes = explain(filled, name)

    relations = {node["Relation Name"] for node in nodes if "Relation Name" in node}
    read_whole = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert relations & BIG
    assert read_whole & BIG == set()


@pytest.mark.parametrize("name", ["state_clock", "customer_wait"])
def test_waiting_and_assigned_chats_are_found_by_the_platforms_partial_indexes(
    filled: Platform, name: str
) -> None:

    indexes = {node.get("Index Name") for node in explain(filled, name)}

    assert {"idx_chats_waiting_assignment", "idx_messages_chat_created"} <= indexes
    assert indexes & {"idx_chats_idle_detection", "idx_chats_operator"}


@pytest.mark.parametrize("name", FAST)
def test_a_fast_query_looks_at_few_rows_however_many_chats_there_are(
    filled: Platform, name: str
) -> None:

    nodes = explain(filled, name, run=True)

    assert rows_read(nodes, "chats") <= 40
    assert rows_read(nodes, "messages") <= 40 * 6
    assert rows_read(nodes, "chat_assignments") <= 60


def test_a_chat_with_thousands_of_messages_costs_no_more_than_its_unanswered_ones(
    platform: Platform,
) -> None:
    fill(platform, quiet=400, busy=2)
    chat = builders.add_chat(platform, created_s=90_000)
    platform.execute(
        """
        INSERT INTO messages (chat_id, sender_type, content, created_at)
        SELECT %s, CASE n %% 2 WHEN 0 THEN 'real' ELSE 'fictional' END, 'text',
               now() - make_interval(secs => 80000 - n)
        FROM generate_series(1, 5001) AS n
        """,
        (chat,),
    )
    for age_s in (500, 400):
        builders.add_message(platform, chat, age_s=age_s)
    platform.execute("ANALYZE")

    for name in ("state_clock", "customer_wait"):
        assert rows_read(explain(platform, name, run=True), "messages") < 50, name


def test_the_whole_poll_is_far_within_its_timeouts(filled: Platform) -> None:

    result = poll(filled.dsn)

    assert [outcome.query.name for outcome in result.outcomes if outcome.error] == []
    for outcome in result.outcomes:
        assert outcome.duration_s < outcome.query.timeout_s / 2
