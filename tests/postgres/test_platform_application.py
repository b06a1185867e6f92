"""The application's own writes leave what the platform's leave, flaws included."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest

from exporter.demo.platform import application
from tests import builders
from tests.servers import Platform


def test_a_reply_is_four_steps_with_inconsistency_between_them(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = builders.make_assigned_chat(platform, operator)
    values = {"chat": chat, "operator": operator, "content": "hello"}
    look = (
        "SELECT (SELECT count(*) FROM messages WHERE sender_type = 'fictional'), chat_state,"
        " (SELECT count(*) FROM chat_assignments WHERE released_at IS NULL),"
        " (SELECT count(*) FROM operator_activity) FROM chats"
    )

    seen = []
    for step in application.REPLY_STEPS:
        platform.execute(step, values)
        seen += platform.fetch(look)

    assert seen == [
        (1, "assigned", 1, 1),
        (1, "waiting_real_user_reply", 1, 1),
        (1, "waiting_real_user_reply", 0, 1),
        (1, "waiting_real_user_reply", 0, 0),
        (1, "waiting_real_user_reply", 0, 0),
    ]
    # Its trigger has counted the message, and the application counts it once more.
    assert platform.value("SELECT total_messages FROM operators") == 2
    assert platform.value("SELECT release_reason FROM chat_assignments") == "operator_sent_message"


def test_a_new_chat_waits_before_its_first_message(platform: Platform) -> None:
    chat, user = uuid4(), uuid4()
    operator = builders.add_operator(platform)

    application.open_chat(platform.connection, chat, user)
    taken = application.assign(platform.connection, operator)
    application.write_as_user(platform.connection, chat, "hi")

    assert taken == chat
    assert platform.fetch("SELECT id, chat_state, message_count FROM chats") == [
        (chat, "assigned", 1)
    ]
    assert platform.fetch("SELECT chat_id, sender_type FROM messages") == [(chat, "real")]


def test_a_pair_has_one_chat_for_ever(platform: Platform) -> None:
    first, second, user = uuid4(), uuid4(), uuid4()
    application.start_chat(platform.connection, first, user, "hi")
    application.force_close(platform.connection, first)

    application.open_chat(platform.connection, second, user)

    assert platform.fetch("SELECT id, is_active FROM chats") == [(first, False)]


def test_a_user_can_write_into_a_closed_chat_that_nobody_sees(platform: Platform) -> None:
    chat = builders.make_replied_chat(platform, age_s=60)
    application.force_close(platform.connection, chat)

    assert application.write_as_user(platform.connection, chat, "and?") is True

    assert platform.fetch("SELECT chat_state, is_active FROM chats") == [
        ("waiting_assignment", False)
    ]
    operator = builders.add_operator(platform)
    assert application.assign(platform.connection, operator) is None


def test_a_user_who_writes_back_is_queued_again(platform: Platform) -> None:
    chat = builders.make_replied_chat(platform, age_s=60)

    assert application.write_as_user(platform.connection, chat, "and?") is True

    assert platform.value("SELECT chat_state FROM chats") == "waiting_assignment"
    assert platform.value("SELECT release_reason FROM chat_assignments") == "operator_sent_message"


@pytest.mark.parametrize(
    ("is_set", "reason"), [(True, "real_user_replied_after_operator"), (False, None)]
)
def test_a_user_who_writes_back_ends_an_open_assignment_if_the_operator_is_set(
    platform: Platform, is_set: bool, reason: str | None
) -> None:
    operator = builders.add_operator(platform)
    holder = operator if is_set else None
    chat = builders.add_chat(platform, "waiting_real_user_reply", replied_s=9, operator=holder)
    builders.add_assignment(platform, chat, operator, assigned_s=60)

    application.write_as_user(platform.connection, chat, "and?")

    assert platform.value("SELECT release_reason FROM chat_assignments") == reason


def test_a_lost_change_of_state_leaves_the_user_unanswered(platform: Platform) -> None:
    chat = builders.make_replied_chat(platform, age_s=60)

    application.write_unnoticed(platform.connection, chat, "and?")

    assert platform.value("SELECT chat_state FROM chats") == "waiting_real_user_reply"
    assert platform.value("SELECT last_message_at > operator_replied_at FROM chats") is True


def test_handing_back_never_closes_a_chat(platform: Platform) -> None:
    chat = builders.make_assigned_chat(platform, past_turns=5)

    application.unassign(platform.connection, chat)

    assert platform.fetch("SELECT chat_state, is_active, assigned_operator_id FROM chats") == [
        ("waiting_assignment", True, None)
    ]
    assert platform.value("SELECT count(*) FROM chat_assignments WHERE released_at IS NULL") == 0
    assert platform.value("SELECT count(*) FROM operator_activity") == 0


def test_an_admin_leaves_the_first_assignment_open_for_ever(platform: Platform) -> None:
    first, second = builders.add_operator(platform), builders.add_operator(platform)
    chat = builders.make_assigned_chat(platform, first, age_s=60)

    application.reassign_as_admin(platform.connection, chat, second, "shift ends")

    assert platform.fetch(
        "SELECT operator_id, released_at IS NULL, release_reason,"
        " assigned_at < now() - interval '50 s'"
        " FROM chat_assignments ORDER BY created_at, assigned_at, released_at NULLS FIRST"
    ) == [
        (first, True, None, True),
        (first, False, "manual_reassignment_by_admin:shift ends", True),
        (second, True, None, False),
    ]
    assert platform.fetch("SELECT chat_state, assigned_operator_id FROM chats") == [
        ("assigned", second)
    ]
    # The old heartbeat row stays; the new one comes when the chat is opened.
    assert platform.fetch("SELECT operator_id FROM operator_activity") == [(first,)]


@pytest.mark.parametrize("state", ["waiting_assignment", "waiting_real_user_reply"])
def test_an_admin_reassigns_from_any_state_and_to_anybody(platform: Platform, state: str) -> None:
    busy = builders.add_operator(platform, available=False)
    builders.make_assigned_chat(platform, busy)
    chat = builders.add_chat(platform, state, replied_s=60)

    application.reassign_as_admin(platform.connection, chat, busy, "x")

    assert (
        platform.value(
            "SELECT count(*) FROM chats"
            " WHERE chat_state = 'assigned' AND assigned_operator_id = %s",
            [busy],
        )
        == 2
    )
    assert platform.value("SELECT count(*) FROM chat_assignments WHERE chat_id = %s", [chat]) == 1


def test_closing_and_blocking_keep_the_state_and_fail_on_an_assigned_chat(
    platform: Platform,
) -> None:
    replied = builders.make_replied_chat(platform)
    assigned = builders.make_assigned_chat(platform)
    user = platform.value("SELECT real_user_id FROM chats WHERE id = %s", [assigned])

    application.force_close(platform.connection, replied)
    with pytest.raises(psycopg.errors.CheckViolation, match="chk_assigned_state_has_operator"):
        application.force_close(platform.connection, assigned)
    with pytest.raises(psycopg.errors.CheckViolation, match="chk_assigned_state_has_operator"):
        application.block_user(platform.connection, user)

    assert platform.fetch("SELECT chat_state, is_active FROM chats ORDER BY chat_state") == [
        ("assigned", True),
        ("waiting_real_user_reply", False),
    ]
    assert platform.value("SELECT is_active FROM real_users WHERE id = %s", [user]) is False


def test_an_operator_who_holds_a_chat_cannot_be_deleted(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    builders.make_assigned_chat(platform, operator)

    with pytest.raises(psycopg.errors.CheckViolation, match="chk_assigned_state_has_operator"):
        platform.execute("DELETE FROM operators WHERE id = %s", [operator])


def test_the_idle_detector_goes_by_input_and_by_the_assignment(platform: Platform) -> None:
    silent = builders.make_assigned_chat(platform, age_s=900, heartbeat_s=301)
    without_row = builders.make_assigned_chat(platform, age_s=800, heartbeat_s=None)
    operator = builders.add_operator(platform)
    tab_open = builders.make_assigned_chat(platform, operator, age_s=700, heartbeat_s=None)
    builders.add_heartbeat(platform, tab_open, operator, browser_s=301, updated_s=5)
    builders.make_assigned_chat(platform, age_s=900, heartbeat_s=290)
    builders.make_assigned_chat(platform, age_s=290, heartbeat_s=900)
    timeless = builders.add_operator(platform)
    builders.add_chat(platform, "assigned", operator=timeless, assigned_s=None)

    released = application.run_idle_detector(platform.connection)

    assert [(item.chat, item.requeued) for item in released] == [
        (silent, True),
        (without_row, True),
        (tab_open, True),
    ]
    assert platform.fetch(
        "SELECT DISTINCT release_reason FROM chat_assignments WHERE released_at IS NOT NULL"
    ) == [("idle_timeout",)]


def test_the_idle_detector_passes_over_what_it_cannot_release(platform: Platform) -> None:
    builders.make_assigned_chat(platform, age_s=900, heartbeat_s=900)
    builders.set_config(platform, "max_reassignments", "3")

    assert application.run_idle_detector(platform.connection) == ()

    assert platform.value("SELECT chat_state FROM chats") == "assigned"


def test_the_page_of_an_idle_operator_gives_the_chat_back_by_itself(platform: Platform) -> None:
    chat = builders.make_assigned_chat(platform, age_s=900)

    assert application.time_out_operator(platform.connection, chat) is True

    assert platform.value("SELECT release_reason FROM chat_assignments") == "operator_idle_timeout"


def test_the_idle_detector_reads_its_timeout_even_as_a_string(platform: Platform) -> None:
    builders.make_assigned_chat(platform, age_s=900, heartbeat_s=100)
    builders.set_config(platform, "idle_timeout_minutes", "1")

    assert len(application.run_idle_detector(platform.connection)) == 1


def test_a_heartbeat_moves_both_clocks(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = builders.make_assigned_chat(platform, operator, heartbeat_s=100)

    application.beat(platform.connection, chat, operator, skew_s=60)

    assert platform.fetch(
        "SELECT last_activity > now() + interval '50 s', updated_at > now() - interval '5 s'"
        " FROM operator_activity"
    ) == [(True, True)]


def test_a_late_heartbeat_makes_the_row_again(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = builders.make_assigned_chat(platform, operator)
    application.release(platform.connection, chat, "x")

    application.beat(platform.connection, chat, operator, idle_s=100)

    assert platform.fetch(
        "SELECT chat_id, round(EXTRACT(EPOCH FROM updated_at - last_activity))"
        " FROM operator_activity"
    ) == [(chat, 100)]
