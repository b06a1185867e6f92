"""The guarded transaction on a real server: what it does, what it refuses, what it leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from exporter.database.session import Session
from exporter.demo.platform import application
from exporter.errors import QueryFailed
from exporter.release import admin
from exporter.release.attempt import ReleaseRequest, Result
from exporter.release.facts import Decision
from exporter.release.policy import find_suspects
from exporter.release.schema import VERSION, build_script
from exporter.release.transaction import STEPS, Engine
from tests import builders
from tests.release import (
    TABLES,
    as_standby,
    assert_audit_and_releases_agree,
    checksum,
    drop_public_policies,
    install,
    make_engine,
    make_limits,
    make_stuck_chat,
    observe,
    reassign_long_ago,
    release,
    state_of,
)
from tests.servers import PgBouncer, Platform

WAITING = ("waiting_assignment", True, None)


@pytest.fixture(autouse=True)
def _schema(request: pytest.FixtureRequest) -> None:
    if "platform" in request.fixturenames and "without_schema" not in request.keywords:
        install(request.getfixturevalue("platform"))


def test_a_stuck_chat_is_released_and_audited(platform: Platform) -> None:
    chat = make_stuck_chat(platform)

    result = release(platform, chat)

    assert (result.decision, result.outcome) == (Decision.RELEASED, "released")
    assert result.reason.startswith("no sign of life for 30m")
    assert state_of(platform, chat) == WAITING
    assert_audit_and_releases_agree(platform)
    assert platform.fetch(
        "SELECT id, chat_id, outcome, actor, daemon, policy FROM chatqueue.release_audit"
    ) == [(result.audit_id, chat, "released", "daemon", "test", "1")]
    assert platform.value("SELECT tokens FROM chatqueue.release_control") == 4
    assert platform.value("SELECT count(*) FROM operator_activity") == 0


def test_a_missing_heartbeat_row_lets_the_other_signs_decide(platform: Platform) -> None:
    silent = make_stuck_chat(platform, heartbeat=False)
    assert release(platform, silent).decision is Decision.RELEASED

    operator = builders.add_operator(platform)
    writing = make_stuck_chat(platform, operator, heartbeat=False)
    builders.add_message(platform, writing, "fictional", operator=operator, age_s=60)

    assert release(platform, writing).decision is Decision.CHANGED
    assert state_of(platform, writing)[0] == "assigned"


@pytest.mark.parametrize(
    "sign",
    [
        "UPDATE operator_activity SET last_activity = now()",
        "UPDATE operator_activity SET last_activity = now() + interval '1 h'",
        "UPDATE operator_activity SET last_activity = 'infinity'",
        # The trigger stamps updated_at with now().
        "UPDATE operator_activity SET last_activity = last_activity",
        "UPDATE chats SET assignment_time = now()",
        "UPDATE chat_assignments SET assigned_at = now()",
        (
            "INSERT INTO messages (chat_id, sender_type, content, handled_by_operator_id)"
            " SELECT id, 'fictional', 'x', assigned_operator_id FROM chats"
        ),
        (
            "INSERT INTO messages (chat_id, sender_type, content) SELECT id, 'fictional', 'x'"
            " FROM chats"
        ),
    ],
)
def test_any_sign_of_life_keeps_the_chat(platform: Platform, sign: str) -> None:
    chat = make_stuck_chat(platform)
    platform.execute(sign)

    result = release(platform, chat)

    assert result.decision is Decision.CHANGED
    assert result.reason.startswith("silence: ")
    assert state_of(platform, chat)[0] == "assigned"


def test_a_users_message_is_no_sign_of_the_operators_life(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    application.write_as_user(platform.connection, chat, "hello?")

    assert release(platform, chat).decision is Decision.RELEASED


@pytest.mark.parametrize("limit", ["3", "2", "0"])
def test_what_the_platform_would_close_is_escalated_once_and_not_touched(
    platform: Platform, limit: str
) -> None:
    chat = make_stuck_chat(platform, past_turns=3)
    builders.set_config(platform, "max_reassignments", int(limit))
    forbid_the_function(platform)
    before = checksum(platform)

    result = release(platform, chat)

    assert result.decision is Decision.WOULD_CLOSE
    assert "3 past turns, the platform closes at" in result.reason
    assert checksum(platform) == before
    engine = make_engine(platform)
    assert [engine.escalate(result), engine.escalate(result)] == [True, False]
    engine.session.close()
    assert platform.fetch("SELECT outcome FROM chatqueue.release_audit") == [("escalated",)]


def forbid_the_function(platform: Platform) -> None:
    """Make every call of the platform's function show, whatever it would return."""
    platform.execute(
        "CREATE OR REPLACE FUNCTION release_and_reassign_chat("
        "p_chat_id uuid, p_reason text DEFAULT '')"
        " RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END; $$"
    )


