"""Locks and losses in mid-poll: they cost the queries they concern, and nothing else."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from exporter.cli import cli
from exporter.database import Connection
from exporter.database.session import Session
from exporter.errors import DatabaseUnavailable, QueryFailed, Reason
from exporter.polling.plan import Plan
from exporter.polling.worker import Worker
from exporter.release.attempt import Decision, ReleaseRequest
from tests import builders
from tests.postgres.test_queries_support import whole_plan_of
from tests.release import install, make_engine, make_stuck_chat, observe
from tests.servers import Platform, run_pgbouncer
from tests.watch import write_config

RELATIONS = (
    "chats",
    "chat_assignments",
    "messages",
    "operator_activity",
    "operators",
    "platform_config",
)
KILL = "SELECT pg_terminate_backend(pg_backend_pid())::int AS value"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_locked_relation_costs_its_queries_one_wait_and_no_other(
    platform: Platform, relation: str
) -> None:
    builders.make_assigned_chat(platform)
    plan = whole_plan_of()
    needing = {
        query.name
        for query in plan.queries
        if any(need.name == f"public.{relation}" for need in query.needs)
    }
    connection = Connection(platform.dsn)
    with platform.connect(autocommit=False) as locker:
        locker.execute(f"LOCK TABLE public.{relation} IN ACCESS EXCLUSIVE MODE".encode())
        started = time.monotonic()
        poll = connection.poll(plan.first_requests, plan.needs, plan.parameters)
        took_s = time.monotonic() - started
    connection.close()

    failed = {o.query.name: o.error for o in poll.outcomes if o.error is not None}
    # What looks at definitions has to open the relation as well.
    assert set(failed) - {"contract_objects"} == needing
    assert {getattr(error, "reason", None) for error in failed.values()} == {Reason.LOCKED}
    assert took_s < 4


@pytest.mark.newest
@pytest.mark.parametrize("relation", RELATIONS)
def test_a_locked_relation_is_named_by_every_command(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relation: str
) -> None:
    # The limit itself is kept by the test above; three commands would wait for three seconds.
    monkeypatch.setattr("exporter.database.connection.LOCK_TIMEOUT_S", 0.1)
    builders.make_assigned_chat(platform)
    config = write_config(tmp_path, {"main": platform.dsn})
    with platform.connect(autocommit=False) as locker:
        locker.execute(f"LOCK TABLE public.{relation} IN ACCESS EXCLUSIVE MODE".encode())
        said = {
            command: CliRunner().invoke(cli, [command, "--config.file", str(config), *flags])
            for command, flags in (
                ("status", ["--json"]),
                ("verify", ["--json"]),
                ("check-config", ["--live"]),
            )
        }

    for command, result in said.items():
        assert isinstance(result.exception, SystemExit | None), command
        assert "Traceback" not in result.output
        assert "timeout" not in result.output.replace("due to lock timeout", ""), command
        assert "locked" in result.output or command == "verify"
    (status,) = json.loads(said["status"].output)
    needing = {
        query.name
        for query in whole_plan_of().queries
        if any(need.name == f"public.{relation}" for need in query.needs)
    }
    failed = {problem.split(": ")[0]: problem.split(": ")[1] for problem in status["problems"]}
    assert failed == dict.fromkeys(needing | set(failed) & {"contract_objects"}, "locked")


@pytest.mark.newest
@pytest.mark.parametrize("relation", RELATIONS)
def test_a_locked_relation_harms_no_release(platform: Platform, relation: str) -> None:
    chat = make_stuck_chat(platform)
    install(platform)
    engine = make_engine(platform)
    order = ReleaseRequest(observe(engine, chat), "enforce")
    with platform.connect(autocommit=False) as locker, Session(platform.dsn) as session:
        locker.execute(f"LOCK TABLE public.{relation} IN ACCESS EXCLUSIVE MODE".encode())
        session.begin(read_only=True)
        started = time.monotonic()
        assert session.find_blindness([f"public.{name}" for name in RELATIONS]) is None
        assert time.monotonic() - started < 0.5
        with pytest.raises(QueryFailed) as caught:
            engine.scan()
        assert caught.value.reason is Reason.LOCKED
        result = engine.release(order)
        assert time.monotonic() - started < 4

    assert result.decision is Decision.BUSY
    assert engine.release(order).decision is Decision.RELEASED
    engine.session.close()


def backend_of(connection: Connection) -> int:
    assert connection._connection is not None
    return connection._connection.info.backend_pid


@pytest.mark.parametrize("by", ["an administrator", "idle_session_timeout", "a load balancer"])
def test_a_connection_that_was_closed_while_idle_is_opened_again(
    platform: Platform, by: str
) -> None:
    plan = whole_plan_of()
    if by == "idle_session_timeout":
        platform.execute(f"ALTER DATABASE {platform.database} SET idle_session_timeout = '50ms'")
    connection = Connection(platform.dsn)
    connection.poll(plan.first_requests[:1], plan.needs, plan.parameters)
    pid = backend_of(connection)
    if by == "a load balancer":
        assert connection._connection is not None
        with socket.socket(fileno=os.dup(connection._connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)
    elif by == "an administrator":
        platform.fetch("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with psycopg.connect(platform.server.dsn(), autocommit=True) as admin:
        wait_until(
            lambda: (
                not admin.execute("SELECT FROM pg_stat_activity WHERE pid = %s", [pid]).fetchall()
            )
        )

    poll = connection.poll(plan.first_requests[:1], plan.needs, plan.parameters)

    connection.close()
    assert poll.reopened
    assert poll.outcomes[0].error is None


def test_a_new_connection_that_fails_is_a_fault(own_platform: Platform) -> None:
    plan = whole_plan_of()
    connection = Connection(own_platform.dsn)
    connection.poll(plan.first_requests[:1], plan.needs, plan.parameters)
    own_platform.server.stop()

    with pytest.raises(DatabaseUnavailable):
        connection.poll(plan.first_requests[:1], plan.needs, plan.parameters)

    own_platform.server.start()


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_worker(platform: Platform, folder: Path, statement: str, dsn: str) -> tuple[Worker, Clock]:
    """A worker with a query of one's own, not started."""
    (folder / "mine.sql").write_text(f"-- Purpose: a test.\n{statement}\n")
    (folder / "mine.yaml").write_text(
        "interval: 60s\nmetrics:\n- {name: mine, type: gauge, help: Mine., value: value}\n"
    )
    plan = replace(whole_plan_of(f"queries: {{dirs: [{folder}]}}"), dsn=dsn)
    names = {"customer_wait", "state_summary", "operators", "mine"}
    queries = tuple(query for query in plan.queries if query.name in names)
    # In the middle, so that something comes before and something behind.
    mine = next(query for query in queries if query.name == "mine")
    others = [query for query in queries if query.name != "mine"]
    clock = Clock()
    plan = replace(plan, queries=(others[0], mine, *others[1:]))
    return Worker(plan, lambda: None, monotonic=clock), clock


