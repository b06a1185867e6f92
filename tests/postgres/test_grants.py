"""The two roles of `chatqueue grants`: enough for the whole product, and for nothing else.

The SQL is run as on Supabase, by an owner of the tables who is no superuser, on a platform with
row-level security on every table. What a role may do is tried, not read from catalogues.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.config.resources import find_resource
from exporter.database.session import Session
from exporter.demo.platform import application
from exporter.ops.verify.flow import Flow, FlowRefused
from exporter.ops.verify.rights import Part, load_rights
from exporter.release import schema
from exporter.release.attempt import ReleaseRequest
from exporter.release.facts import Decision
from exporter.release.grants import READER, RELEASER, build_grants
from exporter.release.transaction import Engine
from tests import builders
from tests.counting import Watcher
from tests.release import (
    OWN_TABLES,
    assert_audit_and_releases_agree,
    checksum,
    drop_open_policies,
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
FOLDER = find_resource("deploy") / "postgresql"


@dataclass(frozen=True)
class Roles:
    """A platform, and the names of its roles and of the owner of its tables.

    Attributes:
        person: A releaser that may also do what `fix` and `verify --flow` do.
    """

    platform: Platform
    reader: str
    releaser: str
    person: str
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
            return attempt(connection, (statement, values))[0]


def attempt(connection: psycopg.Connection[Any], *statements: tuple[str, Any]) -> tuple[str, int]:
    """Try statements in one transaction and undo them: what came of them, rows of the last."""
    touched = 0
    try:
        with connection.transaction(force_rollback=True):
            for statement, values in statements:
                touched = connection.execute(statement.encode(), values).rowcount
    except Denied as error:
        # A row that a policy keeps out proves the right, and that it is bounded.
        return ("bounded" if "row-level security" in str(error) else "denied"), 0
    except psycopg.Error as error:
        return str(error).partition("\n")[0], 0
    return "ok", touched


def give_away(platform: Platform, owner: str) -> None:
    """Make a role that is no superuser the owner of everything, as on Supabase."""
    platform.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE")
    platform.execute(f"GRANT CREATE ON DATABASE {platform.database} TO {owner}")
    for namespace in ("public", "auth"):
        platform.execute(f"ALTER SCHEMA {namespace} OWNER TO {owner}")
    for kind, name in platform.fetch(
        "SELECT CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass::text"
        " FROM pg_class WHERE relnamespace::regnamespace::text IN ('public', 'auth')"
        " AND relkind IN ('r', 'v')"
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
    result = CliRunner().invoke(cli, [command, *arguments, *where], env={"COLUMNS": "200"})
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
    roles = Roles(
        platform,
        f"{name}_Reader-1",
        f"{name}_Releaser-1",
        f"{name}_Person-1",
        f"{name}_owner",
    )
    give_away(platform, roles.owner)
    names = ("--reader", roles.reader, "--releaser")
    script = (
        invoke(None, "install")[1]
        + invoke(None, "grants", *names, roles.releaser)[1]
        + invoke(None, "grants", *names, roles.person, "--with-repairs")[1]
    )
    for _ in range(2):
        run_script(platform, roles.owner, script)
    return roles


@pytest.fixture(params=["open to PUBLIC", "closed to PUBLIC"])
def either(roles: Roles, request: pytest.FixtureRequest) -> Roles:
    """The roles on the platform as it is, and on one without its policies for everybody."""
    if request.param != "open to PUBLIC":
        drop_open_policies(roles.platform)
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


def test_the_whole_product_runs_with_the_two_roles(either: Roles, tmp_path: Path) -> None:
    roles, platform = either, either.platform
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


def test_people_do_everything_with_the_two_roles_but_close(either: Roles, tmp_path: Path) -> None:
    roles, platform = either, either.platform
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
    assert "at version 5, as before" in invoke(config, "install", "--apply")[1]

    close = ("release", str(closing), "--enforce", "--close")
    code, text = invoke(config, *close)
    assert (code, "permission denied for table chats" in text) == (1, True)
    assert state_of(platform, closing)[:2] == ("assigned", True)
    run_script(
        platform, roles.owner, rename(roles, optional_statements("releaser.sql", "is_active"))
    )
    assert invoke(config, *close)[0] == 0
    assert state_of(platform, closing) == ("completed", False, None)


def test_people_repair_chats_with_the_printed_roles(either: Roles, tmp_path: Path) -> None:
    """`fix stuck` is a release; the others need what `--with-repairs` gives, and say so."""
    platform = either.platform
    operator = builders.add_operator(platform)

    def make_unsigned() -> UUID:
        chat = builders.add_chat(platform)
        builders.add_assignment(platform, chat, operator, assigned_s=900, released_s=800)
        return chat

    def make_lost() -> UUID:
        chat = builders.make_replied_chat(platform, operator, age_s=700)
        builders.add_message(platform, chat, age_s=600)
        builders.add_assignment(platform, chat, operator, assigned_s=730)
        builders.restore_stamp(platform, chat, 600)
        return chat

    def make_closed() -> UUID:
        chat = make_lost()
        platform.execute("UPDATE chats SET is_active = false WHERE id = %s", [chat])
        builders.restore_stamp(platform, chat, 600)
        return chat

    def make_held() -> UUID:
        return make_stuck_chat(platform)

    makers = {
        "stuck": make_held,
        "last-operator": make_unsigned,
        "requeue": make_lost,
        "reopen": make_closed,
    }
    for repair, make in makers.items():
        chat = make()
        before = checksum(platform)
        for role in (either.releaser, either.person):
            config = replace(either, releaser=role).write_config(tmp_path)
            needs_more = repair == "reopen" and role == either.releaser  # it asks for the user
            code, text = invoke(config, "fix", repair, str(chat))
            assert code == needs_more, (repair, text)
            assert checksum(platform) == before
        config = either.write_config(tmp_path)
        if repair != "stuck":
            code, text = invoke(config, "fix", repair, str(chat), "--apply")
            assert (code, "chatqueue grants --with-repairs" in text) == (1, True), text
            assert checksum(platform) == before
            config = replace(either, releaser=either.person).write_config(tmp_path)
        code, text = invoke(config, "fix", repair, str(chat), "--apply", "--by", "ann")
        assert code == 0, text
        assert state_of(platform, chat) == ("waiting_assignment", True, None)


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


# Of what rights.yaml lists, all else is denied.
PARTS: dict[str, tuple[Part, ...]] = {
    "reader": ("reader",),
    "releaser": ("releaser",),
    "person": ("releaser", "repairs"),
}
ON_COLUMNS = {
    "SELECT": "SELECT {column} FROM {relation} LIMIT 0",
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


@pytest.mark.parametrize("who", PARTS)
def test_a_role_may_do_what_the_list_says_and_nothing_else(roles: Roles, who: str) -> None:
    """Every table, every column, every command is tried."""
    platform = roles.platform
    expected: set[tuple[str, str, str]] = set()
    for privilege, relation, column in load_rights(PARTS[who]):
        everything = column == "*" and privilege not in ON_RELATIONS
        names = columns_of(platform, relation) if everything else [column]
        expected |= {(privilege, relation, name) for name in names}
    relations = platform.fetch(
        "SELECT n.nspname || '.' || c.relname, c.relkind = 'v' FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('public', 'auth', 'chatqueue') AND c.relkind IN ('r', 'v')"
    )
    assert len(relations) > 20

    found: set[tuple[str, str, str]] = set()
    with platform.connect(getattr(roles, who)) as connection:
        connection.execute("SET default_transaction_read_only = off")
        for relation, is_view in relations:
            tries = [
                (command, column, text.format(relation=relation, column=column))
                for command, text in ON_COLUMNS.items()
                for column in columns_of(platform, relation)
                if command == "SELECT" or not is_view  # this one cannot be written through
            ]
            tries += [
                (command, "*", text.format(relation=relation))
                for command, text in ON_RELATIONS.items()
                if not is_view
            ]
            for command, column, statement in tries:
                if attempt(connection, (statement, None))[0] != "denied":
                    found.add((command, relation, column))

    assert found == expected


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
        "SELECT real_profile_notes FROM public.chats",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('postgresql.conf')",
    ],
)
def test_a_role_makes_and_sees_nothing_that_is_not_its_own(
    roles: Roles, who: str, statement: str
) -> None:
    outcome = roles.try_as(getattr(roles, who), statement.format(owner=roles.owner))

    assert outcome == "denied"


def test_the_script_takes_away_what_an_earlier_one_or_a_hand_gave(roles: Roles) -> None:
    platform = roles.platform

    def rights() -> dict[str, Any]:
        return {
            "policies": platform.fetch(
                "SELECT schemaname, tablename, policyname, permissive, cmd, qual, with_check"
                " FROM pg_policies WHERE %s = ANY (roles) ORDER BY 1, 2, 3",
                [roles.releaser],
            ),
            "grants": platform.fetch(
                "SELECT c.oid::regclass::text, a.attname, x.privilege_type"
                " FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid,"
                " LATERAL (SELECT * FROM aclexplode(c.relacl)"
                "   UNION SELECT * FROM aclexplode(a.attacl)) x"
                " WHERE x.grantee = %(role)s::regrole"
                " UNION SELECT p.oid::regprocedure::text, NULL, x.privilege_type"
                " FROM pg_proc p, aclexplode(p.proacl) x WHERE x.grantee = %(role)s::regrole"
                " ORDER BY 1, 2, 3",
                {"role": f'"{roles.releaser}"'},
            ),
        }

    expected = rights()
    run_script(platform, roles.owner, build_grants(roles.reader, roles.releaser, with_repairs=True))
    assert rights() != expected
    for statement in (
        "GRANT ALL ON ALL TABLES IN SCHEMA public, chatqueue TO {role}",
        "GRANT INSERT (content) ON messages TO {role}",
        'CREATE POLICY "an earlier one" ON messages FOR UPDATE TO {role} USING (true)',
    ):
        platform.execute(statement.format(role=f'"{roles.releaser}"'))

    run_script(platform, roles.owner, build_grants(roles.reader, roles.releaser))

    assert rights() == expected


def test_accounts_that_are_not_the_owners_are_left_alone(platform: Platform) -> None:
    """On Supabase auth.users is the host's: the flow then says which right is missing."""
    name = platform.database
    owner, releaser = f"{name}_owner", f"{name}_w"
    give_away(platform, owner)
    for what in ("SCHEMA auth", "TABLE auth.users"):
        platform.execute(f"ALTER {what} OWNER TO postgres")
    with platform.connect(owner) as connection:
        notices: list[str] = []
        connection.add_notice_handler(lambda n: notices.append(str(n.message_primary)))
        connection.execute(schema.build_script().encode())
        connection.execute(build_grants(f"{name}_r", releaser, with_repairs=True).encode())

    assert any(notice.startswith("auth.users is not ours to grant") for notice in notices)
    with Session(platform.dsn_as(releaser)) as session, pytest.raises(FlowRefused) as refused:
        Flow(session).play()
    assert str(refused.value) == (
        f"role {releaser} may not play the flow, it lacks INSERT ON auth.users, "
        "USAGE ON SCHEMA auth"
    )
    chat = make_stuck_chat(platform)
    assert release(platform, chat, dsn=platform.dsn_as(releaser)).decision is Decision.RELEASED


