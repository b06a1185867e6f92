"""`chatqueue fix`: a repair happens under its lock, with its audit row, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from exporter.cli import main
from exporter.database.session import Session
from exporter.demo.platform import application
from exporter.errors import DatabaseError, DatabaseUnavailable, QueryFailed
from exporter.ops.fix.engine import Fixed, Fixer, FixRefused
from exporter.ops.fix.repairs import LAST_OPERATOR, REOPEN, REQUEUE, Facts, Repair
from exporter.release import admin, schema
from tests import builders, release
from tests.servers import PgBouncer, Platform, clone_platform
from tests.watch import write_config

GRACE_S = 30.0
STEPS = ("lock", "judge", "change", "commit")


@pytest.fixture
def installed(platform: Platform) -> Platform:
    """The platform with our schema."""
    release.install(platform)
    return platform


def make_lost_chat(platform: Platform, *, age_s: float = 600) -> UUID:
    """A chat that waits for its user, who has written and is not heard."""
    chat = builders.make_replied_chat(platform, age_s=age_s + 100)
    builders.add_message(platform, chat, age_s=age_s)
    builders.restore_stamp(platform, chat, age_s)
    return chat


def make_closed_chat(
    platform: Platform, state: str = "waiting_real_user_reply", *, age_s: float | None = 600
) -> UUID:
    """A chat that ended an hour ago, into which its user has written since, or has not."""
    operator = builders.add_operator(platform)
    chat = builders.add_chat(
        platform,
        state,
        active=False,
        created_s=9000,
        last_operator=operator,
        replied_s=3700 if state == "waiting_real_user_reply" else None,
    )
    builders.add_message(platform, chat, age_s=4000)
    builders.add_message(platform, chat, "fictional", age_s=3700, operator=operator)
    builders.add_assignment(
        platform, chat, operator, assigned_s=3900, released_s=3700, reason="operator_sent_message"
    )
    builders.restore_stamp(platform, chat, 3600)
    if age_s is not None:
        builders.add_message(platform, chat, age_s=age_s)
        builders.restore_stamp(platform, chat, age_s)
    return chat


def make_unsigned_chat(platform: Platform, **columns: Any) -> tuple[UUID, UUID]:
    """A chat that was assigned twice and does not say to whom; gives the later operator too."""
    chat = builders.add_chat(platform, created_s=900, updated_s=600, **columns)
    early, late = builders.add_operator(platform), builders.add_operator(platform)
    for operator, assigned_s in ((late, 700), (early, 800)):
        builders.add_assignment(
            platform, chat, operator, assigned_s=assigned_s, released_s=assigned_s - 50
        )
    return chat, late


def apply(dsn: str, repair: Repair, chat: UUID, on_step: Any = lambda _: None) -> Fixed:
    with Session(dsn) as session:
        return Fixer(session, GRACE_S, on_step=on_step).apply(repair, chat, "person test")


def refusal(platform: Platform, repair: Repair, chat: UUID) -> str:
    """Why both the rehearsal and the repair are refused; nothing is changed by either."""
    before = marks(platform)
    with Session(platform.dsn) as session, pytest.raises(FixRefused) as rehearsed:
        Fixer(session, GRACE_S).rehearse(repair, chat)
    with pytest.raises(FixRefused) as applied:
        apply(platform.dsn, repair, chat)
    assert str(rehearsed.value) == str(applied.value)
    assert marks(platform) == before
    return str(applied.value)


def marks(platform: Platform) -> dict[str, Any]:
    """A mark of every row of every table, and of the audit of repairs."""
    return {**release.checksum(platform), "fixes": audits(platform)}


def audits(platform: Platform) -> list[tuple[Any, ...]]:
    return platform.fetch(
        "SELECT fix, chat_id, actor, before, after FROM chatqueue.fix_audit ORDER BY decided_at"
    )


def row_of(platform: Platform, chat: UUID) -> dict[str, Any]:
    (row,) = platform.fetch("SELECT to_jsonb(c) FROM chats c WHERE id = %s", [chat])
    return dict(row[0])


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Columns that changed, but for the one that a trigger stamps at every update."""
    return {k: v for k, v in after.items() if v != before[k] and k != "updated_at"}


