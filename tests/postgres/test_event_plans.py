"""What the queries of events cost: index look-ups in proportion to what is new, at any size.

A server with 70,000 chats and 210,000 messages, spread over 30 days; 350 chats are assigned and 400
wait. The bounds are on what is touched, which does not depend on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from exporter.demo.postgres import LocalServer
from tests import builders
from tests.counting import EVENT_QUERIES, make_plan
from tests.servers import Platform, clone_platform

BIG_TABLES = {"chats", "messages", "chat_assignments"}

# One statement a table: chat n was created in order, has three messages and a turn that ended; the
# last 350 are assigned, the 400 before them wait.
FILL = """
CREATE TEMPORARY TABLE people AS
SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM operators;
CREATE TEMPORARY TABLE numbered AS
SELECT s.n, gen_random_uuid() AS id, now() - (70000 - s.n) * interval '37 s' AS at,
    CASE WHEN s.n > 69650 THEN 'assigned' WHEN s.n > 69250 THEN 'waiting_assignment'
        ELSE 'waiting_real_user_reply' END AS state,
    p.id AS operator
FROM generate_series(1, 70000) AS s (n) INNER JOIN people AS p ON p.n = s.n % 350;
SET session_replication_role = replica;
INSERT INTO chats (id, real_user_id, fictional_user_id, chat_state, created_at, updated_at,
    last_message_at, assigned_operator_id, assignment_time, last_operator_id, operator_replied_at)
SELECT n.id, u.id, f.id, n.state, n.at, n.at, n.at,
    CASE n.state WHEN 'assigned' THEN n.operator END,
    CASE n.state WHEN 'assigned' THEN now() - (70001 - n.n) * interval '1 s' END,
    n.operator, n.at + interval '20 s'