ANY_OPERATOR = "(SELECT id FROM operators LIMIT 1)"
MISUSES = {
    # Tried on a real platform, where each of these five succeeded with policies for PUBLIC.
    "close": "UPDATE chats SET chat_state = 'completed', assigned_operator_id = NULL,"
    " assignment_time = NULL WHERE chat_state = 'assigned'",
    "assign": "UPDATE chats SET chat_state = 'assigned', assignment_time = now(),"
    f" assigned_operator_id = {ANY_OPERATOR} WHERE chat_state = 'waiting_assignment'",
    "end every row": "UPDATE chat_assignments SET released_at = now(),"
    " release_reason = 'manual_unassign'",
    "reopen the past": "UPDATE chat_assignments SET released_at = NULL"
    " WHERE released_at IS NOT NULL",
    "touch heartbeats": "UPDATE operator_activity SET updated_at = now()",
    # And all else that its rights might be used for.
    "deactivate": "UPDATE chats SET is_active = false",
    "reassign": f"UPDATE chats SET assigned_operator_id = {ANY_OPERATOR}"
    " WHERE chat_state = 'assigned'",
    "start the clock anew": "UPDATE chats SET assignment_time = now()"
    " WHERE chat_state = 'assigned'",
    "queue without an audit": "UPDATE chats SET chat_state = 'waiting_assignment',"
    " assigned_operator_id = NULL, assignment_time = NULL",
    "queue what is answered": "UPDATE chats SET chat_state = 'waiting_assignment'"
    " WHERE chat_state = 'waiting_real_user_reply'",
    "forget the state": "UPDATE chats SET chat_state = NULL",
    "stamp": "UPDATE chats SET updated_at = now()",
    "end without an audit": "UPDATE chat_assignments SET released_at = now(),"
    " release_reason = 'auto_release:x'",
    "change a past reason": "UPDATE chat_assignments SET release_reason = 'auto_release:x'"
    " WHERE released_at IS NOT NULL",
    "delete heartbeats": "DELETE FROM operator_activity",
    "release by hand": "SELECT release_and_reassign_chat(id, 'auto_release:x') FROM chats"
    " WHERE chat_state = 'assigned'",
    "close at the limit": "SELECT release_and_reassign_chat(id, 'auto_release:x') FROM chats"
    " WHERE chat_state = 'assigned'"
    " AND (SELECT count(*) FROM chat_assignments a WHERE a.chat_id = chats.id) > 3",
    "release as somebody else": "SELECT release_and_reassign_chat(id, 'manual_unassign')"
    " FROM chats WHERE chat_state = 'assigned'",
    "write a message": "INSERT INTO messages (chat_id, sender_type, content)"
    " SELECT id, 'real', 'x' FROM chats",
    "change a message": "UPDATE messages SET content = 'x'",
    "make an operator": "INSERT INTO operators (id, name, email)"
    " SELECT gen_random_uuid(), 'x', 'x@example.test'",
    "switch operators off": "UPDATE operators SET is_available = false",
    "count messages": "UPDATE operators SET total_messages = 0",
    "make a chat": "INSERT INTO chats (real_user_id, fictional_user_id)"
    " SELECT gen_random_uuid(), gen_random_uuid()",
    "make an assignment": "INSERT INTO chat_assignments (chat_id, operator_id)"
    f" SELECT id, {ANY_OPERATOR} FROM chats",
    "make a heartbeat": f"INSERT INTO operator_activity (chat_id, operator_id)"
    f" SELECT id, {ANY_OPERATOR} FROM chats",
    "delete chats": "DELETE FROM chats",
    "delete assignments": "DELETE FROM chat_assignments",
    "configure": "UPDATE platform_config SET value = '0'",
    "read accounts": "SELECT email FROM auth.users",
    "make an account": "INSERT INTO auth.users (id) VALUES (gen_random_uuid())",
    "raise the cap": "UPDATE chatqueue.release_control SET mode_cap = 'enforce'",
    "a second control row": "INSERT INTO chatqueue.release_control DEFAULT VALUES",
    "rewrite the audit": "UPDATE chatqueue.release_audit SET actor = 'nobody'",
    "empty the audit": "DELETE FROM chatqueue.release_audit",
    "date the audit": "INSERT INTO chatqueue.release_audit (decided_at) VALUES (now())",
    "take exemptions away": "DELETE FROM chatqueue.release_exemption",
    "rewrite the repairs": "UPDATE chatqueue.fix_audit SET actor = 'nobody'",
}


