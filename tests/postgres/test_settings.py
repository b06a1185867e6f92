"""Settings of the role, the database or the client change neither figures nor how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.database import Connection, Poll, QueryRequest
from exporter.database.session import Session
from exporter.database.settings import PINNED
from exporter.errors import ChatqueueError, QueryFailed, Reason
from tests import builders
from tests.postgres.test_queries_support import whole_plan_of
from tests.servers import PgBouncer, Platform
from tests.watch import write_config

HOSTILE = {
    "datestyle": ("German", "'SQL, DMY'", "'Postgres, MDY'"),
    "intervalstyle": ("sql_standard", "iso_8601", "postgres_verbose"),
    "timezone": ("'Asia/Kathmandu'", "'<+03>-3'", "'America/St_Johns'"),
    "extra_float_digits": ("0", "-15"),
    "bytea_output": ("escape",),
    "search_path": ("''", "nowhere", "pg_catalog"),
    "client_encoding": ("LATIN1", "SQL_ASCII"),
    "standard_conforming_strings": ("off",),
    "transform_null_equals": ("on",),
    "array_nulls": ("off",),
    "quote_all_identifiers": ("on",),
    "row_security": ("off",),
    "exit_on_error": ("on",),
    "xmloption": ("document",),
    "backslash_quote": ("on", "off"),
    "default_transaction_isolation": ("serializable",),
    "default_transaction_read_only": ("on",),
    "default_transaction_deferrable": ("on",),
    "statement_timeout": ("1",),
    "lock_timeout": ("1",),
    "idle_in_transaction_session_timeout": ("1",),
    "gin_fuzzy_search_limit": ("1",),
}
CASES = [(name, value) for name, values in HOSTILE.items() for value in values]
# Why a setting of the two categories is not pinned by name.
HARMLESS = {
    "set by BEGIN or with it": {
        *("default_transaction_isolation", "default_transaction_read_only"),
        *("default_transaction_deferrable", "transaction_isolation", "transaction_read_only"),
        *("transaction_deferrable", "statement_timeout", "lock_timeout", "search_path"),
        "idle_in_transaction_session_timeout",
    },
    "ends connections, which is survived": {"idle_session_timeout", "transaction_timeout"},
    "where and how things are written": {
        *("default_table_access_method", "default_tablespace", "temp_tablespaces"),
        *("default_toast_compression", "session_replication_role", "check_function_bodies"),
        *("gin_pending_list_limit", "createrole_self_grant", "event_triggers"),
    },
    "vacuum's": {
        *("vacuum_freeze_min_age", "vacuum_freeze_table_age", "vacuum_multixact_freeze_min_age"),
        *("vacuum_multixact_freeze_table_age", "vacuum_cost_delay", "vacuum_failsafe_age"),
        *("vacuum_multixact_failsafe_age", "vacuum_cleanup_index_scale_factor"),
    },
    "what is loaded": {
        *("dynamic_library_path", "gin_fuzzy_search_limit", "local_preload_libraries"),
        *("session_preload_libraries", "shared_preload_libraries", "jit_provider"),
        "extension_control_path",
    },
    "the words and the number of messages": {
        *("client_min_messages", "lc_messages", "escape_string_warning"),
        "icu_validation_level",
    },
    "an administrator's own, on purpose": {
        *("restrict_nonsystem_relation_kind", "lo_compat_privileges", "allow_alter_system"),
    },
    "full-text search, of queries that do it": {"default_text_search_config"},
    "the order of rows, which nothing relies on": {"synchronize_seqscans"},
    "abbreviations of zones in input": {"timezone_abbreviations"},
    "the socket's": {"tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count"},
}


def poll(dsn: str, settings: str = "") -> Poll:
    """QueryRequest every query once."""
    plan, connection = whole_plan_of(settings), Connection(dsn)
    try:
        return connection.poll(plan.first_requests, plan.needs, plan.parameters)
    finally:
        connection.close()


def set_for_database(platform: Platform, name: str, value: str) -> None:
    platform.execute(f"ALTER DATABASE {platform.database} SET {name} = {value}")
    platform.close()


@pytest.fixture
def busy(platform: Platform) -> Platform:
    builders.make_waiting_chat(platform, age_s=7200)
    builders.make_assigned_chat(platform, age_s=7200, heartbeat_s=7200)
    builders.make_replied_chat(platform, age_s=60)
    return platform


def figures_of(result: Poll) -> dict[str, list[str]]:
    """What every query gives, but for what moves from one moment to the next."""
    figures = {}
    for outcome in result.outcomes:
        assert outcome.error is None, (outcome.query.name, outcome.error)
        figures[outcome.query.name] = sorted(
            str({key: type(value) for key, value in row.items()}) for row in outcome.rows
        )
    return figures


def test_no_setting_changes_what_a_poll_gives(busy: Platform) -> None:
    role = builders.make_role(busy, "reader", policies=True)
    busy.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    before = figures_of(poll(busy.dsn_as(role)))

    for name, value in CASES:
        set_for_database(busy, name, value)
        result = poll(busy.dsn_as(role))
        with psycopg.connect(busy.server.dsn(), autocommit=True) as admin:
            admin.execute(f"ALTER DATABASE {busy.database} RESET {name}".encode())

        assert figures_of(result) == before, (name, value)


def test_all_at_once_through_a_transaction_pooler(busy: Platform, pgbouncer: PgBouncer) -> None:
    before = figures_of(poll(busy.dsn))
    for name, values in HOSTILE.items():
        if name not in ("client_encoding", "statement_timeout", "exit_on_error"):
            busy.execute(f"ALTER DATABASE {busy.database} SET {name} = {values[0]}")
    busy.close()

    assert figures_of(poll(pgbouncer.dsn(busy.database))) == before


@pytest.mark.parametrize("name", ["datestyle", "intervalstyle", "timezone", "row_security"])
def test_a_releasing_session_reads_the_same(busy: Platform, name: str) -> None:
    set_for_database(busy, name, HOSTILE[name][0])

    with Session(busy.dsn) as session:
        session.begin(read_only=True)
        (row,) = session.rows(
            r"SELECT now() AS now_at, interval '1 day' AS day, 'a\b' AS text,"
            " current_setting('row_security') AS row_security"
        )
        session.rollback()

    assert row["now_at"].tzinfo is not None
    assert (row["day"].days, row["text"], row["row_security"]) == (1, "a\\b", "on")


CHAT = "00000000-0000-4000-8000-000000000001"
COMMANDS = (
    *(("check-config", "--live"), ("status",), ("status", "--json"), ("verify",)),
    *(("verify", "--flow"), ("tune",), ("audit",), ("resume",), ("install", "--apply")),
    ("pause", "--for", "1h", "--reason", "x"),
    *(("explain", CHAT), ("release", CHAT), ("fix", "stuck", CHAT), ("fix", "requeue", CHAT)),
    *(("fix", "last-operator", CHAT), ("fix", "reopen", CHAT), ("report",), ("watch", "--once")),
)
ODD_ROWS = """
    UPDATE messages SET created_at = 'infinity' WHERE sender_type = 'real';
    UPDATE chats SET created_at = '-infinity', assignment_time = '12000-01-01'
    WHERE chat_state = 'assigned';
    UPDATE chat_assignments SET assigned_at = 'infinity', release_reason = E'\\x1b[31m\n\u202e'
    WHERE released_at IS NULL;
    UPDATE operators SET name = E'<b>\\x07\n' || repeat('x', 5000);
    UPDATE platform_config SET value = '"three"' WHERE key = 'max_reassignments';
