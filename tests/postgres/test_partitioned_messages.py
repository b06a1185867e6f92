"""A platform whose `messages` is partitioned by month: same answers, same rights, same cost."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from exporter.config.resources import find_resource
from exporter.database import Connection
from exporter.demo.postgres import LocalServer
from tests import builders
from tests.counting import EVENT_QUERIES
from tests.partitions import partition_messages
from tests.postgres.test_open_chats import fill as fill_with_hostile_rows
from tests.postgres.test_queries_plans import FAST, Node, walk
from tests.postgres.test_queries_plans import fill as fill_with_many_chats
from tests.postgres.test_queries_support import NOW_S, stop_clock, whole_plan_of
from tests.servers import Platform, clone_platform

MONTHS = 18
# It counts what the server's statistics have seen, those of this very test included.
CHANGING = {"database_errors"}
READERS = sorted(
    query.name
    for query in whole_plan_of().queries
    if any("public.messages" in str(need) for need in query.needs)
)


def install_reader(platform: Platform) -> str:
    """Run reader.sql for a role of this test's own."""
    name = f"{platform.database}_reader"
    script = (find_resource("deploy") / "postgresql" / "reader.sql").read_text()
    platform.connection.execute(script.replace("chatqueue_reader", name).encode())
    return name


def ask(connection: Connection, since: datetime.datetime) -> dict[str, list[Any]]:
    """The rows of every query, in any order, or why there are none; events since a time."""
    plan = whole_plan_of()
    requests = [
        replace(request, values={**request.values, "since": since} if request.values else {})
        for request in plan.first_requests
        if request.query.name not in CHANGING
    ]
    poll = connection.poll(requests, plan.needs, plan.parameters)
    return {o.query.name: sorted(map(str, [*o.rows, o.error])) for o in poll.outcomes}


@pytest.fixture
def connections() -> Iterator[list[Connection]]:
    opened: list[Connection] = []
    yield opened
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("is_hostile", [True, False])
def test_every_query_gives_the_same_rows(
    platform: Platform, connections: list[Connection], is_hostile: bool
) -> None:
    stop_clock(platform)
    fill_with_hostile_rows(platform, seed=1)
    if not is_hostile:  # on which the platform's own functions fail before PostgreSQL 17
        platform.execute("DELETE FROM messages WHERE NOT isfinite(created_at)")
        platform.execute(
            "DELETE FROM chats WHERE NOT (isfinite(created_at) AND isfinite(assignment_time))"
        )
    # A key of a partitioned table holds the time, which therefore cannot be missing.
    platform.execute("DELETE FROM messages WHERE created_at IS NULL")
    platform.execute(
        "UPDATE messages SET created_at = created_at - interval '1 month'"
        " * abs(hashtext(id::text) % 3)"
        " WHERE isfinite(created_at) AND created_at < now() AND hashtext(chat_id::text) % 2 = 0"
    )
    reader = install_reader(platform)
    since = datetime.datetime.fromtimestamp(NOW_S - 86_400, datetime.UTC)
    connections += [Connection(platform.dsn), Connection(platform.dsn_as(reader))]
    whole = ask(connections[0], since)

    partition_messages(platform, months_back=MONTHS)
    install_reader(platform)

    may_fail = {"disagreement"} if is_hostile else set()
    assert {name for name in READERS if len(whole[name]) < 2} <= may_fail
    # The same connection goes on, as a daemon's does over a migration.
    assert ask(connections[0], since) == whole
    assert ask(connections[1], since) == whole


def test_a_partition_that_is_attached_later_is_read_with_the_same_rights(
    platform: Platform, connections: list[Connection]
) -> None:
    chat = builders.make_waiting_chat(platform, age_s=60)
    partition_messages(platform, months_back=1)
    connections.append(Connection(platform.dsn_as(install_reader(platform))))
    since = platform.value("SELECT now() - interval '3 years'")
    before = ask(connections[0], since)

    platform.execute("CREATE TABLE messages_old (LIKE messages INCLUDING ALL)")
    platform.execute(
        "INSERT INTO messages_old (chat_id, sender_type, content, created_at)"
        " VALUES (%s, 'fictional', 'text', now() - interval '2 years')",
        (chat,),
    )
    platform.execute(
        "ALTER TABLE messages ATTACH PARTITION messages_old"
        " FOR VALUES FROM ('2000-01-01') TO (now() - interval '1 year')"
    )

    assert len(ask(connections[0], since)["messages"]) == len(before["messages"]) + 1


@pytest.fixture(scope="module")
def filled(postgres_server: LocalServer) -> Iterator[tuple[Platform, list[str]]]:
    """Chats over half a year, whose messages lie in partitions by month; for reading only."""
    with clone_platform(postgres_server) as platform:
        fill_with_many_chats(platform)
        yield platform, partition_messages(platform, months_back=MONTHS)


def explain(platform: Platform, name: str, since: Any) -> list[Node]:
    """The nodes of a query's plan, run with the settings of a poll."""
    plan = whole_plan_of()
    (query,) = (query for query in plan.queries if query.name == name)
    known: Mapping[str, Any] = {**plan.parameters, "since": since, "seen": [], "pending": []}
    values = {parameter: known[parameter] for parameter in query.parameters}
    with platform.connect() as connection, connection.transaction():
        connection.execute("SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0")
        cursor = connection.execute(
            f"EXPLAIN (FORMAT JSON, ANALYZE) {query.sql}".encode(), values or None
        )
        ((answer,),) = cursor.fetchall()
    return list(walk(answer[0]["Plan"]))


def scanned(nodes: list[Node]) -> list[Node]:
    """Scans of partitions that were begun at all."""
    return [
        node
        for node in nodes
        if node.get("Relation Name", "").startswith("messages_") and node["Actual Loops"]
    ]


@pytest.mark.parametrize("name", sorted({*FAST, *EVENT_QUERIES} & {*READERS}))
def test_no_partition_is_read_from_end_to_end(
    filled: tuple[Platform, list[str]], name: str
) -> None:
    platform, _ = filled
    nodes = scanned(explain(platform, name, platform.value("SELECT now() - interval '3 hours'")))

    whole = [
        node
        for node in nodes
        # A hash join looks at one row before it finds that it needs none.
        if node["Node Type"] == "Seq Scan" and node["Actual Rows"] > 1
    ]
    assert nodes
    assert whole == []


@pytest.mark.parametrize("name", ["messages", "waits"])
def test_new_messages_are_looked_for_in_the_newest_partitions_alone(
    filled: tuple[Platform, list[str]], name: str
) -> None:
    platform, partitions = filled
    nodes = scanned(explain(platform, name, platform.value("SELECT now() - interval '3 hours'")))

    by_time = {
        node["Relation Name"]
        for node in nodes
        if "created_at" in node.get("Index Cond", "")
        and "chat_id" not in node["Index Cond"] + node.get("Filter", "")
    }
    # The present month, in its first hours the one before, and the one ahead never.
    assert by_time
    assert by_time <= {*partitions[-3:-1]}