def test_a_lost_chat_is_put_into_the_queue(installed: Platform, pgbouncer: PgBouncer) -> None:
    for dsn in (installed.dsn, pgbouncer.dsn(installed.database)):
        chat, other = make_lost_chat(installed), make_lost_chat(installed)
        before, other_before = row_of(installed, chat), row_of(installed, other)

        fixed = apply(dsn, REQUEUE, chat)

        assert changed(before, row_of(installed, chat)) == {"chat_state": "waiting_assignment"}
        assert row_of(installed, other) == other_before
        assert (fixed.before.chat_state, fixed.after.chat_state) == (
            "waiting_real_user_reply",
            "waiting_assignment",
        )
        (*_, audit) = audits(installed)
        assert audit == (
            "requeue",
            chat,
            "person test",
            dict(fixed.before.state),
            dict(fixed.after.state),
        )
        assert installed.value(
            "SELECT count(*) FROM chatqueue.fix_audit WHERE id = %s", [fixed.audit_id]
        )
        # The platform gives it to somebody now.
        operator = builders.add_operator(installed)
        assert application.assign(installed.connection, operator) == chat
        installed.execute("UPDATE chats SET is_active = false")


def test_a_chat_without_a_state_is_put_into_the_queue(installed: Platform) -> None:
    chat = builders.add_chat(installed, None, created_s=600)
    builders.add_message(installed, chat, age_s=600)
    builders.restore_stamp(installed, chat, 600)

    apply(installed.dsn, REQUEUE, chat)

    assert row_of(installed, chat)["chat_state"] == "waiting_assignment"


def test_assignments_that_were_left_open_end_as_the_platform_ends_them(
    installed: Platform,
) -> None:
    chat = make_lost_chat(installed)
    operator = installed.value("SELECT last_operator_id FROM chats WHERE id = %s", [chat])
    builders.add_assignment(installed, chat, operator, assigned_s=700)

    fixed = apply(installed.dsn, REQUEUE, chat)

    assert (fixed.before.open_assignments, fixed.after.open_assignments) == (1, 0)
    assert installed.fetch(
        "SELECT release_reason FROM chat_assignments WHERE chat_id = %s ORDER BY released_at",
        [chat],
    ) == [("operator_sent_message",), ("real_user_replied_after_operator",)]


def test_the_last_operator_is_that_of_the_latest_assignment(installed: Platform) -> None:
    chat, operator = make_unsigned_chat(installed)
    before = row_of(installed, chat)

    apply(installed.dsn, LAST_OPERATOR, chat)

    assert changed(before, row_of(installed, chat)) == {"last_operator_id": str(operator)}
    assert [audit[:3] for audit in audits(installed)] == [("last-operator", chat, "person test")]


REQUEUE_REFUSALS: dict[str, tuple[Callable[[Platform], UUID], str]] = {
    "it is over": (
        lambda p: builders.add_chat(p, "waiting_real_user_reply", active=False, replied_s=900),
        "the chat is over: see chatqueue fix reopen",
    ),
    "it is in the queue": (
        lambda p: builders.make_waiting_chat(p, age_s=600),
        "the chat is in the queue",
    ),
    "it is completed": (
        lambda p: builders.add_chat(p, "completed"),
        "the chat is completed: a person must decide whether it continues",
    ),
    "its operator answered": (
        lambda p: builders.make_replied_chat(p, age_s=600),
        "the last message is the operator's: the user does not wait for an answer",
    ),
    "nobody has written": (
        lambda p: builders.add_chat(p, None, created_s=600),
        "the chat has no message",
    ),
    "it is fresh": (
        lambda p: make_lost_chat(p, age_s=20),
        "the chat was written to less than 30 s ago and may yet come right by itself",
    ),
}


@pytest.mark.parametrize("what", REQUEUE_REFUSALS)
def test_what_is_not_missing_from_the_queue_is_refused(what: str, installed: Platform) -> None:
    make, expected = REQUEUE_REFUSALS[what]

    assert refusal(installed, REQUEUE, make(installed)) == expected


