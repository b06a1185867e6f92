"""The two roles of `chatqueue grants`: enough for the whole product, and for nothing else.

The SQL is run as on Supabase, by an owner of the tables who is no superuser, on a platform with
row-level security on every table. What a role may do is tried, not read from catalogues.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.database.session import Session
from exporter.demo.platform import application
from exporter.release.engine import Engine
from exporter.release.facts import Decision
from exporter.release.grants import READER, RELEASER, build_grants
from exporter.release.orders import Order
from exporter.resources import find_resource
from tests import builders
from tests.counting import Watcher
from tests.release import (
    OWN_TABLES,
    TABLES,
    assert_audit_and_releases_agree,
    checksum,
    make_engine,
    make_limits,
    make_stuck_chat,
    observe,
    release,
    state_of,
)
from tests.servers import Platform
from tests.watch import BUILT_IN, run_watch, write_config

Denied = psycopg.errors.InsufficientPrivilege
RELATIONS = (
    *(f"public.{table}" for table in TABLES),
    *(f"chatqueue.{table}" for table in OWN_TABLES),
)
FOLDER = find_resource("deploy") / "postgresql"
AUDITED = (
    *("id", "assignment_id", "chat_id", "operator_id", "outcome", "actor", "daemon", "policy"),
    *("config_hash", "overrides", "evidence"),
)


@dataclass(frozen=True)
class Roles:
    """A platform, and the names of its two roles and of the owner of its tables."""

    platform: Platform
    reader: str
    releaser: str
    owner: str

    def write_config(self, folder: Path, **release: Any) -> Path:
        """A configuration that watches as one role and releases as the other."""
        dsn_as = self.platform.dsn_as
        keys = {"dsn": dsn_as(self.reader), "release_dsn": dsn_as(self.releaser)}
        settings = {
            "mode": "enforce",
            "confirm": {"polls": 1, "for": "0s"},
            "sensor": {"after_restart": "0s"},
            **release,
        }
        return write_config(folder, {"main": keys}, release=settings)

    def try_as(self, role: str, statement: str, values: Any = None) -> str:
        """Try a statement, undo it, and return what came of it: ok, denied or the error."""
        with self.platform.connect(role) as connection:
            connection.execute("SET default_transaction_read_only = off")
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(statement.encode(), values)
            except Denied:
                return "denied"
            except psycopg.Error as error:
                return str(error).partition("\n")[0]
            return "ok"


def give_away(platform: Platform, owner: str) -> None:
    """Make a role that is no superuser the owner of everything, as on Supabase."""
    platform.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE")
    platform.execute(f"GRANT CREATE ON DATABASE {platform.database} TO {owner}")
    platform.execute(f"ALTER SCHEMA public OWNER TO {owner}")
    for kind, name in platform.fetch(
        "SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass::text"
        " FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
        " UNION ALL SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace"
    ):
        platform.execute(f"ALTER {kind} {name} OWNER TO {owner}")


def run_script(platform: Platform, user: str, script: str) -> None:
    """Run a script as psql would."""
    with platform.connect(user) as connection:
        connection.execute(script.encode())


def invoke(config: Path | None, command: str, *arguments: str) -> tuple[int, str]:
    """Run a command of the product; its exit code and output, or the error's words."""
    where = () if config is None else ("--config.file", str(config))
    result = CliRunner().invoke(cli, [command, *where, *arguments], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        return 1, str(result.exception)
    return result.exit_code, result.output


def optional_statements(file: str, word: str) -> str:
    """The SQL that a script's header offers in its comments, that with a word in it."""
    lines = (FOLDER / file).read_text().splitlines()
    offered = "\n".join(line[7:] for line in lines if re.match("--     (?!psql)", line))
    return ";".join(part for part in offered.split(";") if word in part) + ";"


@pytest.fixture
def roles(platform: Platform) -> Roles:
    """What the two commands print, run twice by the owner, for names that need quoting."""
    name = platform.database
    roles = Roles(platform, f"{name}_Reader-1", f"{name}_Releaser-1", f"{name}_owner")
    give_away(platform, roles.owner)
    script = (
        invoke(None, "install")[1]
        + invoke(None, "grants", "--reader", roles.reader, "--releaser", roles.releaser)[1]
    )
    for _ in range(2):
        run_script(platform, roles.owner, script)
    return roles


def samples_of(watcher: Watcher) -> dict[str, float]:
    """Every sample of a page by name and labels."""
    return {
        " ".join((family.name + sample.suffix, *(value for _, value in sample.labels))): (
            sample.value
        )
        for result in watcher.worker.snapshot.results
        for family in result.families
        for sample in family.samples
    }


def live(platform: Platform) -> None:
    """Let every kind of event happen."""
    connection = platform.connection
    operator, other = builders.add_operator(platform), builders.add_operator(platform)
    builders.make_waiting_chat(platform, age_s=7200)
    builders.make_waiting_chat(platform, age_s=30)
    chat = application.assign(connection, operator)
    assert chat is not None
    application.reply(connection, chat, operator, "hello")
    application.write_as_user(connection, chat, "and?")
    taken = application.assign(connection, other)
    assert taken is not None
    application.unassign(connection, taken)
    builders.make_assigned_chat(platform, age_s=7200, heartbeat_s=7200)
    application.run_idle_detector(connection)
    builders.make_replied_chat(platform, age_s=60)
    builders.add_chat(platform, "completed", active=False)


def test_every_built_in_query_gives_the_reader_the_superusers_figures(roles: Roles) -> None:
    platform = roles.platform
    with Watcher(platform, BUILT_IN) as theirs, Watcher(platform, BUILT_IN) as ours:
        ours.change(dsn=platform.dsn_as(roles.reader))
        for watcher in (theirs, ours):
            watcher.poll_well()
        live(platform)
        for watcher in (theirs, ours):
            watcher.poll_well()

        expected, found = samples_of(theirs), samples_of(ours)
        assert set(ours.worker.snapshot.hidden) == {
            (relation, False) for relation, _ in theirs.worker.snapshot.hidden
        }
    assert len(found) > 200
    assert found.keys() == expected.keys()
    # Ages go on between the two polls.
    assert found == pytest.approx(expected, abs=2)
    counts = {key for key in found if "_seconds" not in key and "_ratio" not in key}
    assert {key: found[key] for key in counts} == {key: expected[key] for key in counts}


def test_the_whole_product_runs_with_the_two_roles(roles: Roles, tmp_path: Path) -> None:
    platform = roles.platform
    stuck = make_stuck_chat(platform)
    closing = make_stuck_chat(platform, past_turns=3, silent_s=5000)
    for _ in range(8):
        builders.make_assigned_chat(platform)
    before = checksum(platform)
    config = roles.write_config(tmp_path, mode="observe")

    with run_watch(config) as watch:
        name = "chatqueue_release_decisions_total"
        for decision in ("would_release", "would_close"):
            watch.wait_until(lambda d=decision: watch.value(name, decision=d) == 1)
        assert checksum(platform) == before
        hidden = watch.samples("chatqueue_database_row_security_hidden")
        assert set(hidden.values()) == {0}
        assert set(watch.samples("chatqueue_exporter_query_success").values()) == {1}

        roles.write_config(tmp_path)
        watch.daemon.reload()
        for decision in ("released", "escalated"):
            watch.wait_until(lambda d=decision: watch.value(name, decision=d) == 1)
        assert state_of(platform, stuck) == ("waiting_assignment", True, None)
        assert state_of(platform, closing)[0] == "assigned"

        roles.write_config(tmp_path, on_would_close="requeue")
        watch.daemon.reload()
        watch.wait_until(lambda: watch.value(name, decision="released") == 2)
        assert state_of(platform, closing) == ("waiting_assignment", True, None)
        for decision in ("defect", "error", "refused"):
            assert watch.value(name, decision=decision) == 0
    assert_audit_and_releases_agree(platform)


def test_people_do_everything_with_the_two_roles_but_close(roles: Roles, tmp_path: Path) -> None:
    platform = roles.platform
    stuck, closing = make_stuck_chat(platform), make_stuck_chat(platform, past_turns=3)
    builders.make_assigned_chat(platform)
    config = roles.write_config(tmp_path)
    span = ("--for", "1h", "--by", "ann", "--reason", "why")

    assert invoke(config, "check-config", "--live")[0] == 0
    assert invoke(config, "explain", str(stuck))[0] == 0
    assert invoke(config, "release", str(stuck))[0] == 0
    assert invoke(config, "exempt", "chat", str(stuck), *span)[0] == 0
    assert "exemption: chat until" in invoke(config, "release", str(stuck), "--enforce")[1]
    assert invoke(config, "exempt", "chat", str(stuck), "--for", "1s", *span[2:])[0] == 0
    assert invoke(config, "pause", *span)[0] == 0
    assert "pause: paused for" in invoke(config, "release", str(stuck), "--enforce")[1]
    assert invoke(config, "resume") == (0, "main: not paused\n")
    platform.execute("UPDATE chatqueue.release_exemption SET until = now() - interval '1 s'")
    assert invoke(config, "release", str(stuck), "--enforce")[0] == 0
    (row,) = json.loads(invoke(config, "audit", "--json")[1])
    assert (row["chat"], row["outcome"]) == (str(stuck), "released")
    assert "at version 2, as before" in invoke(config, "install", "--apply")[1]

    close = ("release", str(closing), "--enforce", "--close")
    code, text = invoke(config, *close)
    assert (code, "permission denied for table chats" in text) == (1, True)
    assert state_of(platform, closing)[:2] == ("assigned", True)
    run_script(
        platform, roles.owner, rename(roles, optional_statements("releaser.sql", "is_active"))
    )
    assert invoke(config, *close)[0] == 0
    assert state_of(platform, closing) == ("completed", False, None)


def rename(roles: Roles, statements: str) -> str:
    """Put the roles' own names in."""
    return statements.replace(READER, roles.reader).replace(RELEASER, roles.releaser)


def columns_of(platform: Platform, relation: str) -> list[str]:
    return [
        name
        for (name,) in platform.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
            " AND NOT attisdropped",
            [relation],
        )
    ]