def ask_all(worker: Worker) -> dict[str, bool]:
    """Ask everything at once; which queries have figures."""
    worker._poll(frozenset(query.name for query in worker._plan.queries))
    return {result.query: result.success for result in worker.snapshot.results}


def test_a_query_that_ends_the_connection_runs_apart_and_the_others_go_on(
    platform: Platform, tmp_path: Path
) -> None:
    worker, clock = make_worker(platform, tmp_path, KILL, platform.dsn)

    with capture_logs() as logs:
        seen = []
        for _ in range(40):
            seen.append(ask_all(worker))
            assert worker.snapshot.up
            clock.now += 15
    worker._connection.close()

    assert all(
        {name for name, success in each.items() if success}
        == {"customer_wait", "state_summary", "operators"}
        for each in seen
    )
    warnings = [log for log in logs if log["log_level"] in ("warning", "error")]
    assert [log["query"] for log in warnings] == ["mine"]
    mine = next(result for result in worker.snapshot.results if result.query == "mine")
    # Less often each time: ten minutes at an interval of one minute.
    assert 2 <= mine.errors[Reason.CONNECTION] <= 6


def test_a_query_that_works_again_comes_back_to_the_others(
    platform: Platform, tmp_path: Path
) -> None:
    statement = (
        "SELECT CASE WHEN (SELECT value #>> '{}' FROM public.platform_config"
        " WHERE key = 'maintenance_mode') = 'true'"
        " THEN pg_terminate_backend(pg_backend_pid())::int ELSE 1 END AS value"
    )
    worker, clock = make_worker(platform, tmp_path, statement, platform.dsn)
    builders.set_config(platform, "maintenance_mode", True)
    ask_all(worker)
    assert worker._quarantine.holds("mine")

    builders.set_config(platform, "maintenance_mode", False)
    clock.now += 60
    with capture_logs() as logs:
        assert ask_all(worker)["mine"]
    worker._connection.close()

    assert not worker._quarantine.holds("mine")
    assert [log["event"] for log in logs if log["log_level"] == "info"] == ["query is back"]


@pytest.mark.newest
def test_a_poolers_limit_is_no_outage(platform: Platform, tmp_path: Path) -> None:
    with run_pgbouncer(platform.server, ("query_timeout = 1",)) as pooler:
        worker, _ = make_worker(
            platform,
            tmp_path,
            "SELECT pg_sleep(1.6)::text, 1 AS value",
            pooler.dsn(platform.database),
        )
        first, second = ask_all(worker), ask_all(worker)
        worker._connection.close()

    assert (
        first
        == second
        == {
            "customer_wait": True,
            "state_summary": True,
            "operators": True,
            "mine": False,
        }
    )
    assert worker.snapshot.up


@pytest.mark.newest
def test_a_limit_on_whole_transactions_is_no_outage(platform: Platform, tmp_path: Path) -> None:
    platform.execute(f"ALTER DATABASE {platform.database} SET transaction_timeout = '1s'")
    platform.close()
    worker, _ = make_worker(
        platform, tmp_path, "SELECT pg_sleep(1.6)::text, 1 AS value", platform.dsn
    )

    seen = ask_all(worker)

    worker._connection.close()
    assert [name for name, success in seen.items() if not success] == ["mine"]
    assert worker.snapshot.up


def plan_for(dsn: str) -> Plan:
    plan = whole_plan_of()
    return replace(plan, dsn=dsn, queries=plan.queries[:1])


def test_the_log_says_what_keeps_the_database_away_and_how_long(own_platform: Platform) -> None:
    clock = Clock()
    worker = Worker(plan_for(own_platform.dsn), lambda: None, monotonic=clock)
    ask_all(worker)
    with capture_logs() as logs:
        own_platform.close()
        own_platform.server.stop()
        for _ in range(3):
            ask_all(worker)
            clock.now += 10
        own_platform.server.start()
        with psycopg.connect(own_platform.server.dsn(), autocommit=True) as admin:
            database = own_platform.database
            admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false".encode())
            for _ in range(3):
                ask_all(worker)
                clock.now += 10
            admin.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true".encode())
        ask_all(worker)
    worker._connection.close()

    errors = [log["error"] for log in logs if log["log_level"] == "error"]
    (back,) = [log for log in logs if log["event"] == "database is back"]
    assert len(errors) == 2
    assert "not currently accepting connections" in errors[1]
    assert (back["failures"], back["unavailable_s"]) == (6, 60.0)
    assert back["error"] == errors[1]