def test_a_chat_that_an_operator_has_is_not_put_into_the_queue(installed: Platform) -> None:
    operator = builders.add_operator(installed)
    chat = builders.make_assigned_chat(installed, operator, age_s=600, heartbeat_s=600)

    assert refusal(installed, REQUEUE, chat) == (
        f"operator {operator} has the chat: see chatqueue fix stuck"
    )


@pytest.mark.parametrize(
    ("whose", "beat_s", "refuses"),
    [
        ("holder", 30, True),
        ("holder", 86_400, False),
        ("earlier", 86_400, False),
        ("earlier", 0, False),
    ],
)
def test_only_a_fresh_heartbeat_of_the_present_holder_says_that_somebody_is_at_work(
    whose: str, beat_s: float, refuses: bool, installed: Platform
) -> None:
    """Rows of earlier holders stay behind for ever; a late beat even makes one again."""
    chat = make_lost_chat(installed)
    holder = builders.add_operator(installed)
    builders.add_assignment(installed, chat, holder, assigned_s=700)
    operator = holder if whose == "holder" else builders.add_operator(installed)
    builders.add_heartbeat(installed, chat, operator, browser_s=beat_s)

    if refuses:
        assert refusal(installed, REQUEUE, chat) == "an operator's browser has the chat open"
    else:
        assert apply(installed.dsn, REQUEUE, chat).after.chat_state == "waiting_assignment"


def test_a_chat_that_was_just_written_to_is_left_alone(installed: Platform) -> None:
    chat = make_lost_chat(installed)
    installed.execute("UPDATE chats SET message_count = 9 WHERE id = %s", [chat])

    assert "less than 30 s ago" in refusal(installed, REQUEUE, chat)


LAST_OPERATOR_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "it is over": ({"active": False}, "the chat is over: no operator will be given it"),
    "never assigned": ({}, "the chat was never assigned to an operator"),
}


@pytest.mark.parametrize("what", LAST_OPERATOR_REFUSALS)
def test_a_last_operator_that_cannot_be_known_is_refused(what: str, installed: Platform) -> None:
    columns, expected = LAST_OPERATOR_REFUSALS[what]

    assert refusal(installed, LAST_OPERATOR, builders.add_chat(installed, **columns)) == expected


def test_a_last_operator_that_is_set_is_never_overwritten(installed: Platform) -> None:
    operator = builders.add_operator(installed)
    chat, _ = make_unsigned_chat(installed, last_operator=operator)

    assert refusal(installed, LAST_OPERATOR, chat) == f"the chat has a last operator, {operator}"


def test_a_chat_whose_operator_its_assignments_do_not_name_is_refused(
    installed: Platform,
) -> None:
    holder = builders.add_operator(installed)
    chat, late = make_unsigned_chat(installed, state="assigned", operator=holder, assigned_s=100)

    assert refusal(installed, LAST_OPERATOR, chat) == (
        f"operator {holder} has the chat, but its latest assignment names {late}: "
        "find out which is right"
    )


def test_a_chat_that_does_not_exist_is_refused(installed: Platform) -> None:
    chat = uuid4()

    assert refusal(installed, REQUEUE, chat) == f"no such chat: {chat}"


@pytest.mark.parametrize("state", ["waiting_real_user_reply", "waiting_assignment", "completed"])
def test_a_closed_chat_that_its_user_has_written_into_is_opened_again(
    state: str, installed: Platform
) -> None:
    chat, other = make_closed_chat(installed, state), make_closed_chat(installed, state)
    before, other_before = row_of(installed, chat), row_of(installed, other)

    fixed = apply(installed.dsn, REOPEN, chat)

    expected = {"is_active": True, "chat_state": "waiting_assignment"}
    if state == "waiting_assignment":
        del expected["chat_state"]
    assert changed(before, row_of(installed, chat)) == expected
    assert row_of(installed, other) == other_before
    assert audits(installed) == [
        ("reopen", chat, "person test", dict(fixed.before.state), dict(fixed.after.state))
    ]
    operator = builders.add_operator(installed)
    assert application.assign(installed.connection, operator) == chat
    assert "the chat is not over" in refusal(installed, REOPEN, chat)