"""


def test_no_command_ends_in_a_traceback(busy: Platform, tmp_path: Path) -> None:
    busy.execute(ODD_ROWS)
    for name in ("datestyle", "intervalstyle", "timezone", "search_path", "bytea_output"):
        set_for_database(busy, name, HOSTILE[name][0])
    config = write_config(tmp_path, {"main": busy.dsn})

    for command, *arguments in COMMANDS:
        parts = [command, arguments[0]] if command == "fix" else [command]
        rest = arguments[len(parts) - 1 :]
        result = CliRunner().invoke(cli, [*parts, "--config.file", str(config), *rest])

        ended = result.exception is None or isinstance(
            result.exception, (SystemExit, ChatqueueError)
        )
        assert ended, (command, arguments, result.exception)
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "expression",
    [
        "'infinity'::timestamptz",
        "'12000-01-01'::timestamptz",
        "'-infinity'::date",
        "'294276-01-01'::timestamp",
    ],
)
def test_a_value_that_cannot_be_read_is_its_querys_fault(
    platform: Platform, tmp_path: Path, expression: str
) -> None:
    (tmp_path / "odd.sql").write_text(f"-- Purpose: odd.\nSELECT {expression} AS at, 1 AS value\n")
    (tmp_path / "odd.yaml").write_text(
        "metrics:\n- {name: odd, type: gauge, help: Odd., value: value}\n"
    )
    result = poll(platform.dsn, f"queries: {{dirs: [{tmp_path}]}}")

    failed = {o.query.name: o.error for o in result.outcomes if o.error is not None}
    assert set(failed) == {"odd"}
    assert isinstance(failed["odd"], QueryFailed)
    assert failed["odd"].reason is Reason.MISMATCH
    assert str(failed["odd"]).startswith("returns a value that cannot be read: ")
    assert "\n" not in str(failed["odd"])


def test_bytes_that_are_no_text_are_their_querys_fault(platform: Platform) -> None:
    name = f"{platform.database}_ascii"
    with psycopg.connect(platform.server.dsn(), autocommit=True) as admin:
        admin.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0".encode()
        )
        try:
            with psycopg.connect(platform.server.dsn(name), autocommit=True) as owner:
                owner.execute("CREATE TABLE odd AS SELECT 1 AS id, ''::text AS text")
                owner.execute("SET client_encoding = 'SQL_ASCII'")
                owner.execute(b"UPDATE odd SET text = E'\\xe4\\xff'")
            plan = whole_plan_of()
            odd = plan.queries[0]
            connection = Connection(platform.server.dsn(name))
            query = type(odd)(
                name="odd",
                path=odd.path,
                sql="SELECT text FROM odd",
                interval_s=15,
                timeout_s=5,
                max_age_s=None,
                needs=(),
                metrics=(),
                max_rows=10,
                parameters=(),
            )
            result = connection.poll([QueryRequest(query)], (), {})
            connection.close()
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    (outcome,) = result.outcomes
    assert isinstance(outcome.error, QueryFailed)
    assert outcome.error.reason is Reason.MISMATCH


def settings_of(platform: Platform) -> Iterator[str]:
    for (name,) in platform.fetch(
        "SELECT lower(name) FROM pg_settings WHERE context IN ('user', 'superuser') AND ("
        " category LIKE 'Client Connection Defaults%' OR"
        " category LIKE 'Version and Platform Compatibility%')"
    ):
        yield name


def test_every_setting_is_pinned_or_harmless_for_a_reason(platform: Platform) -> None:
    pinned = {name for name, _ in PINNED}
    harmless = set().union(*HARMLESS.values())

    assert set(settings_of(platform)) - pinned - harmless == set()
