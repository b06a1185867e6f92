"""Every trap that the platform sets for a watch, reproduced on every server version."""

from __future__ import annotations

import psycopg
import pytest

from exporter.demo.platform import application
from tests import builders
from tests.servers import PgBouncer, Platform


def test_the_platform_calls_every_quiet_conversation_stuck(platform: Platform) -> None:
    builders.make_replied_chat(platform, age_s=2 * 3600)
    builders.make_assigned_chat(platform, age_s=30)

    stuck = platform.fetch("SELECT chat_state, round(hours_in_state, 1) FROM detect_stuck_chats(1)")

    assert [(state, float(hours)) for state, hours in stuck] == [("waiting_real_user_reply", 2.0)]


def test_the_platform_measures_the_queue_from_the_chats_creation(platform: Platform) -> None:
    builders.make_waiting_chat(platform, age_s=60, created_s=10 * 3600)

    status = platform.fetch(
        "SELECT total_waiting, total_assigned, total_waiting_reply,"
        " round(average_wait_time_minutes) FROM get_assignment_queue_status()"
    )

    assert status == [(1, 0, 0, 600)]


def test_an_empty_queue_has_no_oldest_chat_and_no_mean_wait(platform: Platform) -> None:
    assert platform.fetch("SELECT * FROM get_assignment_queue_status()") == [(0, 0, 0, None, None)]
    assert platform.fetch("SELECT * FROM chat_state_summary") == []


def test_the_view_counts_active_chats_by_state(platform: Platform) -> None:
    builders.make_assigned_chat(platform)
    builders.make_waiting_chat(platform)
    builders.make_replied_chat(platform)
    builders.add_chat(platform, None)
    builders.add_chat(platform, "completed", active=False)

    rows = platform.fetch(
        "SELECT chat_state, count, with_operator, has_last_operator FROM chat_state_summary"
        " ORDER BY chat_state"
    )

    assert rows == [
        ("assigned", 1, 1, 1),
        ("waiting_assignment", 1, 0, 0),
        ("waiting_real_user_reply", 1, 0, 1),
        (None, 1, 0, 0),
    ]


def test_a_writing_user_resets_the_clock_of_the_stuck_chat(platform: Platform) -> None:
    chat = builders.make_assigned_chat(platform, age_s=7200, heartbeat_s=7200)
    assert len(platform.fetch("SELECT * FROM detect_stuck_chats(1)")) == 1

    application.write_as_user(platform.connection, chat, "hello?")

    assert platform.fetch("SELECT * FROM detect_stuck_chats(1)") == []
    assert platform.value("SELECT chat_state FROM chats") == "assigned"


def test_the_fourth_release_closes_the_chat(platform: Platform) -> None:
    chat = builders.make_assigned_chat(platform, past_turns=3)

    requeued = application.release(platform.connection, chat, "idle_timeout")

    assert requeued is False
    assert platform.fetch("SELECT chat_state, is_active, assigned_operator_id FROM chats") == [
        ("completed", False, None)
    ]
    assert platform.fetch(
        "SELECT release_reason FROM chat_assignments ORDER BY assigned_at DESC LIMIT 1"
    ) == [("idle_timeout - max reassignments reached",)]


def test_a_rollback_after_false_restores_everything(platform: Platform) -> None:
    chat = builders.make_assigned_chat(platform, past_turns=3)
    everything = (
        "SELECT (SELECT json_agg(c ORDER BY id) FROM chats c)::text,"
        " (SELECT json_agg(a ORDER BY id) FROM chat_assignments a)::text,"
        " (SELECT json_agg(o ORDER BY id) FROM operator_activity o)::text"
    )
    before = platform.fetch(everything)

    with platform.connect() as other, other.transaction(force_rollback=True):
        assert application.release(other, chat, "idle_timeout") is False

    assert platform.fetch(everything) == before


def test_a_release_below_the_limit_requeues(platform: Platform) -> None:
    chat = builders.make_assigned_chat(platform, past_turns=2)

    assert application.release(platform.connection, chat, "why not") is True

    assert platform.fetch("SELECT chat_state, is_active, assignment_time FROM chats") == [
        ("waiting_assignment", True, None)
    ]
    assert platform.value("SELECT count(*) FROM operator_activity") == 0