def test_what_the_application_does_to_a_closed_chat_is_repaired(installed: Platform) -> None:
    """A user who writes into it as the application lets him, whichever way it was closed."""
    connection = installed.connection
    for close in ("limit", "answered", "waiting"):
        chat = builders.make_assigned_chat(installed, past_turns=3 if close == "limit" else 0)
        operator = row_of(installed, chat)["assigned_operator_id"]
        if close == "limit":
            assert not application.release(connection, chat, "idle_timeout")
        elif close == "answered":
            application.reply(connection, chat, operator, "bye")
            application.force_close(connection, chat)
        else:
            application.unassign(connection, chat)
            application.force_close(connection, chat)
        assert "has not written since" in refusal_now(installed, chat)
        application.write_as_user(connection, chat, "hello?")

        with Session(installed.dsn) as session:
            fixed = Fixer(session, 0).apply(REOPEN, chat, "person test")

        assert fixed.after.chat_state == "waiting_assignment"
        installed.execute("UPDATE chats SET is_active = false")


def refusal_now(platform: Platform, chat: UUID) -> str:
    """Why a chat is not opened again that may have been written to just now."""
    with Session(platform.dsn) as session, pytest.raises(FixRefused) as refused:
        Fixer(session, 0).rehearse(REOPEN, chat)
    return str(refused.value)


def close_a_waiting_chat(platform: Platform) -> UUID:
    """An admin closes a chat whose user waits: nothing was written after that."""
    chat = builders.make_waiting_chat(platform, age_s=600)
    application.force_close(platform.connection, chat)
    return chat


def make_blocked(platform: Platform) -> UUID:
    chat = make_closed_chat(platform)
    platform.execute("UPDATE real_users SET is_active = false")
    return chat


REOPEN_REFUSALS: dict[str, tuple[Callable[[Platform], UUID], str]] = {
    "it is not over": (make_lost_chat, "the chat is not over"),
    "nobody has written": (
        lambda p: builders.add_chat(p, "completed", active=False, created_s=600),
        "the chat has no message",
    ),
    "its user has not written since": (
        lambda p: make_closed_chat(p, age_s=None),
        "its user has not written since the chat ended",
    ),
    "it was closed while its user waited": (
        close_a_waiting_chat,
        "its user has not written since the chat ended",
    ),
    "its user is blocked": (make_blocked, "its user is blocked"),
    "it is fresh": (
        lambda p: make_closed_chat(p, age_s=20),
        "the user wrote less than 30 s ago and the chat may yet be opened by itself",
    ),
}


@pytest.mark.parametrize("what", REOPEN_REFUSALS)
def test_what_is_not_to_be_opened_again_is_refused(what: str, installed: Platform) -> None:
    make, expected = REOPEN_REFUSALS[what]

    assert refusal(installed, REOPEN, make(installed)) == expected


def user_writes(platform: Platform, chat: UUID) -> None:
    application.write_as_user(platform.connection, chat, "hello?")


def operator_takes_it(platform: Platform, chat: UUID) -> None:
    platform.execute("UPDATE chats SET chat_state = 'waiting_assignment' WHERE id = %s", [chat])
    assert application.assign(platform.connection, builders.add_operator(platform)) == chat


def platform_sets_last_operator(platform: Platform, chat: UUID) -> None:
    operator = builders.add_operator(platform)
    platform.execute("UPDATE chats SET last_operator_id = %s WHERE id = %s", [operator, chat])


RACES: dict[str, tuple[Repair, Callable[[Platform, UUID], None], str]] = {
    "the user writes": (REQUEUE, user_writes, "the chat is in the queue"),
    "an operator takes it": (REQUEUE, operator_takes_it, "has the chat"),
    "somebody sets it": (LAST_OPERATOR, platform_sets_last_operator, "has a last operator"),
}


@pytest.mark.parametrize("what", RACES)
def test_what_changes_between_look_and_lock_is_seen(what: str, installed: Platform) -> None:
    repair, act, expected = RACES[what]
    chat = make_lost_chat(installed)
    if repair is LAST_OPERATOR:
        chat, _ = make_unsigned_chat(installed)
    with Session(installed.dsn) as session:
        Fixer(session, GRACE_S).rehearse(repair, chat)  # it would do

    def race(step: str) -> None:
        if step == "lock":
            act(installed, chat)

    with pytest.raises(FixRefused, match=expected):
        apply(installed.dsn, repair, chat, race)

    assert audits(installed) == []