@pytest.mark.parametrize("who", ["releaser", "person"])
def test_no_right_reaches_a_row_that_is_not_being_released(either: Roles, who: str) -> None:
    platform = either.platform
    operator = builders.add_operator(platform)
    builders.make_waiting_chat(platform)
    builders.make_replied_chat(platform)
    builders.add_heartbeat(
        platform, builders.add_chat(platform, "completed", active=False), operator
    )
    make_stuck_chat(platform)
    make_stuck_chat(platform, past_turns=3)
    released = make_stuck_chat(platform)
    release(platform, released, breaker_at_least=99, dsn=platform.dsn_as(either.releaser))
    assert state_of(platform, released)[0] == "waiting_assignment"
    before = checksum(platform)

    with platform.connect(getattr(either, who)) as connection:
        outcomes = {what: attempt(connection, (text, None)) for what, text in MISUSES.items()}

    assert {
        what: outcome
        for what, outcome in outcomes.items()
        if outcome[0] not in ("denied", "bounded") and outcome != ("ok", 0)
    } == {}
    assert checksum(platform) == before


AUDIT = """
INSERT INTO chatqueue.release_audit (id, assignment_id, chat_id, operator_id, outcome, actor,
    daemon, policy, config_hash, evidence)
VALUES (%(audit)s, %(assignment)s, %(chat)s, %(operator)s, %(outcome)s, 'x', 'x', 'x', 'x', '{}')
"""
QUEUE = (
    "UPDATE chats SET chat_state = 'waiting_assignment', assigned_operator_id = NULL,"
    " assignment_time = NULL WHERE id = %(chat)s"
)
END = (
    "UPDATE chat_assignments SET released_at = now(), release_reason = 'auto_release:' || %(audit)s"
    " WHERE id = %(assignment)s"
)
FORGET = "DELETE FROM operator_activity WHERE chat_id = %(chat)s AND operator_id = %(operator)s"
# With an audit row of a chat: by what is asked, whether it is done.
AUDITED_WRITES = {
    "queue the chat": (QUEUE, 1),
    "end its assignment": (END, 1),
    "delete its heartbeat": (FORGET, 1),
    "queue every chat": (QUEUE.replace("id = %(chat)s", "true"), 0),
    "queue another chat": (QUEUE.replace("id = %(chat)s", "id <> %(chat)s"), 0),
    "end every assignment": (END.replace("id = %(assignment)s", "released_at IS NULL"), 0),
    "end it in the past": (END.replace("now()", "now() - interval '1 day'"), 0),
    "end it in the future": (END.replace("now()", "now() + interval '1 day'"), 0),
    "end it for another reason": (END.replace("%(audit)s", "gen_random_uuid()::text"), 0),
    "end it as an admin": (END.replace("auto_release:", "manual_unassign"), 0),
    "delete the heartbeats of others": (FORGET.replace("operator_id =", "operator_id <>"), 0),
    "keep the operator": (QUEUE.replace("assigned_operator_id = NULL,", ""), 0),
    "complete it": (QUEUE.replace("'waiting_assignment'", "'completed'"), 0),
    "close it": (QUEUE.replace("SET ", "SET is_active = false, "), 0),
}