def test_a_release_ignores_the_state(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = builders.add_chat(platform, "waiting_real_user_reply", operator=operator, replied_s=5)

    assert application.release(platform.connection, chat, "x") is True


def test_a_release_takes_no_row_lock_before_it_writes(platform: Platform) -> None:
    chat = builders.make_assigned_chat(platform, past_turns=3)
    platform.execute("SET statement_timeout = '2s'")

    with platform.connect() as other, other.transaction():
        other.execute("SELECT FROM chats WHERE id = %s FOR UPDATE", (chat,))
        builders.set_config(platform, "max_reassignments", "3")

        # It gets as far as the setting although another session holds the chat.
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            application.release(platform.connection, chat, "x")


@pytest.mark.parametrize("active", [True, False])
def test_a_release_raises_where_there_is_nothing_to_release(
    platform: Platform, active: bool
) -> None:
    chat = builders.add_chat(platform, active=active)
    message = "Chat is not currently assigned" if active else "Chat not found or not active"

    with pytest.raises(psycopg.errors.RaiseException, match=f"^{message}"):
        application.release(platform.connection, chat, "x")


def test_a_limit_that_is_a_json_string_breaks_every_release(platform: Platform) -> None:
    chat = builders.make_assigned_chat(platform)
    builders.set_config(platform, "max_reassignments", "3")

    with pytest.raises(psycopg.errors.InvalidParameterValue, match="cannot cast jsonb string"):
        application.release(platform.connection, chat, "x")


def test_row_security_shows_a_plain_role_a_calm_zero(platform: Platform) -> None:
    builders.make_waiting_chat(platform, age_s=7200)
    reader = builders.make_role(platform, "reader")

    with platform.connect(reader) as session:
        seen = session.execute(
            "SELECT row_security_active('chats'), (SELECT count(*) FROM chats),"
            " (SELECT total_waiting FROM get_assignment_queue_status()),"
            " (SELECT count(*) FROM detect_stuck_chats(1)),"
            " (SELECT sum(count) FROM chat_state_summary)"
        ).fetchone()

    assert seen == (True, 0, 0, 0, 1)


@pytest.mark.parametrize("options", [{"policies": True}, {"bypass_rls": True}])
def test_a_policy_or_bypassing_opens_the_eyes(platform: Platform, options: dict[str, bool]) -> None:
    builders.make_waiting_chat(platform)
    reader = builders.make_role(platform, "reader", **options)

    with platform.connect(reader) as session:
        seen = session.execute("SELECT total_waiting FROM get_assignment_queue_status()").fetchone()

    assert seen == (1,)


def test_every_table_has_row_security(platform: Platform) -> None:
    open_tables = platform.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relkind = 'r' AND NOT relrowsecurity"
    )

    assert open_tables == []


def test_a_transaction_pooler_keeps_no_session_state(
    platform: Platform, pgbouncer: PgBouncer
) -> None:
    dsn = pgbouncer.dsn(platform.database)
    with (
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as one,
        psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as two,
    ):
        one.execute("SET statement_timeout = '7s'")
        with two.transaction():
            leaked = two.execute("SHOW statement_timeout").fetchone()

    assert leaked == ("7s",)


def test_an_operator_gets_another_chat_than_his_last_if_there_is_one(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    builders.make_waiting_chat(platform, age_s=90, last_operator=operator)
    other = builders.make_waiting_chat(platform, age_s=10)

    assert application.assign(platform.connection, operator) == other


def test_an_operator_gets_his_last_chat_back_when_no_other_waits(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = builders.make_waiting_chat(platform, age_s=90, last_operator=operator)

    assert application.assign(platform.connection, operator) == chat

    assert platform.fetch(
        "SELECT chat_state, assigned_operator_id, last_operator_id, assignment_time = updated_at"
        " FROM chats"
    ) == [("assigned", operator, operator, True)]
    assert platform.fetch("SELECT chat_id, released_at FROM chat_assignments") == [(chat, None)]
    assert platform.fetch("SELECT chat_id, operator_id FROM operator_activity") == [
        (chat, operator)
    ]


def test_assigning_skips_a_chat_that_another_session_holds(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    held = builders.make_waiting_chat(platform, age_s=90)

    with platform.connect() as other, other.transaction():
        other.execute("SELECT FROM chats WHERE id = %s FOR UPDATE", (held,))

        assert application.assign(platform.connection, operator) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (None, "Operator not found"),
        ({"active": False}, "Operator is not active"),
        ({"available": False}, "Operator is not available"),
        ({}, "Operator already has an active assignment"),
    ],
)
def test_assigning_refuses_an_operator_who_cannot_take_a_chat(
    platform: Platform, options: dict[str, bool] | None, message: str
) -> None:
    busy = builders.add_operator(platform, **(options or {}))
    builders.make_assigned_chat(platform, busy)
    stranger = "00000000-0000-4000-8000-000000000000"

    with pytest.raises(psycopg.errors.RaiseException, match=f"^{message}"):
        platform.fetch(
            "SELECT assign_chat_to_operator(%s)", (stranger if options is None else busy,)
        )


def test_the_assigning_function_works_for_a_role_that_sees_no_row(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = builders.make_waiting_chat(platform)
    reader = builders.make_role(platform, "reader")

    with platform.connect(reader) as session:
        assert application.assign(session, operator) == chat


def test_constraints_hold_and_null_passes(platform: Platform) -> None:
    builders.add_chat(platform, None)
    for state, constraint in (
        ("lost", "chats_chat_state_check"),
        ("assigned", "chk_assigned_state_has_operator"),
        ("waiting_real_user_reply", "chk_waiting_reply_has_timestamp"),
    ):
        with pytest.raises(psycopg.errors.CheckViolation, match=constraint):
            builders.add_chat(platform, state)


def test_the_transition_check_is_defined_and_not_installed(platform: Platform) -> None:
    assert platform.value(
        "SELECT count(*) FROM pg_proc WHERE proname = 'validate_chat_state_transition'"
    )
    assert not platform.value(
        "SELECT count(*) FROM pg_trigger"
        " WHERE tgfoid = 'public.validate_chat_state_transition'::regproc"
    )


def test_every_index_the_exporter_counts_on_exists(platform: Platform) -> None:
    indexes = {name for (name,) in platform.fetch("SELECT indexname FROM pg_indexes")}

    assert {
        "idx_chats_waiting_assignment",
        "idx_chats_last_operator",
        "idx_chats_operator_replied",
    } <= indexes
    assert len([name for name in indexes if name.startswith("idx_")]) == 23