@pytest.mark.parametrize("step", ["judge", "change", "commit"])
def test_nobody_can_come_between_the_lock_and_the_commit(step: str, installed: Platform) -> None:
    chat = make_lost_chat(installed)
    operator = builders.add_operator(installed)
    with installed.connect() as other:
        other.execute("SET lock_timeout = '1ms'")

        def race(name: str) -> None:
            if name == step:
                for act in (
                    lambda: application.write_as_user(other, chat, "hello?"),
                    lambda: other.execute(
                        "INSERT INTO operator_activity (chat_id, operator_id) VALUES (%s, %s)",
                        [chat, operator],
                    ),
                    lambda: other.execute(
                        "INSERT INTO chat_assignments (chat_id, operator_id) VALUES (%s, %s)",
                        [chat, operator],
                    ),
                ):
                    with pytest.raises(psycopg.errors.LockNotAvailable):
                        act()

        apply(installed.dsn, REQUEUE, chat, race)

    assert len(audits(installed)) == 1


def test_a_chat_that_somebody_writes_to_is_busy(installed: Platform) -> None:
    chat = make_lost_chat(installed)
    with installed.connect() as other, other.transaction():
        other.execute(
            "INSERT INTO messages (chat_id, sender_type, content) VALUES (%s, 'fictional', 'x')",
            [chat],
        )

        with pytest.raises(
            FixRefused, match="another transaction is writing to the chat; try again"
        ):
            apply(installed.dsn, REQUEUE, chat)


@pytest.mark.parametrize("step", STEPS)
def test_a_repair_that_is_cut_off_leaves_nothing(step: str, installed: Platform) -> None:
    chat = make_lost_chat(installed)
    before = marks(installed)

    def cut(name: str) -> None:
        if name == step:
            assert installed.fetch(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database()"
                " AND application_name LIKE 'chatqueue-releaser%'"
            ) == [(True,)]

    with pytest.raises(DatabaseUnavailable) as error:
        apply(installed.dsn, REQUEUE, chat, cut)

    assert marks(installed) == before
    told = "the commit went unanswered (" in str(error.value)
    assert told == (step == "commit")


def test_a_trigger_that_does_something_else_undoes_the_repair(installed: Platform) -> None:
    chat = make_lost_chat(installed)
    installed.connection.execute(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.is_active := false; RETURN NEW; END$$;"
        " CREATE TRIGGER meddle BEFORE UPDATE ON chats FOR EACH ROW EXECUTE FUNCTION meddle()"
    )

    with pytest.raises(FixRefused, match=r"the repair left .*'is_active': False.*, undone"):
        apply(installed.dsn, REQUEUE, chat)

    assert row_of(installed, chat)["is_active"] is True
    assert audits(installed) == []


def test_without_the_table_of_the_audit_nothing_is_repaired(platform: Platform) -> None:
    chat = make_lost_chat(platform)
    with pytest.raises(admin.SchemaMissing, match="is missing, expected version 2"):
        apply(platform.dsn, REQUEUE, chat)
    with Session(platform.dsn) as session:  # a look needs no schema
        assert Fixer(session, GRACE_S).rehearse(REQUEUE, chat).audit_id is None


def test_the_first_version_of_the_schema_is_upgraded(platform: Platform, tmp_path: Path) -> None:
    (first,) = Path(schema.__file__).parent.glob("001_*.sql")
    (tmp_path / first.name).write_text(first.read_text())
    platform.connection.execute(schema.build_script(0, tmp_path).encode())
    chat = make_lost_chat(platform)
    with pytest.raises(admin.SchemaMissing, match="is at version 1, expected version 2"):
        apply(platform.dsn, REQUEUE, chat)
    released = release.make_stuck_chat(platform)
    release.release(platform, released)

    with Session(platform.dsn) as session:
        assert admin.install(session) == (1, schema.VERSION)
        assert len(admin.read_audit(session, 10)) == 1
    apply(platform.dsn, REQUEUE, chat)

    assert len(audits(platform)) == 1
    for table in ("fix_audit", "release_audit"):
        for statement in (f"DELETE FROM chatqueue.{table}", f"TRUNCATE chatqueue.{table}"):
            with pytest.raises(psycopg.Error, match=f"chatqueue.{table} is append-only"):
                platform.execute(statement)