# By command, as "relation.column" or "relation"; whatever is not here is denied.
MAY_WRITE = {
    "INSERT": {
        *(f"chatqueue.release_audit.{c}" for c in AUDITED),
        *(
            f"chatqueue.release_exemption.{c}"
            for c in ("kind", "subject", "until", "created_by", "reason")
        ),
    },
    "UPDATE": {
        *(
            f"public.chats.{c}"
            for c in ("chat_state", "assigned_operator_id", "assignment_time", "updated_at")
        ),
        "public.chat_assignments.released_at",
        "public.chat_assignments.release_reason",
        "public.operator_activity.updated_at",
        *(
            f"chatqueue.release_control.{c}"
            for c in (
                *("paused_until", "pause_reason", "paused_by", "tripped_at", "healthy_since"),
                *("healthy_at", "tokens", "tokens_at"),
            )
        ),
        *(
            f"chatqueue.release_exemption.{c}"
            for c in ("until", "created_at", "created_by", "reason")
        ),
    },
    "DELETE": {"public.operator_activity"},
}
ON_COLUMNS = {
    "INSERT": "INSERT INTO {relation} ({column}) VALUES (DEFAULT)",
    "UPDATE": "UPDATE {relation} SET {column} = DEFAULT WHERE false",
}
ON_RELATIONS = {
    "DELETE": "DELETE FROM {relation} WHERE false",
    "TRUNCATE": "TRUNCATE {relation}",
    "TRIGGER": "CREATE TRIGGER t BEFORE INSERT ON {relation} EXECUTE FUNCTION set_updated_at()",
    "ALTER": "ALTER TABLE {relation} DISABLE ROW LEVEL SECURITY",
    "POLICY": "CREATE POLICY p ON {relation}",
    "DROP": "DROP TABLE {relation}",
    "COPY": "COPY {relation} TO PROGRAM 'true'",
}