@pytest.mark.parametrize("who", ["releaser", "person"])
def test_an_audit_row_opens_its_own_chat_and_no_other(either: Roles, who: str) -> None:
    platform = either.platform
    chats = [make_stuck_chat(platform) for _ in range(3)]
    for chat in chats:
        builders.add_heartbeat(platform, chat, builders.add_operator(platform))
    waiting, replied = builders.make_waiting_chat(platform), builders.make_replied_chat(platform)
    engine = make_engine(platform)
    seen = [observe(engine, chat) for chat in chats]
    engine.session.close()
    values = {
        "audit": str(uuid4()),
        "assignment": seen[0].assignment_id,
        "chat": chats[0],
        "operator": seen[0].operator_id,
        "outcome": "released",
    }
    (past,) = platform.fetch(
        "SELECT id, operator_id FROM chat_assignments WHERE chat_id = %s", [replied]
    )[0:1]
    false_audits = {
        "another chat's assignment": {"assignment": seen[1].assignment_id},
        "another operator": {"operator": seen[1].operator_id},
        "no assignment": {"assignment": uuid4()},
        "a chat that waits": {"chat": waiting},
        "one that is answered": {"chat": replied, "assignment": past[0], "operator": past[1]},
    }

    with platform.connect(getattr(either, who)) as connection:
        assert attempt(connection, (AUDIT, values)) == ("ok", 1)
        for what, changes in false_audits.items():
            assert attempt(connection, (AUDIT, {**values, **changes})) == ("bounded", 0), what
        for what, (statement, touched) in AUDITED_WRITES.items():
            found = attempt(connection, (AUDIT, values), (statement, values))
            assert found[1] == touched, (what, found)
        # An escalation is no release.
        escalated = {**values, "outcome": "escalated"}
        for statement in (QUEUE, END, FORGET):
            assert attempt(connection, (AUDIT, escalated), (statement, values))[1] == 0
        # Nor is what another transaction wrote, once that is over.
        connection.execute(AUDIT, values)
        for statement in (QUEUE, END, FORGET):
            assert attempt(connection, (statement, values))[1] == 0
    assert state_of(platform, chats[0])[0] == "assigned"