def test_a_role_that_does_not_see_all_rows_repairs_nothing(installed: Platform) -> None:
    chat = make_lost_chat(installed)
    role = builders.make_role(installed, "blind")
    installed.execute(f"GRANT USAGE ON SCHEMA chatqueue TO {role}")
    installed.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA chatqueue, public TO {role}")

    with pytest.raises(FixRefused, match="row-level security hides rows"):
        apply(installed.dsn_as(role), REQUEUE, chat)


def test_a_role_that_may_not_write_repairs_nothing(installed: Platform) -> None:
    chat = make_lost_chat(installed)
    role = builders.make_role(installed, "reader", policies=True)
    installed.execute(f"GRANT USAGE ON SCHEMA chatqueue TO {role}")
    installed.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA chatqueue TO {role}")

    with pytest.raises(QueryFailed, match="permission denied for table chats"):
        apply(installed.dsn_as(role), REQUEUE, chat)
    installed.execute(f"ALTER ROLE {role} SET default_transaction_read_only = on")
    with pytest.raises(FixRefused, match="this role is read-only"):
        apply(installed.dsn_as(role), REQUEUE, chat)
    with Session(installed.dsn_as(role)) as session:
        assert Fixer(session, GRACE_S).rehearse(REQUEUE, chat).after.chat_state == (
            "waiting_assignment"
        )


def test_these_rights_are_enough(installed: Platform) -> None:
    role = builders.make_role(installed, "fixer", select=False, bypass_rls=True)
    for grant in (
        "USAGE ON SCHEMA chatqueue",
        "SELECT ON chatqueue.schema_version",
        "INSERT ON chatqueue.fix_audit",
        (
            "SELECT (id, is_active, chat_state, assigned_operator_id, assignment_time,"
            " last_operator_id, updated_at, real_user_id),"
            " UPDATE (chat_state, assignment_time, last_operator_id, is_active) ON chats"
        ),
        (
            "SELECT (id, chat_id, operator_id, assigned_at, released_at, release_reason,"
            " created_at), UPDATE (released_at, release_reason) ON chat_assignments"
        ),
        "SELECT (chat_id, operator_id, updated_at) ON operator_activity",
        "SELECT (chat_id, sender_type, created_at) ON messages",
        "SELECT (id, is_active) ON real_users",
    ):
        installed.execute(f"GRANT {grant} TO {role}")
    unsigned, _ = make_unsigned_chat(installed)

    apply(installed.dsn_as(role), LAST_OPERATOR, unsigned)
    apply(installed.dsn_as(role), REQUEUE, make_lost_chat(installed))
    apply(installed.dsn_as(role), REOPEN, make_closed_chat(installed))

    assert [audit[0] for audit in audits(installed)] == ["last-operator", "requeue", "reopen"]


def test_a_standby_is_refused(own_platform: Platform) -> None:
    with clone_platform(own_platform.server) as platform:
        release.install(platform)
        chat = make_lost_chat(platform)
        server = platform.server
        server.stop()
        (server.data_dir / "standby.signal").touch()
        server.start()
        try:
            with pytest.raises(FixRefused, match="the server is a standby"):
                apply(platform.dsn, REQUEUE, chat)
        finally:
            platform.close()
            server.stop()
            (server.data_dir / "standby.signal").unlink(missing_ok=True)
            server.start()


def test_another_error_of_the_lock_is_told_as_it_is(installed: Platform) -> None:
    chat = make_lost_chat(installed)

    def drop(step: str) -> None:
        if step == "lock":
            installed.execute("DROP TABLE chats CASCADE")

    with pytest.raises(DatabaseError, match=r'"public\.chats" does not exist'):
        apply(installed.dsn, REQUEUE, chat, drop)