def test_a_platform_without_the_setting_closes_at_three(platform: Platform) -> None:
    platform.execute("DELETE FROM platform_config WHERE key = 'max_reassignments'")

    assert release(platform, make_stuck_chat(platform, past_turns=2)).decision is Decision.RELEASED
    third = make_stuck_chat(platform, past_turns=3)
    assert release(platform, third).decision is Decision.WOULD_CLOSE


@pytest.mark.parametrize("value", ["3", None, 3.5, [3], True])
def test_a_setting_that_the_platform_cannot_read_holds(platform: Platform, value: Any) -> None:
    chat = make_stuck_chat(platform)
    builders.set_config(platform, "max_reassignments", value)
    before = checksum(platform)

    for close in ("escalate", "requeue"):
        result = release(platform, chat, on_would_close=close)

        assert result.decision is Decision.UNCLEAR
        assert "expected a whole number" in result.reason
    assert checksum(platform) == before


def test_requeue_leaves_what_a_manual_unassign_leaves(platform: Platform) -> None:
    chat = make_stuck_chat(platform, past_turns=3)
    builders.make_assigned_chat(platform)
    platform.execute("ALTER TABLE chats ADD COLUMN note text DEFAULT 'kept'")
    forbid_the_function(platform)
    note_order_of_writes(platform)
    before = rows_of(platform.connection)
    with platform.connect(autocommit=False) as connection:
        application.unassign(connection, chat, "ours")
        theirs = rows_of(connection)
        their_order = connection.execute(ORDER).fetchall()
        connection.rollback()

    result = release(platform, chat, on_would_close="requeue")

    assert (result.decision, result.outcome) == (Decision.RELEASED, "requeued")
    ours = rows_of(platform.connection)
    assert changes(before, ours, f"auto_release:{result.audit_id}") == changes(
        before, theirs, "ours"
    )
    assert len(changes(before, ours)) == 3  # the chat, its assignment, its heartbeat
    assert platform.fetch(ORDER) == their_order
    assert their_order == [("chats",), ("chat_assignments",), ("operator_activity",)]
    assert application.assign(platform.connection, builders.add_operator(platform)) == chat
    assert_audit_and_releases_agree(platform)


ORDER = "SELECT relation FROM writes ORDER BY number"


def note_order_of_writes(platform: Platform) -> None:
    """Let triggers note which table was written to, in order."""
    platform.execute("CREATE TABLE writes (number serial, relation text)")
    platform.execute(
        "CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO writes (relation) VALUES (TG_TABLE_NAME); RETURN NULL; END; $$"
    )
    for table in ("chats", "chat_assignments", "operator_activity"):
        platform.execute(
            f"CREATE TRIGGER note_write AFTER INSERT OR UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION note_write()"
        )


Rows = dict[tuple[str, str], dict[str, Any]]


def rows_of(connection: Any) -> Rows:
    """Every column of every row of the platform, by table and id."""
    return {
        (table, row["id"]): row
        for table in TABLES
        for (row,) in connection.execute(f"SELECT to_jsonb(t) FROM public.{table} t").fetchall()
    }


def changes(before: Rows, after: Rows, reason: str = "") -> dict[tuple[str, str], Any]:
    """Rows that came, went or changed; what was stamped with the time, and the reason, alike."""
    found: dict[tuple[str, str], Any] = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        row = dict(new) if new is not None else None
        for name, value in (row or {}).items():
            if name in ("updated_at", "released_at") and value != (old or {}).get(name):
                row[name] = "now"  # type: ignore[index]
            elif name == "release_reason" and value == reason:
                row[name] = "the reason"  # type: ignore[index]
        found[key] = row
    return found


@pytest.mark.parametrize("past_turns", [0, 3])
def test_observe_changes_nothing_at_all(platform: Platform, past_turns: int) -> None:
    chat = make_stuck_chat(platform, past_turns=past_turns)
    before = checksum(platform)

    result = release(platform, chat, mode="observe", on_would_close="requeue")

    assert result.decision is Decision.WOULD_RELEASE
    assert result.outcome == ("requeued" if past_turns else "released")
    assert checksum(platform) == before
    assert release(platform, chat, on_would_close="requeue").decision is Decision.RELEASED