FIX = """
INSERT INTO chatqueue.fix_audit (id, fix, chat_id, actor, reason, before, after)
VALUES (gen_random_uuid(), %(fix)s, %(chat)s, 'x', 'x', %(before)s::jsonb, %(after)s::jsonb)
"""


def test_a_repair_is_bounded_by_what_its_audit_says(either: Roles) -> None:
    platform = either.platform
    operator = builders.add_operator(platform)
    lost = builders.make_replied_chat(platform, operator, age_s=700)
    builders.add_message(platform, lost, age_s=600)
    answered = builders.make_replied_chat(platform, operator)
    before = {
        "is_active": True,
        "chat_state": "waiting_real_user_reply",
        "assigned_operator_id": None,
        "has_assignment_time": False,
        "last_operator_id": str(operator),
        "open_assignments": 0,
    }
    after = {**before, "chat_state": "waiting_assignment"}

    def audit(**changes: Any) -> tuple[str, Any]:
        values: dict[str, Any] = {"fix": "requeue", "chat": lost, "before": before, "after": after}
        values.update(changes)
        states = {key: json.dumps(values[key]) for key in ("before", "after")}
        return FIX, {**values, **states}

    with platform.connect(either.person) as connection:
        assert attempt(connection, audit(), (QUEUE, {"chat": lost})) == ("ok", 1)
        assert attempt(connection, audit(), (QUEUE, {"chat": answered})) == ("bounded", 0)
        for lie in (
            {"before": {**before, "chat_state": "assigned"}},
            {"after": {**after, "is_active": False}},
            {"after": {**after, "chat_state": "completed"}},
            {"after": {**after, "assigned_operator_id": str(operator)}},
            {"fix": "reopen"},
            {"fix": "last-operator"},
            {"chat": answered},
        ):
            assert attempt(connection, audit(**lie)) == ("bounded", 0), lie
        close = ("UPDATE chats SET is_active = false WHERE id = %(chat)s", {"chat": lost})
        assert attempt(connection, audit(), close) == ("bounded", 0)
        for statement in (
            (
                "UPDATE chat_assignments SET released_at = now(), release_reason = 'x'"
                " WHERE chat_id = %(chat)s"
            ),
            "DELETE FROM operator_activity WHERE chat_id = %(chat)s",
        ):
            assert attempt(connection, audit(), (statement, {"chat": lost}))[1] == 0
    with platform.connect(either.releaser) as connection:
        assert attempt(connection, audit()) == ("denied", 0)


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
    drop_open_policies(platform)
    chat = make_stuck_chat(platform)
    policies = platform.fetch(
        "SELECT policyname, schemaname, tablename FROM pg_policies"
        " WHERE %s = ANY (roles) AND permissive = 'PERMISSIVE' AND tablename <> 'schema_version'"
        " ORDER BY 2, 3",
        [roles.releaser],
    )
    assert len(policies) == 9
    for table in OWN_TABLES:
        platform.execute(f"ALTER TABLE chatqueue.{table} ENABLE ROW LEVEL SECURITY")
    platform.execute('DROP POLICY "as granted" ON chatqueue.release_audit')
    dsn = platform.dsn_as(roles.releaser)
    order = observe_as_superuser(platform, chat)
    for policy, namespace, table in policies:
        ((make,),) = platform.fetch(
            "SELECT format('CREATE POLICY %%I ON %%I.%%I TO %%I USING (true) WITH CHECK (true)',"
            " policyname, schemaname, tablename, roles[1]) FROM pg_policies"
            " WHERE (policyname, schemaname, tablename) = (%s, %s, %s)",
            [policy, namespace, table],
        )
        platform.execute(f'DROP POLICY "{policy}" ON {namespace}.{table}')
        reason = try_release(dsn, order)
        platform.execute(make)
        expected = (
            "release_control has 0 rows"
            if table == "release_control"
            else f"hides rows of {namespace}.{table} from role {roles.releaser}"
        )
        assert expected in reason, table
        assert state_of(platform, chat)[0] == "assigned"

    assert try_release(dsn, order).startswith("no sign of life")


