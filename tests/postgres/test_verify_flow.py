"""`chatqueue verify --flow`: five steps on rows of its own, of which nothing remains."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner

from exporter.cli import cli
from exporter.database.session import Session
from exporter.demo.platform import application
from exporter.errors import ChatqueueError, DatabaseUnavailable
from exporter.ops.verify.flow import STEPS, Flow, FlowRefused, Play
from exporter.release.grants import build_grants
from tests import builders
from tests.release import checksum, install
from tests.servers import PgBouncer, Platform, clone_platform
from tests.watch import write_config

pytestmark = pytest.mark.newest

STOPS = (*STEPS, "undo")
DSN_FORM = "a postgresql:// URI, its password percent-encoded, or key=value pairs"
ASSIGN = "CREATE OR REPLACE FUNCTION assign_chat_to_operator(p_operator_id uuid) RETURNS uuid"
# Picks a chat as it is told to, and does the rest as the fix does, but for what is left out.
TEMPLATE = """
CREATE OR REPLACE FUNCTION assign_chat_to_operator(p_operator_id uuid) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    v_chat_id uuid;
BEGIN
    SELECT id INTO v_chat_id FROM chats WHERE is_active AND {condition}
    ORDER BY {order} LIMIT 1 FOR UPDATE SKIP LOCKED;
    UPDATE chats SET {state} assignment_time = now(), assigned_operator_id = p_operator_id,
        last_operator_id = p_operator_id
    WHERE id = v_chat_id;
    INSERT INTO chat_assignments (chat_id, operator_id) SELECT v_chat_id, p_operator_id
    WHERE v_chat_id IS NOT NULL;
    {heartbeat}
    RETURN v_chat_id;
END;
$$
"""
SOUND = {
    "condition": "chat_state = 'waiting_assignment' AND last_operator_id IS DISTINCT FROM"
    " p_operator_id",
    "order": "created_at",
    "state": "chat_state = 'assigned',",
    "heartbeat": "INSERT INTO operator_activity (chat_id, operator_id)"
    " SELECT v_chat_id, p_operator_id WHERE v_chat_id IS NOT NULL;",
}
REFUSE = (
    "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN RAISE EXCEPTION 'not allowed'; END$$;"
    " CREATE TRIGGER refuse BEFORE UPDATE ON chats FOR EACH ROW WHEN ({}) EXECUTE FUNCTION refuse()"
)


def old(**changes: str) -> str:
    """The platform's function, in some part as it was before the fix."""
    return TEMPLATE.format(**{**SOUND, **changes})


MEDDLE = (
    "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
    " IF NEW.sender_type = 'real' THEN UPDATE chats SET chat_state = 'waiting_assignment'"
    " WHERE id = NEW.chat_id; END IF; RETURN NEW; END$$;"
    " CREATE TRIGGER meddle AFTER INSERT ON messages FOR EACH ROW EXECUTE FUNCTION meddle()"
)
BROKEN = {
    "the state has no default": (
        "ALTER TABLE chats ALTER chat_state DROP DEFAULT",
        "user writes",
        "chat_state is None, expected waiting_assignment",
    ),
    "the function does not set the state": (
        old(state=""),
        "operator asks",
        "chat_state is waiting_assignment, expected assigned",
    ),
    "the function leaves no heartbeat": (
        old(heartbeat=""),
        "operator asks",
        "heartbeats is 0, expected 1",
    ),
    "the function gives nothing": (
        f"{ASSIGN} LANGUAGE sql SECURITY DEFINER AS 'SELECT NULL::uuid'",
        "operator asks",
        "the operator got no chat, expected the only chat of the flow",
    ),
    "the function fails": (
        f"{ASSIGN} LANGUAGE sql SECURITY DEFINER AS 'SELECT (1 / 0)::text::uuid'",
        "operator asks",
        "division by zero",
    ),
    "a reply is not taken": (
        REFUSE.format("NEW.chat_state = 'waiting_real_user_reply'"),
        "operator replies",
        "not allowed",
    ),
    "the function gives the same chat again": (
        old(condition="assigned_operator_id IS NULL", order="operator_replied_at, created_at"),
        "operator asks again",
        "the operator got the same chat, expected another chat",
    ),
    "the function does not heed who answered last": (
        old(condition="chat_state = 'waiting_assignment'"),
        "operator asks again",
        "the operator got a chat that this operator answered last, expected another chat",
    ),
    "an answer is not taken": (
        REFUSE.format(
            "OLD.chat_state = 'waiting_real_user_reply' AND NEW.chat_state = 'waiting_assignment'"
        ),
        "user replies",
        "not allowed",
    ),
    "an answered chat is changed by something else": (
        MEDDLE,
        "user replies",
        "the chat does not wait for its user any more",
    ),
}