@pytest.mark.without_schema
def test_without_the_schema_it_observes_and_enforces_nothing(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    before = checksum(platform)

    observed = release(platform, chat, mode="observe")
    enforced = release(platform, chat)

    assert observed.decision is Decision.WOULD_RELEASE
    assert {f.guard for f in observed.findings if "without the schema" in f.value} == {
        *("mode", "pause", "exemption", "once", "per_chat", "cooldown", "rate")
    }
    assert enforced.decision is Decision.REFUSED
    assert "the schema chatqueue is missing" in enforced.reason
    assert checksum(platform) == before
    with Session(platform.dsn) as session, pytest.raises(admin.SchemaMissing, match="install"):
        admin.require_schema(session)


@pytest.mark.parametrize(
    ("spoil", "decision", "words"),
    [
        ("UPDATE chatqueue.release_control SET mode_cap = 'observe'", Decision.PAUSED, "mode"),
        (
            (
                "UPDATE chatqueue.release_control SET paused_until = now() + interval '1 h',"
                " paused_by = 'ann', pause_reason = 'deploy'"
            ),
            Decision.PAUSED,
            "by ann: deploy",
        ),
        ("UPDATE chatqueue.release_control SET tripped_at = now()", Decision.BREAKER, "trip"),
        (
            "UPDATE chatqueue.release_control SET tokens = 0.5, tokens_at = now()",
            Decision.OVER_LIMIT,
            "0.50 releases left",
        ),
        (
            (
                "INSERT INTO chatqueue.release_exemption SELECT 'chat', id, now() + interval '1 h',"
                " now(), 'ann', 'vip' FROM chats"
            ),
            Decision.EXEMPT,
            "by ann: vip",
        ),
        (
            (
                "INSERT INTO chatqueue.release_exemption SELECT 'operator', assigned_operator_id,"
                " now() + interval '1 h', now(), 'ann', 'ill' FROM chats"
            ),
            Decision.EXEMPT,
            "by ann: ill",
        ),
        ("UPDATE operators SET is_available = false", Decision.NO_OPERATOR, "0 other operators"),
        (
            (
                "INSERT INTO chat_assignments (chat_id, operator_id)"
                " SELECT id, assigned_operator_id FROM chats"
            ),
            Decision.CHANGED,
            "open assignment",
        ),
        (
            (
                "UPDATE chat_assignments SET operator_id = (SELECT id FROM operators WHERE id <>"
                " chat_assignments.operator_id LIMIT 1)"
            ),
            Decision.CHANGED,
            "episode",
        ),
        ("UPDATE chats SET assignment_time = NULL", Decision.CHANGED, "episode"),
    ],
)
def test_each_refusal_leaves_everything(
    platform: Platform, spoil: str, decision: Decision, words: str
) -> None:
    chat = make_stuck_chat(platform)
    platform.execute(spoil)
    before = checksum(platform)

    result = release(platform, chat)

    assert result.decision is decision
    assert words in result.reason
    assert checksum(platform) == before


def make_reassigned_chat(platform: Platform, *, back: bool = False, **options: Any) -> UUID:
    """Make a chat that an admin gave to another operator, or back again, who then vanished."""
    first, second = builders.add_operator(platform), builders.add_operator(platform)
    chat = make_stuck_chat(platform, first, **options)
    for operator in (second, first) if back else (second,):
        reassign_long_ago(platform.connection, chat, operator)
    return chat


OPEN = "SELECT id, operator_id, assigned_at FROM chat_assignments WHERE released_at IS NULL"


@pytest.mark.parametrize("closing", ["released", "requeued"])
def test_the_row_that_an_admins_reassignment_left_open_bars_no_release_and_stays(
    platform: Platform, closing: str
) -> None:
    past_turns = 0 if closing == "released" else 3
    chat = make_reassigned_chat(platform, past_turns=past_turns)
    observed = make_observation(platform)
    before = set(platform.fetch(OPEN))

    result = release(platform, chat, on_would_close="requeue")

    assert (result.decision, result.outcome) == (Decision.RELEASED, closing)
    assert state_of(platform, chat) == WAITING
    (closed,) = before - set(platform.fetch(OPEN))
    assert closed[:2] == (observed.assignment_id, observed.operator_id)
    assert len(platform.fetch(OPEN)) == 1  # the superseded row
    assert_audit_and_releases_agree(platform)
    assert (observed.open_assignments, observed.superseded_assignments) == (2, 1)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param("UPDATE {q} SET release_reason = 'manual_unassign' {where}", id="reason"),
        pytest.param(
            "UPDATE {q} SET released_at = (SELECT min(assigned_at) FROM {q}) - interval '1 s'"
            " {where}",
            id="time",
        ),
        pytest.param("UPDATE {q} SET released_at = NULL {where}", id="open copy"),
        pytest.param("UPDATE {q} SET operator_id = {holder} {where}", id="operator"),
        pytest.param("DELETE FROM {q} {where}", id="no copy"),
    ],
)
def test_a_second_open_row_that_no_admin_superseded_leaves_the_chat_to_a_person(
    platform: Platform, spoil: str
) -> None:
    chat = make_reassigned_chat(platform)
    where = "WHERE starts_with(release_reason, 'manual_reassignment_by_admin:')"
    holder = "(SELECT assigned_operator_id FROM chats)"
    platform.execute(spoil.format(q="chat_assignments", holder=holder, where=where))
    before = checksum(platform)

    result = release(platform, chat)

    assert result.decision is Decision.CHANGED
    assert "episode" in result.reason or "not the one observed" in result.reason
    assert checksum(platform) == before