class TestCommand:
    """The command line around it, on the newest version alone."""

    pytestmark = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)

    @pytest.fixture
    def run(
        self, installed: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> Callable[..., tuple[int, str]]:
        # The server of the tests has just been started.
        sensor = {"sensor": {"after_restart": "0s"}}
        config = write_config(tmp_path, {"main": installed.dsn}, release=sensor)

        def run(*arguments: str) -> tuple[int, str]:
            code: Any = 0
            try:
                main(["fix", *arguments, "--config.file", str(config)])
            except SystemExit as ended:
                code = ended.code
            captured = capsys.readouterr()
            return code or 0, captured.out + captured.err

        return run

    def test_without_apply_it_only_shows(
        self, installed: Platform, run: Callable[..., tuple[int, str]]
    ) -> None:
        chat = make_lost_chat(installed)
        operator = installed.value("SELECT last_operator_id FROM chats WHERE id = %s", [chat])
        before = marks(installed)

        assert run("requeue", str(chat)) == (
            0,
            (
                "is_active: yes\n"
                "chat_state: waiting_real_user_reply → waiting_assignment\n"
                "has_assignment_time: no\n"
                "open_assignments: 0\n"
                "assigned_operator_id: none\n"
                f"last_operator_id: {operator}\n"
                "nothing was changed; --apply does it\n"
            ),
        )
        assert marks(installed) == before

        code, text = run("requeue", str(chat), "--apply", "--by", "ann")
        assert code == 0
        assert "done (audit " in text
        assert [audit[2] for audit in audits(installed)] == ["person ann"]
        assert run("requeue", str(chat), "--apply") == (1, "chatqueue: the chat is in the queue\n")

    def test_json_says_the_same(
        self, installed: Platform, run: Callable[..., tuple[int, str]]
    ) -> None:
        chat, operator = make_unsigned_chat(installed)

        code, text = run("last-operator", str(chat), "--json")
        rehearsed = json.loads(text)
        assert (code, rehearsed["applied"], rehearsed["audit"]) == (0, False, None)
        assert rehearsed["before"]["last_operator_id"] is None
        assert rehearsed["after"]["last_operator_id"] == str(operator)

        applied = json.loads(run("last-operator", str(chat), "--json", "--apply")[1])
        assert applied["applied"]
        assert {**applied, "applied": False, "audit": None} == rehearsed

    def test_a_stuck_chat_goes_through_the_guarded_release(
        self, installed: Platform, run: Callable[..., tuple[int, str]]
    ) -> None:
        chat = builders.make_assigned_chat(installed, age_s=1800, heartbeat_s=1800)

        code, text = run("stuck", str(chat))
        assert code == 1
        assert text.startswith("is_active: yes\nchat_state: assigned\n")
        assert "\nno_operator: " in text

        builders.add_operator(installed)
        before = marks(installed)
        code, text = run("stuck", str(chat))
        assert code == 0
        assert "\nwould_release: " in text
        assert marks(installed) == before

        code, text = run("stuck", str(chat), "--apply", "--by", "ann")
        assert code == 0
        assert "\nreleased: " in text
        assert release.state_of(installed, chat)[0] == "waiting_assignment"
        assert installed.fetch("SELECT chat_id, actor FROM chatqueue.release_audit") == [
            (chat, "person ann")
        ]

    def test_several_databases_need_a_name(
        self, installed: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        config = write_config(tmp_path, {"a": installed.dsn, "b": installed.dsn})
        chat = str(make_lost_chat(installed))
        for arguments, found in (
            ((), "is not given"),
            (("--database", "c"), "c is not configured"),
        ):
            with pytest.raises(SystemExit):
                main(["fix", "requeue", chat, "--config.file", str(config), *arguments])
            assert capsys.readouterr().err == (
                f"chatqueue: --database {found}, expected one of a, b\n"
            )


def test_the_facts_of_a_repair_are_those_of_the_audit() -> None:
    facts = Facts(True, None, None, False, None, None, 0, 0, None, None, None)

    assert dict(facts.state) == {
        "is_active": True,
        "chat_state": None,
        "has_assignment_time": False,
        "open_assignments": 0,
        "assigned_operator_id": None,
        "last_operator_id": None,
    }