def play(dsn: str, on_step: Any = lambda _: None) -> Play:
    """Play the flow once."""
    with Session(dsn) as session:
        return Flow(session, on_step=on_step).play()


@pytest.fixture
def living(platform: Platform) -> Platform:
    """A platform with real chats that wait, some of them for years."""
    builders.make_waiting_chat(platform, age_s=60)
    builders.make_waiting_chat(platform, age_s=60, created_s=10 * 365 * 86400)
    builders.make_assigned_chat(platform, past_turns=2)
    builders.make_replied_chat(platform)
    builders.add_operator(platform)
    return platform


def test_every_step_passes_and_nothing_remains(living: Platform, pgbouncer: PgBouncer) -> None:
    before = checksum(living)
    for dsn in (living.dsn, pgbouncer.dsn(living.database)):
        result = play(dsn)

        assert [(check.name, check.ok, check.found) for check in result.checks] == [
            ("user writes", True, "waiting_assignment"),
            ("operator asks", True, "assigned"),
            ("operator replies", True, "waiting_real_user_reply"),
            ("operator asks again", True, "another chat, assigned"),
            ("user replies", True, "waiting_assignment"),
        ]
        assert result.sequences == ()
        assert checksum(living) == before


def test_it_passes_where_nothing_waits(platform: Platform) -> None:
    assert all(check.ok for check in play(platform.dsn).checks)


def test_it_passes_with_the_trigger_that_guards_transitions(living: Platform) -> None:
    living.execute(
        "CREATE TRIGGER validate BEFORE UPDATE ON chats FOR EACH ROW"
        " EXECUTE FUNCTION validate_chat_state_transition()"
    )

    result = play(living.dsn)

    assert [check.name for check in result.checks if check.ok] == list(STEPS)


@pytest.mark.parametrize("what", BROKEN)
def test_the_step_that_fails_is_named_and_the_last_one_played(what: str, living: Platform) -> None:
    ddl, step, found = BROKEN[what]
    # Nothing real waits here, so that an old function can only choose among the flow's own.
    living.execute("UPDATE chats SET is_active = false")
    living.connection.execute(ddl.encode())
    before = checksum(living)

    checks = play(living.dsn).checks

    assert [check.name for check in checks] == list(STEPS[: STEPS.index(step) + 1])
    assert [check.ok for check in checks] == [True] * (len(checks) - 1) + [False]
    assert checks[-1].found == found
    assert "migrations" in checks[-1].todo
    assert checksum(living) == before


def test_a_real_chat_that_is_chosen_is_given_back_before_the_statement_ends(
    living: Platform,
) -> None:
    living.connection.execute(old(order="created_at DESC").encode())
    before = checksum(living)
    stops = []

    def stop(name: str) -> None:
        stops.append(name)
        if name == "undo":  # the transaction is still open, and holds nothing of anybody's
            with living.connect() as other, other.transaction():
                other.execute("SELECT id FROM chats FOR UPDATE NOWAIT")
                other.execute("SELECT id FROM operators FOR UPDATE NOWAIT")

    checks = play(living.dsn, stop).checks

    assert stops == ["user writes", "operator asks", "undo"]
    assert not checks[-1].ok
    assert checks[-1].found == (
        "the platform gave a real user's chat, which was given back at once; "
        "expected the one that has waited longest"
    )
    assert checksum(living) == before


def test_a_real_operator_is_not_disturbed_at_any_step(platform: Platform) -> None:
    waiting = [builders.make_waiting_chat(platform, age_s=1000 - n) for n in range(len(STOPS))]
    taken: list[UUID | None] = []
    with platform.connect() as real:
        real.execute("SET lock_timeout = '1ms'")

        def stop(name: str) -> None:
            taken.append(application.assign(real, builders.add_operator(platform)))
            # What real operators and users do with a chat goes on as well.
            application.write_as_user(real, waiting[-1], "still there?")
            assert real.execute("SELECT count(*) FROM chats").fetchone() == (len(waiting),)

        checks = play(platform.dsn, stop).checks

    assert all(check.ok for check in checks)
    assert taken == waiting
    assert platform.value("SELECT count(*) FROM chat_assignments") == len(waiting)


