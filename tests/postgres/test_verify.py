"""`chatqueue verify` on real databases: one ✗ for one thing that is wrong, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from psycopg import sql

import exporter.ops.verify
from exporter.cli import cli, main
from exporter.config import load_config
from exporter.database import Connection
from exporter.errors import Reason
from exporter.ops.verify.checks import Check, check_access
from exporter.ops.verify.inspection import access_request, build_inspections, inspect
from exporter.release.grants import build_grants
from tests import builders
from tests.contracts.exported import read_exported
from tests.postgres.test_contract_objects import CONTRACT
from tests.postgres.test_queries_support import whole_plan_of
from tests.release import drop_open_policies, install
from tests.servers import PgBouncer, Platform
from tests.watch import write_config, write_query

READS: dict[str, list[str]] = yaml.safe_load(
    (Path(exporter.ops.verify.__file__).parent / "reads.yaml").read_text()
)
TABLES = sorted(set(READS) - {"public.chat_state_summary"})
FUNCTIONS = {
    "public.detect_stuck_chats(integer)": "queue",
    "public.get_assignment_queue_status()": "queue",
}
Look = Callable[..., dict[str, Any]]


def make_reader(platform: Platform) -> str:
    """A role that may read exactly what `reads.yaml` says, and sees all rows."""
    role = builders.make_role(platform, "reader", select=False, policies=True)
    for relation, columns in READS.items():
        grant(platform, role, relation, columns)
    return role


def grant(platform: Platform, role: str, relation: str, columns: list[str]) -> None:
    _change_privilege(platform, "GRANT SELECT ({}) ON {} TO {}", role, relation, columns)


def revoke(platform: Platform, role: str, relation: str, columns: list[str]) -> None:
    _change_privilege(platform, "REVOKE SELECT ({}) ON {} FROM {}", role, relation, columns)


def _change_privilege(
    platform: Platform, text: str, role: str, relation: str, columns: list[str]
) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    qualified = sql.Identifier(*relation.split("."))
    platform.connection.execute(sql.SQL(text).format(names, qualified, sql.Identifier(role)))


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Inspects a database; gives what failed, by group and name."""

    def look(dsn: str | dict[str, Any], **sections: Any) -> dict[str, Any]:
        config = load_config(write_config(tmp_path, {"main": dsn}, **sections))
        (inspection,) = build_inspections(config)
        return {f"{c.group} {c.name}": c for c in inspect(inspection) if not c.ok}

    return look


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs the command in this process; gives exit code and output."""

    def verify(databases: dict[str, Any], *flags: str, **sections: Any) -> tuple[int, str]:
        config = write_config(tmp_path, databases, **sections)
        arguments = ["verify", "--config.file", str(config), *flags]
        result = CliRunner(env={"COLUMNS": "160"}).invoke(cli, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return verify


def test_everything_is_well_on_the_reference_platform(
    platform: Platform, verify: Callable[..., tuple[int, str]]
) -> None:
    builders.make_waiting_chat(platform)
    builders.make_assigned_chat(platform)
    builders.make_replied_chat(platform)
    reader = make_reader(platform)

    code, output = verify({"main": platform.dsn_as(reader)}, "--json")

    assert code == 0
    (database,) = json.loads(output)
    checks = {(check["group"], check["name"]): check for check in database["checks"]}
    assert (database["database"], database["ok"]) == ("main", True)
    assert all(check["ok"] and not check["todo"] for check in checks.values())
    assert {name for group, name in checks if group == "contract"} == {
        f"{kind} {name}" for kind, names in CONTRACT.items() for name in names
    }
    states = read_exported()["chatqueue_invalid_chats"][1]["check"]
    assert {name for group, name in checks if group == "states"} == {*states, "distribution"}
    assert {name for group, name in checks if group == "access"} == {*READS, *FUNCTIONS, "public"}
    assert {name for group, name in checks if group == "rows"} == set(READS)
    assert {name for group, name in checks if group == "server"} == {"version", "clock", "pooler"}


def test_a_pooler_in_transaction_mode_is_recognised_and_serves(
    platform: Platform, pgbouncer: PgBouncer, verify: Callable[..., tuple[int, str]]
) -> None:
    code, pooled = verify({"main": pgbouncer.dsn(platform.database)})
    assert code == 0
    assert "a pooler in transaction mode" in pooled

    code, direct = verify({"main": platform.dsn})

    assert code == 0
    assert "direct, or a pooler in session mode" in direct
    assert re.search(r"all \d+ checks passed", direct)


def test_the_list_of_columns_is_what_the_queries_read_and_no_more(
    platform: Platform, tmp_path: Path, look: Look
) -> None:
    reader = make_reader(platform)
    config = load_config(write_config(tmp_path, {"main": platform.dsn_as(reader)}))
    (inspection,) = build_inspections(config)
    plan = inspection.plan
    access = access_request(inspection)
    connection = Connection(plan.dsn)

    def ask(relation: str | None = None) -> tuple[dict[str, str], dict[str, Check]]:
        """Queries that fail, of those that read the relation; and what access says."""
        asks = [
            a
            for a in plan.first_requests
            if relation is None or relation in {need.name for need in a.query.needs}
        ]
        *outcomes, judged = connection.poll([*asks, access], plan.needs, plan.parameters).outcomes
        assert {o.error.reason for o in outcomes if o.error} <= {Reason.PERMISSION}
        return (
            {o.query.name: str(o.error) for o in outcomes if o.error},
            {check.name: check for check in check_access(judged.rows) if not check.ok},
        )

    assert ask() == ({}, {})
    superfluous, unnoticed = [], []
    for relation, columns in READS.items():
        for column in columns:
            revoke(platform, reader, relation, [column])
            failures, failed = ask(relation)
            if not failures:
                superfluous.append(f"{relation}.{column}")
            if set(failed) != {relation} or failed[relation].todo != (
                f"GRANT SELECT ({column}) ON {relation} TO {reader}"
            ):
                unnoticed.append(f"{relation}.{column}")
            grant(platform, reader, relation, [column])
    connection.close()

    assert superfluous == []
    assert unnoticed == []


RIGHTS = {
    "a message's text": (
        "GRANT SELECT (content) ON messages TO {reader}",
        "reader",
        "may do more than it needs: SELECT (content) ON public.messages",
    ),
    "a table of personal data": (
        "GRANT SELECT (id, real_user_id) ON favorites TO {reader}",
        "reader",
        "may do more than it needs: SELECT (id, real_user_id) ON public.favorites",
    ),
    "a reader that writes": (
        "GRANT UPDATE (value) ON platform_config TO {reader}",
        "reader",
        "may do more than it needs: UPDATE (value) ON public.platform_config; no restrictive",
    ),
    "a column more": (
        "GRANT UPDATE (total_messages, name) ON operators TO {releaser}",
        "releaser",
        "may do more than it needs: UPDATE (name) ON public.operators; no restrictive policy",
    ),
    "a table emptied": (
        "GRANT TRUNCATE ON operator_activity TO {releaser}",
        "releaser",
        "may do more than it needs: TRUNCATE ON public.operator_activity",
    ),
    "row-level security switched off": (
        "ALTER TABLE chats DISABLE ROW LEVEL SECURITY",
        "releaser",
        "no restrictive policy bounds its UPDATE ON public.chats",
    ),
    "a policy of an earlier version": (
        'ALTER POLICY "{releaser}_update" ON chat_assignments WITH CHECK (released_at > now())',
        "releaser",
        "no restrictive policy bounds its UPDATE ON public.chat_assignments",
    ),
    "a role that bypasses": ("ALTER ROLE {releaser} BYPASSRLS", "releaser", "bypasses row-level"),
    "a role that makes roles": ("ALTER ROLE {reader} CREATEROLE", "reader", "may make roles"),
    "a member": (
        "CREATE ROLE {releaser}_other; GRANT {releaser}_other TO {releaser}",
        "releaser",
        "is a member of ",
    ),
    **{
        f"no bound of {command} on {table}": (
            f'DROP POLICY "{{releaser}}_{command.lower()}" ON {table}',
            "releaser",
            f"no restrictive policy bounds its {command} ON {table}",
        )
        for table, command in (
            ("public.chats", "UPDATE"),
            ("public.chat_assignments", "UPDATE"),
            ("public.operator_activity", "UPDATE"),
            ("public.operator_activity", "DELETE"),
            ("chatqueue.release_audit", "INSERT"),
        )
    },
}


def make_roles(platform: Platform, *, with_repairs: bool = False) -> tuple[str, dict[str, Any]]:
    """The roles of `chatqueue grants`; the start of their names, and a database for both."""
    name = f"{platform.database}_"
    script = build_grants(f"{name}reader", f"{name}releaser", with_repairs=with_repairs)
    platform.connection.execute(script.encode())
    dsns = {
        "dsn": platform.dsn_as(f"{name}reader"),
        "release_dsn": platform.dsn_as(f"{name}releaser"),
    }
    return name, dsns


@pytest.mark.parametrize("with_repairs", [False, True])
def test_the_printed_roles_may_do_no_more_than_they_need(
    with_repairs: bool, platform: Platform, verify: Callable[..., tuple[int, str]]
) -> None:
    install(platform)
    name, dsns = make_roles(platform, with_repairs=with_repairs)

    code, output = verify({"main": dsns}, "--json")

    (database,) = json.loads(output)
    note = (
        "assign_chat_to_operator(uuid) with the rights of the function's owner, see docs/release.md"
    )
    checks = [check for check in database["checks"] if check["group"] == "rights"]
    assert [(check["name"], check["ok"], check["found"]) for check in checks] == [
        (f"{name}reader", True, "no more than it needs"),
        (f"{name}reader may call", True, note),
        (f"{name}releaser", True, "no more than it needs"),
        (f"{name}releaser may call", True, note),
    ]
    assert code == 0


@pytest.mark.parametrize("what", RIGHTS)
def test_a_role_that_may_do_more_than_it_needs_is_named(
    what: str, platform: Platform, look: Look
) -> None:
    statements, who, expected = RIGHTS[what]
    install(platform)
    name, dsns = make_roles(platform)
    both = {"reader": f"{name}reader", "releaser": f"{name}releaser"}
    for statement in statements.split("; "):
        platform.execute(statement.format(**both))

    failed = look(dsns)

    assert set(failed) == {f"rights {both[who]}"}
    assert failed[f"rights {both[who]}"].found.startswith(expected)
    assert "chatqueue grants" in failed[f"rights {both[who]}"].todo


def test_roles_made_before_our_schema_are_to_be_made_again(platform: Platform, look: Look) -> None:
    """They know of no audit, and so nothing bounds them by it."""
    _, dsns = make_roles(platform)
    assert look(dsns) == {}
    install(platform)

    (failed,) = look(dsns).values()
    assert "bounds its DELETE ON public.operator_activity, UPDATE ON public.chat" in failed.found

    make_roles(platform)
    assert look(dsns) == {}


def test_an_owner_that_watches_is_mentioned_and_one_that_releases_is_a_fault(
    platform: Platform, look: Look, verify: Callable[..., tuple[int, str]]
) -> None:
    code, output = verify({"main": platform.dsn})
    assert code == 0
    assert "is a superuser and may do far more than it needs" in " ".join(output.split())

    owner = builders.make_role(platform, "owner")
    for table in TABLES:
        platform.execute(f"ALTER TABLE {table} OWNER TO {owner}")
    failed = look({"dsn": platform.dsn, "release_dsn": platform.dsn_as(owner)})

    assert set(failed) == {f"rights {owner}"}
    assert failed[f"rights {owner}"].found.startswith("owns public.chat_assignments, public.chats")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_that_may_not_be_executed_is_named(
    function: str, platform: Platform, look: Look
) -> None:
    reader = make_reader(platform)
    platform.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")

    failed = look(platform.dsn_as(reader))

    assert set(failed) == {f"access {function}"}
    assert failed[f"access {function}"].todo == f"GRANT EXECUTE ON FUNCTION {function} TO {reader}"


def test_a_schema_that_may_not_be_used_is_named(platform: Platform, look: Look) -> None:
    reader = make_reader(platform)
    platform.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")

    failed = look(platform.dsn_as(reader))

    assert failed["access public"].todo == f"GRANT USAGE ON SCHEMA public TO {reader}"
    # Nothing in it can be asked; what the catalogues tell still stands.
    assert {name for name in failed if name.startswith(("contract", "rows"))} == set()


@pytest.mark.parametrize("relation", TABLES)
def test_hidden_rows_are_laid_at_the_door_of_their_relation(
    relation: str, platform: Platform, look: Look
) -> None:
    reader = make_reader(platform)
    platform.execute(f"DROP POLICY {reader} ON {relation}")
    drop_open_policies(platform)

    failed = look(platform.dsn_as(reader))

    # The queries that read it cannot be believed then, and say so.
    every = {f"states invalid_{of}" for of in ("chats", "states", "times", "users")}
    dependents = {
        "public.chats": every,
        "public.messages": every,
        "public.chat_assignments": every,
        "public.operators": {"states invalid_chats", "states invalid_times"},
        "public.operator_activity": {"states invalid_times"},
        "public.real_users": {"states invalid_users"},
    }
    assert set(failed) == {f"rows {relation}"} | dependents.get(relation, set())
    assert failed[f"rows {relation}"].found == "row-level security hides rows"


def test_what_is_not_read_in_this_configuration_need_not_be_readable(
    platform: Platform, look: Look
) -> None:
    reader = make_reader(platform)
    platform.execute(f"REVOKE ALL ON public.platform_config FROM {reader}")
    revoke(platform, reader, "public.platform_config", READS["public.platform_config"])
    off = {
        query.name: {"enabled": False}
        for query in whole_plan_of().queries
        if any(need.name == "public.platform_config" for need in query.needs)
    }

    assert set(look(platform.dsn_as(reader))) == {"access public.platform_config"}
    assert look(platform.dsn_as(reader), overrides=off) == {}


def test_a_missing_relation_and_column_are_the_contracts_business(
    platform: Platform, look: Look
) -> None:
    platform.execute("DROP VIEW chat_state_summary")
    platform.execute("ALTER TABLE chats DROP COLUMN operator_replied_at CASCADE")

    failed = look(platform.dsn)

    assert failed["access public.chat_state_summary"].found == "does not exist"
    assert "access public.chats" not in failed
    assert failed["contract view chat_state_summary"].found == "missing"
    assert failed["contract column chats.operator_replied_at"].found == "missing"
    assert failed["states state_summary"].found.startswith("missing: ")


def test_an_impossible_state_is_one_failed_check(platform: Platform, look: Look) -> None:
    chat = builders.make_replied_chat(platform, age_s=900)
    builders.add_message(platform, chat, age_s=600)

    failed = look(platform.dsn)

    assert set(failed) == {"states lost_reply"}
    assert failed["states lost_reply"].found == "1 chat"
    assert "docs/metrics.md" in failed["states lost_reply"].todo


def test_a_backfill_that_never_ran_is_noticed(platform: Platform, look: Look) -> None:
    for _ in range(19):
        builders.make_waiting_chat(platform)
    assert look(platform.dsn) == {}
    builders.make_waiting_chat(platform)

    failed = look(platform.dsn)

    assert set(failed) == {"states distribution"}
    assert failed["states distribution"].found == "20 waiting_assignment"
    assert "backfill" in failed["states distribution"].todo
    builders.make_replied_chat(platform)
    assert look(platform.dsn) == {}


def test_a_state_nobody_knows_is_noticed(platform: Platform, look: Look) -> None:
    builders.add_chat(platform, None)

    failed = look(platform.dsn)

    assert set(failed) == {"states distribution"}
    assert failed["states distribution"].found == "1 unknown"


def test_queries_that_are_switched_off_are_asked_all_the_same(
    platform: Platform, look: Look
) -> None:
    platform.execute("DROP INDEX idx_chats_last_operator")
    off = {name: {"enabled": False} for name in ("contract_objects", "invalid_chats")}

    assert set(look(platform.dsn, overrides=off)) == {"contract index idx_chats_last_operator"}


def test_a_contract_of_ones_own_with_other_columns_is_named(
    platform: Platform, tmp_path: Path, look: Look
) -> None:
    folder = write_query(tmp_path / "own", "contract_objects", "SELECT 1 AS value")

    failed = look(platform.dsn, queries={"dirs": [str(folder)]})

    assert set(failed) == {"contract contract_objects"}
    expected = f"{folder}/contract_objects.sql does not return 'kind'"
    assert failed["contract contract_objects"].found == expected


def test_a_role_with_one_connection_cannot_tell_the_pooler(platform: Platform, look: Look) -> None:
    reader = make_reader(platform)
    platform.execute(f"ALTER ROLE {reader} CONNECTION LIMIT 1")

    failed = look(platform.dsn_as(reader))

    assert set(failed) == {"server pooler"}
    assert "too many connections for role" in failed["server pooler"].found


def test_what_to_do_stands_below_the_table_in_full(
    platform: Platform, verify: Callable[..., tuple[int, str]]
) -> None:
    platform.execute("DROP INDEX idx_chats_operator_replied")

    code, output = verify({"main": platform.dsn})

    assert code == 1
    assert (
        "✗ contract index idx_chats_operator_replied: missing, expected btree"
        " (operator_replied_at) where chat_state = 'waiting_real_user_reply'\n"
        "  → DROP INDEX IF EXISTS public.idx_chats_operator_replied; CREATE INDEX CONCURRENTLY"
        " idx_chats_operator_replied ON public.chats (operator_replied_at)"
        " WHERE chat_state = 'waiting_real_user_reply'\n"
    ) in output
    assert output.count("✗") == 2


def test_a_database_that_does_not_answer_is_the_one_line(
    platform: Platform, verify: Callable[..., tuple[int, str]]
) -> None:
    code, output = verify({"gone": "host=127.0.0.1 port=1", "main": platform.dsn}, "--json")

    assert code == 1
    gone, main_database = json.loads(output)
    assert [check["name"] for check in gone["checks"]] == ["connection"]
    assert "Connection refused" in gone["checks"][0]["found"]
    assert main_database["ok"]


def test_one_database_of_several_is_looked_at_on_request(
    platform: Platform, verify: Callable[..., tuple[int, str]]
) -> None:
    databases = {"gone": "host=127.0.0.1 port=1", "main": platform.dsn}
    code, output = verify(databases, "--json", "--database", "main")

    assert code == 0
    assert [database["database"] for database in json.loads(output)] == ["main"]


def test_an_unknown_database_is_refused(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, {"main": platform.dsn})
    with pytest.raises(SystemExit) as ended:
        main(["verify", "--config.file", str(config), "--database", "other"])

    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "chatqueue: --database other is not configured, expected one of main\n"
    )