@pytest.mark.parametrize("who", ["reader", "releaser"])
def test_a_role_writes_only_where_its_job_is(roles: Roles, who: str) -> None:
    role = getattr(roles, who)
    found: dict[str, set[str]] = {}
    for relation in RELATIONS:
        for column in columns_of(roles.platform, relation):
            for command, text in ON_COLUMNS.items():
                statement = text.format(relation=relation, column=column)
                if roles.try_as(role, statement) != "denied":
                    found.setdefault(command, set()).add(f"{relation}.{column}")
        for command, text in ON_RELATIONS.items():
            outcome = roles.try_as(role, text.format(relation=relation))
            if outcome != "denied":
                found.setdefault(command, set()).add(relation)

    assert found == ({} if who == "reader" else MAY_WRITE)


@pytest.mark.parametrize("who", ["reader", "releaser"])
@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.mine (a integer)",
        "CREATE TABLE chatqueue.mine (a integer)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION pg_trgm",
        "CREATE ROLE mine",
        "SET ROLE {owner}",
        "SET ROLE postgres",
        "GRANT SELECT ON public.chats TO PUBLIC",
        "SELECT content FROM public.messages",
        "SELECT email FROM public.operators",
        "SELECT name FROM public.real_users",
        "SELECT real_user_id FROM public.chats",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('postgresql.conf')",
    ],
)
def test_a_role_makes_and_sees_nothing_that_is_not_its_own(
    roles: Roles, who: str, statement: str
) -> None:
    outcome = roles.try_as(getattr(roles, who), statement.format(owner=roles.owner))

    assert outcome == "denied"