def test_no_real_row_is_locked_at_any_step(living: Platform) -> None:
    def stop(name: str) -> None:
        with living.connect() as other, other.transaction():
            for table in ("chats", "operators", "chat_assignments", "operator_activity"):
                other.execute(f"SELECT id FROM {table} FOR UPDATE NOWAIT".encode())
            for table in ("messages", "real_users", "fictional_users", "platform_config"):
                other.execute(f"SELECT id FROM {table} FOR UPDATE NOWAIT".encode())

    assert all(check.ok for check in play(living.dsn, stop).checks)


@pytest.mark.parametrize("step", STOPS)
def test_nothing_remains_when_the_server_process_is_ended(step: str, living: Platform) -> None:
    before = checksum(living)

    def stop(name: str) -> None:
        if name == step:
            end_players(living)

    if step == "undo":  # every step had passed; what cannot be undone by us, the server undoes
        assert len(play(living.dsn, stop).checks) == len(STEPS)
    else:
        with pytest.raises(DatabaseUnavailable):
            play(living.dsn, stop)

    wait_for_no_player(living)
    assert checksum(living) == before


@pytest.mark.parametrize("step", STOPS)
def test_nothing_remains_when_we_are_killed(step: str, living: Platform) -> None:
    before = checksum(living)
    program = (
        "import sys\n"
        "from exporter.database.session import Session\n"
        "from exporter.ops.verify.flow import Flow\n"
        "def stop(name):\n"
        "    if name == sys.argv[2]:\n"
        "        print('here', flush=True)\n"
        "        sys.stdin.read()\n"
        "Flow(Session(sys.argv[1]), on_step=stop).play()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, living.dsn, step],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        assert players(living) == 1
        process.kill()

    wait_for_no_player(living)
    assert checksum(living) == before


def players(platform: Platform) -> int:
    """Server processes that play the flow there."""
    return platform.value(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'chatqueue-releaser%'"
    )


def end_players(platform: Platform) -> None:
    """End them."""
    assert platform.fetch(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'chatqueue-releaser%'"
    ) == [(True,)]


def wait_for_no_player(platform: Platform) -> None:
    """Wait until the server has noticed."""
    platform.execute("SET statement_timeout = '20s'")
    platform.connection.execute(
        "DO $$BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'chatqueue-releaser%') LOOP PERFORM pg_sleep(0.01);"
        " PERFORM pg_stat_clear_snapshot(); END LOOP; END$$"
    )


def test_a_sequence_that_moves_for_good_is_named(living: Platform) -> None:
    living.execute("ALTER TABLE messages ADD number bigserial")

    assert play(living.dsn).sequences == ("messages_number_seq",)


def refusal(dsn: str) -> str:
    with pytest.raises(FlowRefused) as refused:
        play(dsn)
    return str(refused.value)


def test_the_reading_role_is_refused(living: Platform) -> None:
    role = builders.make_role(living, "reader", policies=True)
    living.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")

    assert refusal(living.dsn_as(role)) == (
        f"role {role} is read-only, as the watching role should be: give release_dsn, or "
        "--dsn-from with the name of a variable that holds the owner's connection string"
    )


def test_a_role_that_may_not_write_is_told_what_it_lacks(living: Platform) -> None:
    role = builders.make_role(living, "reader", policies=True)
    living.execute("REVOKE EXECUTE ON FUNCTION assign_chat_to_operator FROM PUBLIC")

    assert refusal(living.dsn_as(role)) == (
        f"role {role} may not play the flow, it lacks INSERT ON auth.users, "
        "UPDATE ON public.chat_assignments, INSERT ON public.chats, UPDATE ON public.chats, "
        "INSERT ON public.fictional_users, "
        "INSERT ON public.messages, DELETE ON public.operator_activity, "
        "INSERT ON public.operators, INSERT ON public.real_users, USAGE ON SCHEMA auth, "
        "EXECUTE ON FUNCTION public.assign_chat_to_operator(uuid)"
    )


def test_a_role_from_which_rows_are_hidden_is_refused(living: Platform) -> None:
    role = builders.make_role(living, "writer")
    living.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public, auth TO {role}")
    living.execute(f"GRANT USAGE ON SCHEMA auth TO {role}")

    assert refusal(living.dsn_as(role)).startswith(
        f"row-level security hides rows of public.chats from role {role}"
    )


# As docs/verify.md has them; each is needed, and what is said without it.
LEAST = {
    "USAGE ON SCHEMA auth": "USAGE ON SCHEMA auth",
    "INSERT ON auth.users": "INSERT ON auth.users",
    "INSERT ON real_users": "INSERT ON public.real_users",
    "INSERT ON fictional_users": "INSERT ON public.fictional_users",
    "INSERT ON chats": "INSERT ON public.chats",
    "INSERT ON messages": "INSERT ON public.messages",
    "INSERT ON operators": "INSERT ON public.operators",
    "SELECT (id, total_messages), UPDATE (total_messages) ON operators": (
        "permission denied for table operators"
    ),
    "UPDATE ON chats": "UPDATE ON public.chats",
    "SELECT ON chats": "SELECT ON public.chats",
    "SELECT ON chat_assignments": "SELECT ON public.chat_assignments",
    "UPDATE ON chat_assignments": "UPDATE ON public.chat_assignments",
    "SELECT ON operator_activity": "SELECT ON public.operator_activity",
    "DELETE ON operator_activity": "DELETE ON public.operator_activity",
}


def test_a_role_that_bypasses_row_level_security_and_may_write_is_enough(living: Platform) -> None:
    role = builders.make_role(living, "writer", select=False, bypass_rls=True)
    for grant in LEAST:
        living.execute(f"GRANT {grant} TO {role}")
    before = checksum(living)

    assert [check.found for check in play(living.dsn_as(role)).checks if not check.ok] == []
    assert checksum(living) == before

    for grant, lacks in LEAST.items():
        living.execute(f"REVOKE {grant} FROM {role}")
        try:
            failed = [check for check in play(living.dsn_as(role)).checks if not check.ok]
            found = failed[-1].found
            assert "give the role that right" in failed[-1].todo
        except FlowRefused as error:
            found = str(error)
        living.execute(f"GRANT {grant} TO {role}")
        assert lacks in found, grant
    assert checksum(living) == before


@pytest.mark.parametrize(
    "ddl",
    [
        "ALTER TABLE {} ADD extra text NOT NULL",
        "ALTER TABLE {} ADD extra varchar(5) NOT NULL",
        "ALTER TABLE {} ADD extra uuid NOT NULL UNIQUE",
        "ALTER TABLE {} ADD extra numeric(4, 1) NOT NULL, ADD more boolean NOT NULL",
        "ALTER TABLE {} ADD extra timestamptz NOT NULL, ADD more date NOT NULL",
        "ALTER TABLE {} ADD extra jsonb NOT NULL, ADD more text[] NOT NULL",
        "CREATE TYPE mood AS ENUM ('a', 'b'); ALTER TABLE {} ADD extra mood NOT NULL",
        'CREATE DOMAIN words AS text NOT NULL; ALTER TABLE {} ADD "Ex tra" words NOT NULL',
        "ALTER TABLE {} ADD extra int NOT NULL GENERATED ALWAYS AS (1) STORED",
        "ALTER TABLE {} ADD extra bigint NOT NULL GENERATED ALWAYS AS IDENTITY",
    ],
)
def test_columns_that_must_be_given_are_given(ddl: str, platform: Platform) -> None:
    for table in ("auth.users", "real_users", "operators", "fictional_users", "chats", "messages"):
        platform.connection.execute(ddl.partition("ALTER")[0].encode() or b"SELECT 1")
        platform.connection.execute(f"ALTER{ddl.partition('ALTER')[2]}".format(table).encode())
        assert [check.found for check in play(platform.dsn).checks if not check.ok] == []
        platform.execute("DROP TYPE IF EXISTS mood CASCADE")
        platform.execute("DROP DOMAIN IF EXISTS words CASCADE")


NOT_MADE = {
    "a type without a known value": (
        "ALTER TABLE real_users ADD place point NOT NULL",
        (
            "INSERT INTO public.real_users: public.real_users.place must be given, and no value is "
            "known that a point takes"
        ),
    ),
    "another table's row": (
        "ALTER TABLE operators ADD team uuid NOT NULL REFERENCES favorites",
        "INSERT INTO public.operators: insert or update on table",
    ),
    "a rule of its own": (
        "ALTER TABLE real_users ADD extra text NOT NULL CHECK (extra LIKE 'https:%')",
        'INSERT INTO public.real_users: new row for relation "real_users" violates check',
    ),
}


@pytest.mark.parametrize("what", NOT_MADE)
def test_people_that_cannot_be_made_are_said_to_be_that(
    what: str, platform: Platform, tmp_path: Path
) -> None:
    ddl, expected = NOT_MADE[what]
    platform.connection.execute(ddl.encode())
    before = checksum(platform)

    assert refusal(platform.dsn).startswith(f"temporary rows could not be added: {expected}")

    _, (check,) = TestCommand().run(write_config(tmp_path, {"main": platform.dsn}))
    assert (check["name"], check["todo"]) == ("refused", "see docs/verify.md")
    assert checksum(platform) == before


def test_a_platform_without_its_tables_is_refused(living: Platform) -> None:
    living.execute("DROP TABLE operator_activity, messages CASCADE")

    assert refusal(living.dsn) == "public.messages, public.operator_activity does not exist"


def test_a_platform_without_the_function_fails_where_it_is_called(living: Platform) -> None:
    living.execute("DROP FUNCTION assign_chat_to_operator")

    checks = play(living.dsn).checks

    assert checks[-1].name == "operator asks"
    assert "assign_chat_to_operator(uuid) does not exist" in checks[-1].found


def test_a_standby_is_refused(own_platform: Platform) -> None:
    with clone_platform(own_platform.server) as platform:
        server = platform.server
        server.stop()
        (server.data_dir / "standby.signal").touch()
        server.start()
        try:
            assert "standby" in refusal(platform.dsn)
        finally:
            platform.close()
            server.stop()
            (server.data_dir / "standby.signal").unlink(missing_ok=True)
            server.start()


class TestCommand:
    """The command line around it."""

    def run(self, config: Path, *flags: str, **env: str) -> tuple[int, list[dict[str, Any]]]:
        arguments = ["verify", "--config.file", str(config), "--json", "--flow", *flags]
        result = CliRunner(env=env).invoke(cli, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        checks = [check for database in json.loads(result.output) for check in database["checks"]]
        return result.exit_code, [check for check in checks if check["group"] == "flow"]

    def test_it_uses_the_releasing_role(self, living: Platform, tmp_path: Path) -> None:
        install(living)
        reader, releaser = f"{living.database}_r", f"{living.database}_w"
        with living.connect() as owner:
            owner.execute(build_grants(reader, releaser, with_repairs=True).encode())
        config = write_config(tmp_path, {"main": living.dsn_as(reader)})
        before = checksum(living)

        code, refused = self.run(config)
        assert code == 1
        assert [check["name"] for check in refused] == ["refused"]

        code, checks = self.run(config, "--dsn-from", "OWNER_DSN", OWNER_DSN=living.dsn)
        assert code == 0
        assert [check["name"] for check in checks] == [*STEPS, "undone"]
        assert checks[-1]["found"] == "everything"

        dsn = living.dsn_as(releaser)
        config.write_text(
            config.read_text().replace("    dsn:", f"    release_dsn: {dsn}\n    dsn:")
        )
        assert self.run(config) == (code, checks)
        assert checksum(living) == before

    def test_a_sequence_is_mentioned(self, living: Platform, tmp_path: Path) -> None:
        living.execute("ALTER TABLE messages ADD number bigserial")

        _, checks = self.run(write_config(tmp_path, {"main": living.dsn}))

        assert checks[-1]["found"] == "everything but the sequences messages_number_seq"

    def test_a_database_that_does_not_answer_is_said_once_more(
        self, living: Platform, tmp_path: Path
    ) -> None:
        config = write_config(tmp_path, {"main": living.dsn})

        code, checks = self.run(config, "--dsn-from", "GONE", GONE="host=127.0.0.1 port=1")

        assert code == 1
        assert [check["name"] for check in checks] == ["interrupted"]

    @pytest.mark.parametrize(
        ("value", "problem"),
        [
            ("", "is not set, expected a connection string"),
            ("host=a=b ' x", f"not a connection string libpq can read, expected {DSN_FORM}"),
        ],
    )
    def test_a_variable_without_a_connection_string_is_named(
        self, value: str, problem: str, living: Platform, tmp_path: Path
    ) -> None:
        config = write_config(tmp_path, {"main": living.dsn})
        with pytest.raises(ChatqueueError) as error:
            self.run(config, "--dsn-from", "OWNER_DSN", OWNER_DSN=value)

        assert str(error.value) == f"--dsn-from OWNER_DSN: {problem}"

    def test_one_variable_cannot_be_for_several_databases(
        self, living: Platform, tmp_path: Path
    ) -> None:
        config = write_config(tmp_path, {"a": living.dsn, "b": living.dsn})
        with pytest.raises(ChatqueueError, match=r"add --database a\|b$"):
            self.run(config, "--dsn-from", "OWNER_DSN", OWNER_DSN=living.dsn)

    def test_a_variable_without_the_flow_is_a_mistake(
        self, living: Platform, tmp_path: Path
    ) -> None:
        config = write_config(tmp_path, {"main": living.dsn})
        arguments = ["verify", "--config.file", str(config), "--dsn-from", "OWNER_DSN"]
        result = CliRunner().invoke(cli, arguments)

        assert result.exit_code == 2
        assert "--dsn-from is for --flow" in result.output