def test_several_open_rows_of_the_holder_are_left_to_a_person(platform: Platform) -> None:
    """For the platform's release closes them all, and one of them is another's episode."""
    chat = make_reassigned_chat(platform, back=True)
    before = checksum(platform)

    for closing in ("escalate", "requeue"):
        result = release(platform, chat, on_would_close=closing)

        assert result.decision is Decision.CHANGED
    assert checksum(platform) == before
    assert make_observation(platform).bar == "several_open_assignments"
    assert make_observation(platform).superseded_assignments == 1


def test_with_life_input_an_open_tab_is_no_sign_and_input_is(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    platform.execute("UPDATE operator_activity SET last_activity = last_activity")  # a beat
    assert release(platform, chat).decision is Decision.CHANGED

    assert release(platform, chat, mode="observe", life="input").decision is Decision.WOULD_RELEASE
    platform.execute("UPDATE operator_activity SET last_activity = now() - interval '1 min'")
    result = release(platform, chat, life="input")

    assert result.decision is Decision.CHANGED
    assert result.reason == "silence: no sign of life for 1m, stuck after 15m"
    engine = make_engine(platform, life="input")
    signs = engine.explain(ReleaseRequest(observe(engine, chat), "enforce"))[-1]
    engine.session.close()
    assert signs.guard == "signs"
    assert signs.value.startswith("of a person: assignment 30m")
    assert signs.value.endswith("which does not count (life: input)")


def test_a_control_row_that_is_gone_is_no_permission(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    order = ReleaseRequest(make_observation(platform), "enforce")
    platform.execute("DELETE FROM chatqueue.release_control")
    engine = make_engine(platform)

    result = engine.release(order)

    engine.session.close()
    assert result.decision is Decision.ERROR
    assert "release_control has 0 rows, expected 1" in result.reason
    assert state_of(platform, chat)[0] == "assigned"


def test_an_expired_pause_or_exemption_holds_nothing(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    platform.execute(
        "UPDATE chatqueue.release_control SET paused_until = now() - interval '1 s',"
        " paused_by = 'ann', pause_reason = 'deploy'"
    )
    platform.execute(
        "INSERT INTO chatqueue.release_exemption"
        " SELECT 'chat', id, now() - interval '1 s', now(), 'ann', 'vip' FROM chats"
    )

    assert release(platform, chat).decision is Decision.RELEASED


def test_many_stuck_chats_are_an_outage(platform: Platform) -> None:
    chats = [make_stuck_chat(platform) for _ in range(3)]
    builders.make_assigned_chat(platform)

    result = release(platform, chats[0])

    assert result.decision is Decision.BREAKER
    assert result.reason.startswith("breaker: 3 of 4 assigned chats look stuck")


def test_two_stuck_chats_of_two_are_a_dead_sensor(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    make_stuck_chat(platform)

    result = release(platform, chat)

    assert result.decision is Decision.SENSOR
    assert "last heartbeat 30m ago, 2 chats assigned" in result.reason


def test_heartbeats_that_nobody_sends_are_a_dead_sensor(platform: Platform) -> None:
    chat = make_stuck_chat(platform, heartbeat=False)
    make_stuck_chat(platform, heartbeat=False)

    assert "no heartbeat at all" in release(platform, chat).reason


def test_a_server_that_has_just_started_holds(platform: Platform) -> None:
    chat = make_stuck_chat(platform)

    result = release(platform, chat, after_restart_s=86_400.0)

    assert result.decision is Decision.SENSOR
    assert "the server is up for" in result.reason


@pytest.mark.parametrize(
    ("reason", "is_job"),
    [
        ("idle_timeout", True),
        ("idle_timeout - max reassignments reached", True),
        ("operator_idle_timeout", False),  # the operator's own page
    ],
)
def test_another_releaser_at_work_holds_unless_allowed(
    platform: Platform, reason: str, is_job: bool
) -> None:
    chat = make_stuck_chat(platform)
    builders.add_assignment(
        platform,
        builders.make_waiting_chat(platform),
        builders.add_operator(platform),
        assigned_s=900,
        released_s=300,
        reason=reason,
    )

    if is_job:
        assert release(platform, chat).decision is Decision.IDLE_DETECTOR
    assert release(platform, chat, mode="observe").decision is Decision.WOULD_RELEASE
    assert release(platform, chat, alongside_idle_detector=True).decision is Decision.RELEASED


def test_a_chat_is_left_alone_after_a_release_and_then_for_a_human(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = make_stuck_chat(platform, operator)
    builders.set_config(platform, "max_reassignments", 99)

    def stick() -> None:
        """Let the chat be assigned again, long ago."""
        taken = application.assign(platform.connection, operator)
        assert taken == chat
        platform.execute("UPDATE chats SET assignment_time = now() - interval '30 min'")
        platform.execute(
            "UPDATE chat_assignments SET assigned_at = now() - interval '30 min'"
            " WHERE released_at IS NULL"
        )
        platform.execute("DELETE FROM operator_activity")

    decisions = []
    for cooldown_s in (3600.0, 3600.0, 0.0, 0.0):
        if state_of(platform, chat)[0] != "assigned":
            stick()
        decisions.append(release(platform, chat, cooldown_s=cooldown_s).decision)

    assert decisions == [
        Decision.RELEASED,
        Decision.COOLING_DOWN,
        Decision.RELEASED,
        Decision.OVER_LIMIT,
    ]
    assert_audit_and_releases_agree(platform)


def test_the_rate_holds_across_engines(platform: Platform) -> None:
    decisions = []
    for _ in range(4):
        chat = make_stuck_chat(platform)
        decisions.append(release(platform, chat, burst=3.0, breaker_at_least=99).decision)

    assert decisions == [Decision.RELEASED] * 3 + [Decision.OVER_LIMIT]


def test_a_person_overrides_limits_by_name_and_never_the_proof(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    platform.execute("UPDATE operators SET is_available = false")
    assert release(platform, chat).decision is Decision.NO_OPERATOR

    living = builders.make_assigned_chat(platform)
    overrides = frozenset({"silence", "closing", "pause", "free_operator"})
    assert release(platform, living, overrides=overrides).decision is Decision.CHANGED
    closing = make_stuck_chat(platform, past_turns=3)
    assert release(platform, closing, overrides=overrides).decision is Decision.WOULD_CLOSE

    result = release(platform, chat, overrides=frozenset({"free_operator"}), actor="ann")

    assert result.decision is Decision.RELEASED
    assert platform.fetch("SELECT actor, overrides FROM chatqueue.release_audit") == [
        ("ann", ["free_operator"])
    ]


def test_a_person_may_close_a_chat_and_only_with_close(platform: Platform) -> None:
    chat = make_stuck_chat(platform, past_turns=3)

    result = release(platform, chat, closes=True, actor="ann")

    assert (result.decision, result.outcome) == (Decision.RELEASED, "closed")
    assert state_of(platform, chat) == ("completed", False, None)
    assert platform.fetch("SELECT outcome, actor FROM chatqueue.release_audit") == [
        ("closed", "ann")
    ]


@pytest.mark.parametrize(
    "body",
    [
        "RETURN false;",
        "RETURN NULL;",
        "RETURN true;",
        "RAISE EXCEPTION 'Chat is not currently assigned';",
        (
            "UPDATE chats SET chat_state = 'waiting_assignment', assigned_operator_id = NULL,"
            " assignment_time = NULL WHERE id = p_chat_id; RETURN true;"
        ),
        (
            "UPDATE chats SET chat_state = 'completed', is_active = false, assigned_operator_id ="
            " NULL, assignment_time = NULL WHERE id = p_chat_id; UPDATE chat_assignments SET"
            " released_at = now(), release_reason = p_reason WHERE chat_id = p_chat_id;"
            " RETURN true;"
        ),
    ],
)
def test_a_function_that_does_anything_else_is_undone_and_a_defect(
    platform: Platform, body: str
) -> None:
    chat = make_stuck_chat(platform)
    platform.execute(
        "CREATE OR REPLACE FUNCTION release_and_reassign_chat("
        "p_chat_id uuid, p_reason text DEFAULT '')"
        f" RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {body} END; $$"
    )
    before = checksum(platform)

    result = release(platform, chat)

    assert result.decision is Decision.DEFECT
    assert checksum(platform) == before


def test_a_limit_lowered_at_the_last_moment_closes_nothing(platform: Platform) -> None:
    chat = make_stuck_chat(platform, past_turns=2)

    def lower(step: str) -> None:
        if step == "release":
            builders.set_config(platform, "max_reassignments", 2)

    result = release(platform, chat, on_step=lower)

    assert result.decision is Decision.DEFECT
    assert state_of(platform, chat)[:2] == ("assigned", True)
    assert_audit_and_releases_agree(platform)


def test_everything_works_through_a_transaction_pooler(
    platform: Platform, pgbouncer: PgBouncer
) -> None:
    chat = make_stuck_chat(platform)
    dsn = pgbouncer.dsn(platform.database)

    observed = release(platform, chat, dsn=dsn, mode="observe")
    released = release(platform, chat, dsn=dsn)

    assert observed.decision is Decision.WOULD_RELEASE
    assert released.decision is Decision.RELEASED
    assert_audit_and_releases_agree(platform)


@pytest.mark.parametrize("blind_to", ["chats", "messages", "operator_activity", "platform_config"])
def test_a_role_that_does_not_see_every_row_decides_nothing(
    platform: Platform, blind_to: str
) -> None:
    make_stuck_chat(platform)
    drop_public_policies(platform)
    role = builders.make_role(platform, "releaser", policies=True)
    platform.execute(f"DROP POLICY {role} ON {blind_to}")
    engine = make_engine(platform, dsn=platform.dsn_as(role))

    with pytest.raises(QueryFailed, match=f"row-level security hides rows of public.{blind_to}"):
        engine.scan()

    seeing = make_engine(platform)
    look, _ = seeing.scan()
    platform.execute(f"GRANT ALL ON SCHEMA chatqueue TO {role}")
    platform.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA chatqueue TO {role}")
    result = engine.release(ReleaseRequest(look.chats[0], "enforce"))
    assert result.decision is Decision.REFUSED
    assert f"hides rows of public.{blind_to}" in result.reason
    engine.session.close()
    seeing.session.close()


LOCKED = {
    ("chats", "UPDATE"),
    ("chat_assignments", "UPDATE"),
    ("operator_activity", "UPDATE"),
    ("operator_activity", "DELETE"),
}


def make_writer(platform: Platform) -> str:
    """Make a role with every right and every policy that a release needs."""
    role = builders.make_role(platform, "writer", policies=True)
    for schema in ("public", "chatqueue"):
        platform.execute(f"GRANT ALL ON SCHEMA {schema} TO {role}")
        platform.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
    for table, command in LOCKED:
        platform.execute(f"CREATE POLICY {command} ON {table} FOR {command} TO {role} USING (true)")
    return role


@pytest.mark.parametrize(("table", "command"), sorted(LOCKED))
def test_a_row_that_may_be_read_and_not_locked_is_not_taken_for_busy(
    platform: Platform, table: str, command: str
) -> None:
    chat = make_stuck_chat(platform)
    drop_public_policies(platform)
    role = make_writer(platform)
    platform.execute(f"DROP POLICY {command} ON {table}")
    before = checksum(platform)

    result = release(platform, chat, dsn=platform.dsn_as(role))

    assert result.decision is Decision.REFUSED
    assert f"keeps this role from every {command} of public.{table}" in result.reason
    assert checksum(platform) == before
    platform.execute(f"CREATE POLICY {command} ON {table} FOR ALL USING (true)")
    assert release(platform, chat, dsn=platform.dsn_as(role)).decision is Decision.RELEASED


@pytest.mark.parametrize("table", ["release_exemption", "release_audit"])
def test_an_exemption_or_a_past_release_that_is_hidden_is_not_taken_for_none(
    platform: Platform, table: str
) -> None:
    chat = make_stuck_chat(platform)
    role = make_writer(platform)
    platform.execute(f"ALTER TABLE chatqueue.{table} ENABLE ROW LEVEL SECURITY")

    result = release(platform, chat, dsn=platform.dsn_as(role))

    assert result.decision is Decision.REFUSED
    assert f"hides rows of chatqueue.{table} from role {role}" in result.reason
    assert state_of(platform, chat)[0] == "assigned"


def test_a_role_without_rights_is_told_so(platform: Platform) -> None:
    make_stuck_chat(platform)
    role = builders.make_role(platform, "reader", policies=True)
    engine = make_engine(platform, dsn=platform.dsn_as(role))

    result = engine.release(ReleaseRequest(make_observation(platform), "enforce"))

    engine.session.close()
    assert result.decision is Decision.ERROR
    assert "permission denied for table release_control" in result.reason


def make_observation(platform: Platform) -> Any:
    """What a superuser's scan says of the one chat."""
    engine = make_engine(platform)
    look, _ = engine.scan()
    engine.session.close()
    return look.chats[0]


def test_a_read_only_server_is_refused(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    platform.execute(f"ALTER DATABASE {platform.database} SET default_transaction_read_only = on")

    result = release(platform, chat)

    assert result.decision is Decision.REFUSED
    assert result.reason == "the server is read-only"


def test_a_table_lock_delays_no_longer_than_the_limit(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    engine = make_engine(platform)
    order = ReleaseRequest(observe(engine, chat), "enforce")
    with platform.connect(autocommit=False) as locker:
        locker.execute("LOCK TABLE chatqueue.release_control IN ACCESS EXCLUSIVE MODE")

        result = engine.release(order)

        locker.rollback()
    assert result.decision is Decision.BUSY
    assert engine.release(order).decision is Decision.RELEASED
    engine.session.close()


@pytest.mark.parametrize("step", STEPS)
def test_a_backend_that_dies_at_any_step_leaves_audit_and_release_agreeing(
    platform: Platform, step: str
) -> None:
    chat = make_stuck_chat(platform)

    def kill(name: str) -> None:
        if name == step:
            platform.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE"
                " application_name LIKE 'chatqueue-releaser%%' AND datname = %s",
                [platform.database],
            )

    engine = make_engine(platform, on_step=kill)
    order = ReleaseRequest(observe(engine, chat), "enforce")
    result = engine.release(order)

    assert result.decision is (Decision.UNKNOWN if step == "commit" else Decision.ERROR)
    assert state_of(platform, chat)[0] == "assigned"
    assert_audit_and_releases_agree(platform)
    settler = make_engine(platform)
    if result.decision is Decision.UNKNOWN:
        assert settler.settle(result).reason == "the commit did not happen"
    assert settler.release(order).decision is Decision.RELEASED
    assert_audit_and_releases_agree(platform)
    engine.session.close()
    settler.session.close()


SUICIDE = """
import os, signal, sys
from uuid import UUID
from exporter.database.session import Session
from exporter.release.transaction import Engine
from exporter.release.attempt import ReleaseRequest
from tests.release import make_limits

dsn, chat, fatal = sys.argv[1:]

def die(step):
    if step == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

engine = Engine(Session(dsn), make_limits(), daemon="test", on_step=die)
look, _ = engine.scan()
engine.release(ReleaseRequest(look.find(UUID(chat)), "enforce"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)
def test_a_daemon_killed_at_any_step_leaves_nothing_half_done(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    before = checksum(platform)

    for step in STEPS:
        done = subprocess.run(
            [sys.executable, "-c", SUICIDE, platform.dsn, str(chat), step],
            check=False,
            capture_output=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        wait_until_nobody_is_connected(platform)
        assert checksum(platform) == before, step

    assert release(platform, chat).decision is Decision.RELEASED
    assert_audit_and_releases_agree(platform)


def wait_until_nobody_is_connected(platform: Platform) -> None:
    """Let the server notice that its clients are gone."""
    deadline = time.monotonic() + 10
    while platform.value(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE"
        " 'chatqueue-releaser%%' AND datname = %s",
        [platform.database],
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


class DeafEngine(Engine):
    """Commits, and never hears of it."""

    def _step_commit(self, attempt: Any) -> None:
        connection = self.session._connection
        assert connection is not None
        connection.execute("COMMIT")
        connection.close()
        super()._step_commit(attempt)


def test_a_commit_whose_answer_is_lost_is_settled_by_the_audit(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    engine = DeafEngine(Session(platform.dsn), make_limits(), daemon="test")

    result = engine.release(ReleaseRequest(observe(engine, chat), "enforce"))
    settled = engine.settle(result)

    assert result.decision is Decision.UNKNOWN
    assert (settled.decision, settled.reason) == (Decision.RELEASED, "found in the audit")
    assert_audit_and_releases_agree(platform)
    engine.session.close()


def test_nothing_is_settled_while_the_lost_transaction_may_still_commit(
    platform: Platform,
) -> None:
    chat = make_stuck_chat(platform)
    settler = make_engine(platform)
    refused: list[str] = []

    def settle(step: str) -> None:
        if step == "commit":
            lost = Result(Decision.UNKNOWN, "", order, uuid4())
            with pytest.raises(QueryFailed) as raised:
                settler.settle(lost)
            refused.append(raised.value.reason)

    engine = make_engine(platform, on_step=settle)
    order = ReleaseRequest(observe(engine, chat), "enforce")
    result = engine.release(order)

    engine.session.close()
    settler.session.close()
    assert refused == ["locked"]
    assert result.decision is Decision.RELEASED


def test_another_episode_than_the_one_observed_is_left_alone(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    engine = make_engine(platform)
    order = ReleaseRequest(observe(engine, chat), "enforce")
    platform.execute(
        "WITH gone AS (DELETE FROM chat_assignments RETURNING *) INSERT INTO chat_assignments"
        " (chat_id, operator_id, assigned_at) SELECT chat_id, operator_id, assigned_at FROM gone"
    )
    before = checksum(platform)

    result = engine.release(order)

    engine.session.close()
    assert result.decision is Decision.CHANGED
    assert checksum(platform) == before


def test_signs_that_changed_since_they_were_observed_are_not_judged_again(
    platform: Platform,
) -> None:
    chat = make_stuck_chat(platform)
    engine = make_engine(platform)
    order = ReleaseRequest(observe(engine, chat), "enforce")
    builders.add_message(
        platform, chat, "fictional", operator=order.observed.operator_id, age_s=1000
    )

    result = engine.release(order)

    engine.session.close()
    assert result.decision is Decision.CHANGED
    assert result.guard == "same_evidence"


def test_an_assignment_is_released_once_ever(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = make_stuck_chat(platform, operator)
    assert release(platform, chat).decision is Decision.RELEASED
    platform.execute("UPDATE chat_assignments SET released_at = NULL, release_reason = NULL")
    platform.execute(
        "UPDATE chats SET chat_state = 'assigned', assigned_operator_id = %s,"
        " assignment_time = now() - interval '30 min'",
        [operator],
    )

    result = release(platform, chat, cooldown_s=0.0)

    assert result.decision is Decision.COOLING_DOWN
    assert result.guard == "once"


def test_a_full_disk_in_mid_transaction_loses_nothing(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    platform.execute(
        "CREATE OR REPLACE FUNCTION release_and_reassign_chat("
        "p_chat_id uuid, p_reason text DEFAULT '')"
        " RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN UPDATE chats SET chat_state ="
        " 'waiting_assignment', assigned_operator_id = NULL; RAISE EXCEPTION 'could not extend"
        " file: No space left on device' USING ERRCODE = '53100'; END; $$"
    )
    before = checksum(platform)

    result = release(platform, chat)

    assert result.decision is Decision.ERROR
    assert "No space left on device" in result.reason
    assert checksum(platform) == before


def test_an_unreachable_database_is_an_error_and_nothing_more(platform: Platform) -> None:
    make_stuck_chat(platform)
    order = ReleaseRequest(make_observation(platform), "enforce")
    engine = make_engine(platform, dsn="host=127.0.0.1 port=1 dbname=none")

    result = engine.release(order)

    assert result.decision is Decision.ERROR
    assert result.reason.startswith("begin: ")


@pytest.mark.without_schema
def test_the_schema_installs_again_and_again_and_upgrades(
    platform: Platform, tmp_path: Any
) -> None:
    with Session(platform.dsn) as session:
        assert admin.install(session) == (0, VERSION)
        platform.execute("UPDATE chatqueue.release_control SET mode_cap = 'observe'")
        assert admin.install(session) == (VERSION, VERSION)
        admin.require_schema(session)
    platform.connection.execute(build_script().encode())  # as psql would, over what is there
    assert platform.value("SELECT mode_cap FROM chatqueue.release_control") == "observe"

    (tmp_path / f"{VERSION + 1:03}_more.sql").write_text("CREATE TABLE chatqueue.more (a int);")
    platform.connection.execute(build_script(VERSION, tmp_path).encode())
    assert platform.value("SELECT version FROM chatqueue.schema_version") == VERSION + 1
    assert build_script(VERSION + 1, tmp_path) == ""


def test_the_audit_is_append_only(platform: Platform) -> None:
    release(platform, make_stuck_chat(platform))

    for statement in (
        "UPDATE chatqueue.release_audit SET actor = 'nobody'",
        "DELETE FROM chatqueue.release_audit",
        "TRUNCATE chatqueue.release_audit",
    ):
        with pytest.raises(Exception, match="append-only"):
            platform.execute(statement)


def test_a_lone_stuck_chat_is_the_one_suspect(platform: Platform) -> None:
    chat = make_stuck_chat(platform)
    builders.make_waiting_chat(platform)
    builders.make_replied_chat(platform, age_s=9999)
    engine = make_engine(platform)

    look, control = engine.scan()

    engine.session.close()
    assert [c.chat_id for c in find_suspects(look, engine.limits)] == [chat]
    assert control is not None
    assert control.mode_cap == "enforce"


def test_a_standby_is_refused(own_platform: Platform) -> None:
    install(own_platform)
    make_stuck_chat(own_platform)
    order = ReleaseRequest(make_observation(own_platform), "enforce")

    with as_standby(own_platform):
        engine = make_engine(own_platform)
        result = engine.release(order)
        engine.session.close()

    assert result.decision is Decision.REFUSED
    assert result.reason == "the server is a standby in recovery"