@pytest.mark.parametrize(
    ("table", "command"),
    [
        ("chats", "UPDATE"),
        ("chat_assignments", "UPDATE"),
        ("operator_activity", "UPDATE"),
        ("operator_activity", "DELETE"),
    ],
)
def test_what_bars_a_release_is_named_before_it_looks_busy(
    roles: Roles, table: str, command: str
) -> None:
    """A row that may be read and not locked looks as if somebody were writing to it, for ever."""
    platform = roles.platform
    drop_open_policies(platform)
    order = observe_as_superuser(platform, make_stuck_chat(platform))
    dsn = platform.dsn_as(roles.releaser)
    platform.execute(
        f"CREATE POLICY tenants ON {table} AS RESTRICTIVE FOR {command} USING (auth.uid() IS NULL)"
    )

    assert try_release(dsn, order) == (
        f'the restrictive policy "tenants" may keep this role from some {command} of '
        f"public.{table}, expected only those of chatqueue grants"
    )

    platform.execute(f"ALTER POLICY tenants ON {table} USING (true)")
    platform.execute(f'DROP POLICY "{roles.releaser}" ON {table}')
    for letter in {"SELECT", "UPDATE", "DELETE"} - {command}:
        platform.execute(f'CREATE POLICY "{letter}" ON {table} FOR {letter} USING (true)')
    assert try_release(dsn, order) == (
        f"row-level security keeps this role from every {command} of public.{table}, "
        "expected the policy that chatqueue grants prints"
    )


def observe_as_superuser(platform: Platform, chat: UUID) -> ReleaseRequest:
    """An order on what a superuser sees."""
    engine = make_engine(platform)
    order = ReleaseRequest(observe(engine, chat), "enforce")
    engine.session.close()
    return order


def try_release(dsn: str, order: ReleaseRequest) -> str:
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