STUCK = "WHERE chat_state = 'assigned'"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE chats SET chat_state = 'completed', assigned_operator_id = NULL {STUCK}",
        "UPDATE chats SET is_active = false",
        f"UPDATE chats SET assignment_time = now() {STUCK}",
        (
            "UPDATE chats SET assigned_operator_id = (SELECT id FROM operators LIMIT 1),"
            " chat_state = 'assigned'"
        ),
        "UPDATE chat_assignments SET released_at = now(), release_reason = 'manual_unassign'",
        "UPDATE chat_assignments SET released_at = NULL, release_reason = 'auto_release:x'",
        "UPDATE operator_activity SET updated_at = now()",
        "UPDATE messages SET content = 'x'",
        "DELETE FROM chats",
        "DELETE FROM chat_assignments",
        "INSERT INTO operator_activity DEFAULT VALUES",
        "UPDATE chatqueue.release_control SET mode_cap = 'enforce'",
        "INSERT INTO chatqueue.release_control DEFAULT VALUES",
        "UPDATE chatqueue.release_audit SET actor = 'nobody'",
        "DELETE FROM chatqueue.release_audit",
        "INSERT INTO chatqueue.release_audit (decided_at) VALUES (now())",
        "DELETE FROM chatqueue.release_exemption",
        "SELECT release_and_reassign_chat(id, 'auto_release:x') FROM chats "
        + STUCK
        + " AND (SELECT count(*) FROM chat_assignments a WHERE a.chat_id = chats.id) > 3",
        "SELECT release_and_reassign_chat(id, 'just so') FROM chats " + STUCK,
    ],
)
def test_the_releaser_does_nothing_but_release(roles: Roles, statement: str) -> None:
    platform = roles.platform
    make_stuck_chat(platform)
    make_stuck_chat(platform, past_turns=3)
    release(platform, make_stuck_chat(platform), breaker_at_least=99)

    assert roles.try_as(roles.releaser, statement) == "denied"


def test_the_past_of_an_assignment_is_out_of_the_releasers_reach(roles: Roles) -> None:
    platform = roles.platform
    builders.make_replied_chat(platform)
    before = checksum(platform)

    with platform.connect(roles.releaser) as connection:
        touched = connection.execute(
            "UPDATE chat_assignments SET release_reason = 'auto_release:x'"
        ).rowcount

    assert touched == 0
    assert checksum(platform) == before


@pytest.mark.parametrize("who", ["reader", "releaser"])
def test_what_public_may_execute_is_said_and_can_be_taken_away(roles: Roles, who: str) -> None:
    platform, role = roles.platform, getattr(roles, who)
    operator = builders.add_operator(platform)
    builders.make_waiting_chat(platform)
    call = f"SELECT assign_chat_to_operator('{operator}')"
    assert roles.try_as(role, call) == "ok"  # SECURITY DEFINER, and granted to PUBLIC

    run_script(platform, roles.owner, optional_statements(f"{who}.sql", "assign_chat"))

    assert roles.try_as(role, call) == "denied"


def test_the_reader_executes_nothing_that_releases(roles: Roles) -> None:
    chat = make_stuck_chat(roles.platform)

    outcome = roles.try_as(roles.reader, "SELECT release_and_reassign_chat(%s, 'x')", [chat])

    assert outcome == "denied"


