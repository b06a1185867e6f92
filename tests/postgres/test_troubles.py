"""What the watch says, and does not do, while the database is in trouble."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exporter.catalogue import Need
from exporter.daemon import Daemon
from exporter.database import Connection
from exporter.demo.postgres import LocalServer
from exporter.errors import ConfigError
from tests.builders import make_assigned_chat, make_role, make_waiting_chat
from tests.proxy import Proxy
from tests.servers import PgBouncer, Platform, clone_platform, crash
from tests.watch import BUILT_IN, SLACK_S, run_watch, write_config, write_query

pytestmark = pytest.mark.newest

RUNNING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'chatqueue-exporter%' AND {}
"""
SLEEP = "SELECT 1 AS value, pg_sleep(60)"


def count_sessions(platform: Platform, condition: str = "true") -> int:
    """Sessions of the exporter on the test's database."""
    return int(platform.value(RUNNING.format(condition)))


def wait_for_no_session(platform: Platform) -> None:
    """Wait until the exporter's backends have ended; the server takes a moment to notice."""
    deadline = time.monotonic() + SLACK_S
    while count_sessions(platform):
        assert time.monotonic() < deadline, "a session of the exporter is left"
        time.sleep(0.01)


def test_one_named_connection_polls_a_database(platform: Platform, tmp_path: Path) -> None:
    with run_watch(write_config(tmp_path, {"main": platform.dsn})) as watch:
        watch.wait_for_poll()

        assert count_sessions(platform) == 1
        assert watch.value("chatqueue_database_up") == 1
        assert watch.value("chatqueue_database_in_recovery") == 0
        assert abs(watch.value("chatqueue_database_clock_skew_seconds") or 1) < 0.5
    wait_for_no_session(platform)


def test_the_whole_catalogue_works_through_a_transaction_pooler(
    platform: Platform, pgbouncer: PgBouncer, tmp_path: Path
) -> None:
    make_waiting_chat(platform, age_s=100)
    dsn = pgbouncer.dsn(platform.database)
    with run_watch(write_config(tmp_path, {"main": dsn})) as watch:
        for _ in range(2):
            watch.wait_for_poll()

        success = watch.samples("chatqueue_exporter_query_success")
        assert set(success.values()) == {1.0}
        assert len(success) == len(BUILT_IN)
        assert watch.value("chatqueue_chats", state="waiting_assignment") == 1


def test_a_killed_server_is_told_at_once_counted_and_found_again(
    own_server: LocalServer, own_platform: Platform, tmp_path: Path
) -> None:
    make_waiting_chat(own_platform)
    with run_watch(write_config(tmp_path, {"main": own_platform.dsn})) as watch:
        crash(own_server)
        watch.wait_until(lambda: watch.value("chatqueue_database_up") == 0)
        watch.wait_until(lambda: watch.errors("state_clock", "connection") > 0)
        # Figures stay for max_age, three intervals, and then go: no calm, no stale red.
        watch.wait_until(lambda: watch.value("chatqueue_chats", state="assigned") is None)
        assert watch.value("chatqueue_exporter_query_success", query="state_clock") == 0

        own_server.start()
        took_s = watch.wait_until(lambda: watch.value("chatqueue_database_up") == 1)

        assert took_s < 2 + SLACK_S  # two intervals of a second
        watch.wait_until(
            lambda: watch.value("chatqueue_chats", state="waiting_assignment") == 1,
            deadline_s=2 + SLACK_S,
        )


def test_a_black_hole_is_left_by_the_clients_own_deadline(
    platform: Platform, tmp_path: Path
) -> None:
    with Proxy(platform.server.port) as proxy:
        dsn = psycopg.conninfo.make_conninfo(platform.dsn, port=proxy.port)
        with run_watch(write_config(tmp_path, {"main": dsn})) as watch:
            assert watch.value("chatqueue_database_up") == 1
            proxy.swallow()
            took_s = watch.wait_until(lambda: watch.value("chatqueue_database_up") == 0)
            proxy.swallow(False)
            watch.wait_until(lambda: watch.value("chatqueue_database_up") == 1)

            # interval + probe timeout + grace + a cancel that is swallowed too
            assert took_s < 1 + 6 + 1 + SLACK_S
            assert watch.daemon.is_healthy() == ()