FROM numbered AS n
INNER JOIN (SELECT id, row_number() OVER () AS n FROM real_users) AS u ON u.n = n.n
CROSS JOIN fictional_users AS f;
INSERT INTO messages (chat_id, sender_type, content, created_at)
SELECT n.id, CASE m WHEN 1 THEN 'fictional' ELSE 'real' END, 'text', n.at + m * interval '10 s'
FROM numbered AS n, generate_series(0, 2) AS m
WHERE n.state <> 'waiting_real_user_reply' OR m < 2
UNION ALL
SELECT n.id, 'fictional', 'text', n.at + interval '11 s'
FROM numbered AS n WHERE n.state = 'waiting_real_user_reply';
INSERT INTO chat_assignments (chat_id, operator_id, assigned_at, released_at, release_reason)
SELECT n.id, n.operator, n.at + interval '5 s', n.at + interval '12 s', 'operator_sent_message'
FROM numbered AS n
UNION ALL
SELECT n.id, n.operator, now() - (70001 - n.n) * interval '1 s', NULL, NULL
FROM numbered AS n WHERE n.state = 'assigned';
SET session_replication_role = origin;
VACUUM (ANALYZE)
"""


@pytest.fixture(scope="module")
def big_platform(postgres_server: LocalServer) -> Iterator[Platform]:
    with clone_platform(postgres_server) as platform:
        builders.add_people(platform, users=70_000, operators=350)
        with platform.connect() as connection:
            for statement in FILL.split(";"):
                connection.execute(statement.encode())
        assert platform.value("SELECT count(*) FROM chats") == 70_000
        assert platform.value("SELECT count(*) FROM messages") >= 210_000
        yield platform


def explain(platform: Platform, name: str, **values: Any) -> dict[str, Any]:
    """The plan of a query as the daemon asks it, and what it touched."""
    plan = make_plan(platform, [name])
    (query,) = plan.queries
    known = {**plan.parameters, "seen": [], "pending": [], **values}
    with platform.connect() as connection, connection.transaction(force_rollback=True):
        # As a poll has it; see exporter/database/connection.py.
        connection.execute("SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0")
        ((explained,),) = connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query.sql}".encode(),
            {parameter: known[parameter] for parameter in query.parameters} or None,
        ).fetchall()
    found: dict[str, Any] = explained[0]["Plan"]
    return found


def nodes_of(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from nodes_of(child)


def whole_scans(plan: Mapping[str, Any]) -> set[str]:
    """Big tables that the plan reads from end to end; whether there is any row is one row."""
    return {
        node["Relation Name"]
        for node in nodes_of(plan)
        if node["Node Type"] == "Seq Scan"
        and node["Relation Name"] in BIG_TABLES
        and node["Actual Rows"] > 1
    }


def buffers(plan: Mapping[str, Any]) -> int:
    """Blocks of 8 kB that were touched."""
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def show(plan: Mapping[str, Any]) -> str:
    return json.dumps(plan, indent=1)


def ago(platform: Platform, seconds: float) -> Any:
    return platform.value("SELECT now() - %s * interval '1 s'", (seconds,))


@pytest.mark.parametrize("name", EVENT_QUERIES)
@pytest.mark.parametrize("first", [False, True], ids=["next", "first"])
def test_a_poll_reads_no_table_from_end_to_end(
    big_platform: Platform, name: str, first: bool
) -> None:
    since = None if first else ago(big_platform, 45)
    plan = explain(big_platform, name, since=since)

    assert whole_scans(plan) == set(), show(plan)


@pytest.mark.parametrize("name", EVENT_QUERIES)
def test_what_a_poll_touches_follows_what_is_new(big_platform: Platform, name: str) -> None:
    # 37 s a chat: about 2, 26 and 260 of them.
    touched = [
        buffers(explain(big_platform, name, since=ago(big_platform, seconds)))
        for seconds in (64, 960, 9600)
    ]
    # Looking at the 750 chats in the queue or in hand takes its share, whatever is new. All the
    # tables and indexes together have more than 20,000 blocks; here every operator has the same
    # chat again, which is the worst that assignments can meet.
    at_rest = {"releases": 13_000, "assignments": 10_000}.get(name, 300)

    assert touched[0] < at_rest + 500, touched
    assert touched[1] < at_rest + 15_000, touched
    assert touched[2] < at_rest + 40_000, touched


@pytest.mark.parametrize("name", ["messages", "assignments", "releases"])
def test_keys_that_are_known_cost_next_to_nothing(big_platform: Platform, name: str) -> None:
    table = "messages" if name == "messages" else "chat_assignments"
    order = "created_at" if name == "messages" else "assigned_at"
    since = ago(big_platform, 9600)
    seen = [
        str(row[0])
        for row in big_platform.fetch(
            f"SELECT id FROM {table} WHERE {order} > %s ORDER BY {order}", (since,)
        )
    ]
    fresh = explain(big_platform, name, since=since)
    known = explain(big_platform, name, since=since, seen=seen)

    assert len(seen) > 300
    assert whole_scans(known) == set(), show(known)
    assert buffers(known) <= buffers(fresh)


def test_open_assignments_cost_one_look_up_until_they_end(big_platform: Platform) -> None:
    pending = [
        str(row[0])
        for row in big_platform.fetch("SELECT id FROM chat_assignments WHERE released_at IS NULL")
    ]
    since = ago(big_platform, 1)
    alone = buffers(explain(big_platform, "releases", since=since))
    asked = explain(big_platform, "releases", since=since, pending=pending)

    assert len(pending) == 350
    assert whole_scans(asked) == set(), show(asked)
    # Of an index three pages, and one of the table, for the row and for its chat.
    assert buffers(asked) - alone < 6 * len(pending)


def test_the_check_of_every_poll_reads_the_waiting_and_assigned_chats_only(
    big_platform: Platform,
) -> None:
    plan = explain(big_platform, "invalid_chats")

    assert whole_scans(plan) == set(), show(plan)
    assert buffers(plan) < 30 * 750


def test_the_staffing_and_fairness_of_a_minute_read_the_window_only(
    big_platform: Platform,
) -> None:
    for name in ("staffing", "fairness"):
        plan = explain(big_platform, name)

        assert whole_scans(plan) == set(), (name, show(plan))