def test_a_releaser_without_policies_refuses_and_says_why(roles: Roles) -> None:
    platform = roles.platform
    chat = make_stuck_chat(platform)
    policies = platform.fetch(
        "SELECT policyname, schemaname, tablename, cmd FROM pg_policies"
        " WHERE %s = ANY (roles) AND tablename <> 'schema_version' ORDER BY 2, 3, 4",
        [roles.releaser],
    )
    assert len(policies) == 13
    for table in OWN_TABLES:
        platform.execute(f"ALTER TABLE chatqueue.{table} ENABLE ROW LEVEL SECURITY")
    dsn = platform.dsn_as(roles.releaser)
    order = observe_as_superuser(platform, chat)
    for policy, schema, table, command in policies:
        platform.execute(f'DROP POLICY "{policy}" ON {schema}.{table}')
        reason = try_release(dsn, order)
        run_script(platform, roles.owner, build_grants(roles.reader, roles.releaser))
        expected = (
            "release_control has 0 rows"
            if table == "release_control"
            else f"hides rows of {schema}.{table} from role {roles.releaser}"
            if command in ("SELECT", "ALL")
            else f"keeps this role from every {command} of {schema}.{table}"
        )
        assert expected in reason, (table, command)
        assert state_of(platform, chat)[0] == "assigned"

    assert try_release(dsn, order).startswith("no sign of life")


def observe_as_superuser(platform: Platform, chat: UUID) -> Order:
    """An order on what a superuser sees."""
    engine = make_engine(platform)
    order = Order(observe(engine, chat), "enforce")
    engine.session.close()
    return order


def try_release(dsn: str, order: Order) -> str:
    """Order a release as a role; the reason of what came of it."""
    with Session(dsn) as session:
        result = Engine(session, make_limits(), daemon="test").release(order)
    assert result.decision in (Decision.RELEASED, Decision.REFUSED, Decision.ERROR)
    return result.reason


@pytest.mark.newest
def test_every_run_says_only_that_the_schema_is_missing(platform: Platform) -> None:
    said: list[str] = []
    with platform.connect() as connection:
        connection.add_notice_handler(lambda notice: said.append(str(notice.message_primary)))
        for _ in range(2):
            script = build_grants(f"{platform.database}_r", f"{platform.database}_w")
            connection.execute(script.encode())

    assert [text.partition(",")[0] for text in said] == [
        "the schema chatqueue is not installed"
    ] * 2


@pytest.mark.without_schema
def test_without_the_schema_the_releaser_observes(platform: Platform) -> None:
    name = platform.database
    chat = make_stuck_chat(platform)
    for _ in range(2):
        run_script(platform, "postgres", build_grants(f"{name}_r", f"{name}_w"))

    result = release(platform, chat, mode="observe", dsn=platform.dsn_as(f"{name}_w"))

    assert result.decision is Decision.WOULD_RELEASE
    refused = release(platform, chat, dsn=platform.dsn_as(f"{name}_w"))
    assert (refused.decision, "is missing" in refused.reason) == (Decision.REFUSED, True)


@pytest.mark.parametrize(
    "spoil",
    [
        "ALTER ROLE {role} CREATEROLE",
        "ALTER ROLE {role} SUPERUSER",
        "ALTER ROLE {role} NOLOGIN",
        "ALTER TABLE real_users OWNER TO {role}",
        "GRANT {other} TO {role}",
    ],
)
@pytest.mark.parametrize("which", ["r", "w"])
def test_a_role_with_other_work_is_left_as_it_is(
    platform: Platform, spoil: str, which: str
) -> None:
    """A slip such as `--reader postgres` would make the whole application read-only."""
    name = platform.database
    role, other = f"{name}_{which}", f"{name}_other"
    platform.execute(f"CREATE ROLE {other}")
    platform.execute(f"CREATE ROLE {role} LOGIN")
    platform.execute(spoil.format(role=role, other=other))
    before = platform.fetch("SELECT * FROM pg_roles WHERE rolname = %s", [role])

    with pytest.raises(psycopg.errors.RaiseException, match=f"role {role} has other rights"):
        run_script(platform, "postgres", build_grants(f"{name}_r", f"{name}_w"))

    assert platform.fetch("SELECT * FROM pg_roles WHERE rolname = %s", [role]) == before


def test_the_script_gives_up_rather_than_make_the_application_wait(platform: Platform) -> None:
    name = platform.database
    with platform.connect(autocommit=False) as reading:
        reading.execute("SELECT * FROM chats")

        with pytest.raises(psycopg.errors.LockNotAvailable):
            run_script(platform, "postgres", build_grants(f"{name}_r", f"{name}_w"))

    assert platform.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", [f"{name}_r"]) == 0