def test_a_locked_table_fails_its_queries_and_no_other(platform: Platform, tmp_path: Path) -> None:
    folder = write_query(tmp_path / "own", "fine", "SELECT 1 AS value")
    config = write_config(tmp_path, {"main": platform.dsn}, queries={"dirs": [str(folder)]})
    with run_watch(config) as watch, platform.connect(autocommit=False) as locker:
        locker.execute("LOCK TABLE public.messages IN ACCESS EXCLUSIVE MODE")
        watch.wait_until(lambda: watch.errors("customer_wait", "locked") > 0)
        watch.wait_for_poll("fine")

        assert watch.value("chatqueue_database_up") == 1
        assert watch.value("chatqueue_exporter_query_success", query="operators") == 1
        locker.rollback()
        watch.wait_for_poll("customer_wait")


def test_a_terminated_backend_is_replaced_and_counted(platform: Platform, tmp_path: Path) -> None:
    folder = write_query(tmp_path / "own", "sleepy", SLEEP, {"timeout": "30s", "interval": "30s"})
    config = write_config(tmp_path, {"main": platform.dsn}, queries={"dirs": [str(folder)]})
    killed = threading.Event()

    def kill_in_mid_query() -> None:
        with platform.connect() as admin:
            while not killed.is_set():
                row = admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE"
                    " '%%pg_sleep(60)%%' AND pid <> pg_backend_pid() AND datname = %s",
                    [platform.database],
                ).fetchone()
                if row:
                    killed.set()
                time.sleep(0.01)

    killer = threading.Thread(target=kill_in_mid_query)
    killer.start()
    try:
        with run_watch(config) as watch:
            watch.wait_until(lambda: watch.errors("sleepy", "connection") == 1)
            # What was read before the connection broke stands.
            assert watch.value("chatqueue_customer_oldest_wait_seconds") == 0
    finally:
        killed.set()
        killer.join()


def test_a_query_past_its_timeout_leaves_nothing_running(
    platform: Platform, tmp_path: Path
) -> None:
    folder = write_query(tmp_path / "own", "sleepy", SLEEP, {"timeout": "300ms"})
    config = write_config(tmp_path, {"main": platform.dsn}, queries={"dirs": [str(folder)]})
    with run_watch(config) as watch:
        watch.wait_until(lambda: watch.errors("sleepy", "timeout") > 0)

        assert count_sessions(platform, "state = 'active' AND query LIKE '%%pg_sleep%%'") == 0
        assert watch.value("chatqueue_database_up") == 1
        assert watch.value("chatqueue_exporter_query_success", query="state_clock") == 1


def test_a_costly_query_is_run_less_often_and_says_so(platform: Platform, tmp_path: Path) -> None:
    folder = write_query(tmp_path / "own", "costly", "SELECT 1 AS value, pg_sleep(0.5)")
    config = write_config(tmp_path, {"main": platform.dsn}, queries={"dirs": [str(folder)]})
    with run_watch(config) as watch:
        interval_s = watch.value("chatqueue_exporter_query_interval_seconds", query="costly")

        assert interval_s is not None
        assert 2.5 <= interval_s < 10  # its half second at a fifth of the interval


def test_stopping_in_mid_query_is_quick_and_leaves_nothing_running(
    platform: Platform, tmp_path: Path
) -> None:
    folder = write_query(tmp_path / "own", "sleepy", SLEEP, {"timeout": "30s", "interval": "30s"})
    config = write_config(tmp_path, {"main": platform.dsn}, queries={"dirs": [str(folder)]})
    daemon = Daemon(config)
    daemon.start()
    while not count_sessions(platform, "query LIKE '%%pg_sleep%%' AND state = 'active'"):
        time.sleep(0.01)
    started = time.monotonic()

    assert daemon.stop(2)
    assert time.monotonic() - started < 1.5
    wait_for_no_session(platform)


