"""The application's own writes leave what the platform's leave, flaws included."""

from __future__ import annotations

from uuid import uuid4

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
    ]
    assert platform.value("SELECT release_reason FROM chat_assignments") == "operator_sent_message"


def test_a_new_chat_waits_with_its_first_message(platform: Platform) -> None:
    chat, user = uuid4(), uuid4()

    application.start_chat(platform.connection, chat, user, "hi")

    assert platform.fetch("SELECT id, chat_state, message_count FROM chats") == [
        (chat, "waiting_assignment", 1)
    ]
    assert platform.fetch("SELECT chat_id, sender_type FROM messages") == [(chat, "real")]


def test_a_user_who_writes_back_is_queued_again(platform: Platform) -> None:
    chat = builders.make_replied_chat(platform, age_s=60)

    assert application.write_as_user(platform.connection, chat, "and?") is True

    assert platform.value("SELECT chat_state FROM chats") == "waiting_assignment"
    assert platform.value("SELECT release_reason FROM chat_assignments") == "operator_sent_message"


def test_a_user_who_writes_back_ends_an_assignment_left_open(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = builders.add_chat(platform, "waiting_real_user_reply", replied_s=9)
    builders.add_assignment(platform, chat, operator, assigned_s=60)

    application.write_as_user(platform.connection, chat, "and?")

    assert platform.value("SELECT release_reason FROM chat_assignments") == (
        "real_user_replied_after_operator"
    )


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
    chat = builders.make_assigned_chat(platform, age_s=60)

    application.reassign_as_admin(platform.connection, chat, "shift ends")

    assert platform.fetch(
        "SELECT released_at IS NULL, release_reason FROM chat_assignments ORDER BY assigned_at"
    ) == [(True, None), (False, "manual_reassignment_by_admin:shift ends")]
    assert platform.value("SELECT chat_state FROM chats") == "waiting_assignment"


def test_the_idle_detector_takes_only_chats_without_a_heartbeat(platform: Platform) -> None:
    idle = builders.make_assigned_chat(platform, age_s=900, heartbeat_s=301)
    builders.make_assigned_chat(platform, age_s=900, heartbeat_s=290)
    builders.make_assigned_chat(platform, age_s=900, heartbeat_s=None)

    released = application.run_idle_detector(platform.connection)

    assert [(item.chat, item.requeued) for item in released] == [(idle, True)]
    assert platform.fetch(
        "SELECT release_reason FROM chat_assignments WHERE released_at IS NOT NULL"
    ) == [("idle_timeout",)]


def test_the_idle_detector_reads_its_timeout_even_as_a_string(platform: Platform) -> None:
    builders.make_assigned_chat(platform, age_s=900, heartbeat_s=100)
    builders.set_config(platform, "idle_timeout_minutes", "1")

    assert len(application.run_idle_detector(platform.connection)) == 1


def test_a_heartbeat_moves_both_clocks(platform: Platform) -> None:
    operator = builders.add_operator(platform)
    chat = builders.make_assigned_chat(platform, operator, heartbeat_s=100)

    assert application.beat(platform.connection, chat, operator, skew_s=60) is True

    assert platform.fetch(
        "SELECT last_activity > now() + interval '50 s', updated_at > now() - interval '5 s'"
        " FROM operator_activity"
    ) == [(True, True)]
    assert application.beat(platform.connection, uuid4(), operator) is False