def test_a_revoked_permission_names_the_grant_that_is_missing(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    role = make_role(platform, "reader", policies=True)
    with run_watch(write_config(tmp_path, {"main": platform.dsn_as(role)})) as watch:
        assert watch.value("chatqueue_exporter_query_success", query="customer_wait") == 1
        platform.execute(f'REVOKE SELECT ON public.messages FROM "{role}"')
        watch.wait_until(lambda: watch.errors("customer_wait", "permission") > 0)

        assert watch.value("chatqueue_exporter_query_success", query="operators") == 1
    logged = " ".join(capsys.readouterr().out.split())
    assert f"role {role} may not read public.messages, expected GRANT SELECT (id," in logged


def test_a_renamed_column_fails_only_the_queries_that_read_it(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_watch(write_config(tmp_path, {"main": platform.dsn})) as watch:
        platform.execute("ALTER TABLE public.operators RENAME COLUMN is_available TO is_free")
        watch.wait_until(lambda: watch.errors("operators", "missing") > 0)

        assert watch.value("chatqueue_exporter_query_success", query="operator_load") == 1
        assert watch.value("chatqueue_exporter_query_success", query="state_clock") == 1
    assert "column o.is_available does not exist" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("statement", "query", "needed"),
    [
        (
            "DROP VIEW public.chat_state_summary",
            "state_summary",
            "relation public.chat_state_summary",
        ),
        (
            "DROP FUNCTION public.detect_stuck_chats(integer)",
            "stuck_chats",
            "function public.detect_stuck_chats(integer)",
        ),
        (
            "DROP TABLE public.operator_activity",
            "idle_detector",
            "relation public.operator_activity",
        ),
    ],
)
def test_a_query_names_the_object_it_is_missing(
    platform: Platform,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    statement: str,
    query: str,
    needed: str,
) -> None:
    platform.execute(statement)
    with run_watch(write_config(tmp_path, {"main": platform.dsn})) as watch:
        assert watch.errors(query, "missing") > 0
        assert watch.value("chatqueue_exporter_query_success", query="state_clock") == 1
    assert f"needs {needed} which does not exist" in capsys.readouterr().out


def test_a_dead_database_delays_no_other(platform: Platform, tmp_path: Path) -> None:
    with Proxy(platform.server.port) as proxy:
        proxy.swallow()
        dead = psycopg.conninfo.make_conninfo(platform.dsn, port=proxy.port)
        config = write_config(tmp_path, {"main": platform.dsn, "dead": dead})
        with run_watch(config) as watch:
            for _ in range(3):
                watch.wait_for_poll(database="main")

            assert watch.value("chatqueue_database_up", database="main") == 1
            assert watch.value("chatqueue_database_up", database="dead") == 0


def test_a_database_that_hangs_in_mid_poll_delays_neither_the_others_nor_a_scrape(
    platform: Platform, tmp_path: Path
) -> None:
    others = [f"other{number}" for number in range(4)]
    up = "chatqueue_database_up"
    with Proxy(platform.server.port) as proxy:
        hung = psycopg.conninfo.make_conninfo(platform.dsn, port=proxy.port)
        databases = {"hung": hung, **dict.fromkeys(others, platform.dsn)}
        with run_watch(write_config(tmp_path, databases)) as watch:
            assert {watch.value(up, database=name) for name in databases} == {1}
            proxy.swallow()
            polls = 0
            while watch.value(up, database="hung") == 1:
                for name in others:
                    watch.wait_for_poll(database=name)
                polls += 1

            # A poll a second where the machine is quiet, while the other's deadline passes.
            assert polls
            assert {watch.value(up, database=name) for name in others} == {1}
            assert watch.value(up, database="hung") == 0


def test_a_reload_leaves_a_database_alone_whose_configuration_is_the_same(
    platform: Platform, tmp_path: Path
) -> None:
    def configure(databases: dict[str, str], **sections: Any) -> Path:
        rare = {name: {"interval": "1h"} for name in BUILT_IN}
        return write_config(tmp_path, databases, overrides=rare, **sections)

    success = "chatqueue_exporter_query_last_success_timestamp_seconds"
    with (
        run_watch(configure({"main": platform.dsn})) as watch,
        clone_platform(platform.server) as second,
    ):
        before = watch.value(success, query="state_clock", database="main")
        configure({"main": platform.dsn, "two": second.dsn})
        watch.daemon.reload()
        watch.wait_until(lambda: watch.value("chatqueue_database_up", database="two") == 1)

        assert watch.value(success, query="state_clock", database="main") == before

        limit = {"oldest_age": {"assigned": {"warning": "30s"}}}
        configure({"main": platform.dsn}, thresholds=limit)
        watch.daemon.reload()
        watch.wait_until(
            lambda: watch.value(success, query="state_clock", database="main") != before
        )


def test_a_multi_host_dsn_finds_the_server_that_lives(platform: Platform, tmp_path: Path) -> None:
    with Proxy(1) as closed:
        dsn = (
            f"host=127.0.0.1,127.0.0.1 port={closed.port},{platform.server.port} user=postgres"
            f" dbname={platform.database} target_session_attrs=read-write"
        )
    with run_watch(write_config(tmp_path, {"main": dsn})) as watch:
        assert watch.value("chatqueue_database_up") == 1


@pytest.mark.slow
def test_reloads_leave_no_threads_connections_or_memory_behind(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A small catalogue: parsing the built-in one a thousand times would only test the parser.
    folder = write_query(tmp_path / "small", "fine", "SELECT 1 AS value")
    monkeypatch.setattr("exporter.polling.plan.find_resource", lambda _: folder)
    config = tmp_path / "chatqueue.yaml"
    config.write_text(f"databases: {{main: {{dsn: '{platform.dsn}'}}}}\n")
    with run_watch(config) as watch:
        for _ in range(100):
            watch.daemon.reload()
        threads = threading.active_count()
        gc.collect()
        tracemalloc.start()
        for _ in range(900):
            watch.daemon.reload()
        gc.collect()
        # What the product and its libraries hold; coverage and captured output grow by themselves.
        ours = [
            tracemalloc.Filter(True, f"*/{part}/*")
            for part in ("exporter", "psycopg", "yaml", "pydantic", "prometheus_client", "schedule")
        ]
        held = tracemalloc.take_snapshot().filter_traces(ours).statistics("filename")
        tracemalloc.stop()
        watch.wait_for_poll("fine")

        assert sum(statistic.size for statistic in held) < 150_000
        assert threading.active_count() <= threads + 1  # a watchdog lives during a poll
        assert count_sessions(platform) == 1


def test_a_reload_retunes_thresholds_starts_and_stops_databases(
    platform: Platform, tmp_path: Path
) -> None:
    make_waiting_chat(platform, age_s=100)
    config = write_config(tmp_path, {"main": platform.dsn})
    labels = {"state": "waiting_assignment", "severity": "warning"}
    with run_watch(config) as watch, clone_platform(platform.server) as second:
        assert watch.value("chatqueue_state_overdue_chats", **labels) == 0
        limit = {"oldest_age": {"waiting_assignment": {"warning": "30s"}}}
        write_config(config, {"main": platform.dsn, "two": second.dsn}, thresholds=limit)
        watch.daemon.reload()

        threshold = "chatqueue_threshold_oldest_age_seconds"
        watch.wait_until(lambda: watch.value(threshold, database="main", **labels) == 30)
        watch.wait_until(
            lambda: watch.value("chatqueue_state_overdue_chats", database="main", **labels) == 1
        )
        watch.wait_until(lambda: watch.value("chatqueue_database_up", database="two") == 1)
        write_config(config, {"two": second.dsn})
        watch.daemon.reload()

        assert watch.value("chatqueue_database_up", database="main") is None
        watch.wait_until(lambda: count_sessions(platform) == 0)


def test_a_refused_reload_changes_nothing_and_shows(platform: Platform, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"main": platform.dsn})
    with run_watch(config) as watch:
        config.write_text("databases: []\n")
        with pytest.raises(ConfigError):
            watch.daemon.reload()

        assert watch.value("chatqueue_exporter_config_last_reload_successful") == 0
        watch.wait_for_poll()
        write_config(config, {"main": platform.dsn})
        watch.daemon.reload()
        assert watch.value("chatqueue_exporter_config_last_reload_successful") == 1


def test_a_long_wait_is_seen_on_every_metric(platform: Platform, tmp_path: Path) -> None:
    make_waiting_chat(platform, age_s=400)
    make_assigned_chat(platform, age_s=1500, heartbeat_s=1500)
    with run_watch(write_config(tmp_path, {"main": platform.dsn})) as watch:
        oldest = watch.value("chatqueue_state_oldest_age_seconds", state="waiting_assignment")

        assert oldest == pytest.approx(400, abs=5)
        assert watch.value("chatqueue_idle_overdue_chats") == 1
        assert (
            watch.value("chatqueue_state_overdue_chats", state="assigned", severity="critical") == 1
        )
        assert watch.value("chatqueue_customer_oldest_wait_seconds") == pytest.approx(1510, abs=5)


def test_a_database_without_an_encoding_is_watched_as_well(platform: Platform) -> None:
    name = f"{platform.database}_ascii"
    platform.execute(
        f"CREATE DATABASE {name} TEMPLATE template0"
        " ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    try:
        dsn = psycopg.conninfo.make_conninfo(platform.dsn, dbname=name)
        connection = Connection(dsn)
        poll = connection.poll([], [Need("relation", "public.chats")], {})
        connection.close()

        assert poll.hidden == (("public.chats", False),)
    finally:
        platform.execute(f"DROP DATABASE {name} WITH (FORCE)")
