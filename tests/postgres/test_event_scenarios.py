"""Each outcome and each check: a scenario that raises it, and one near it that does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest

from exporter.demo.platform import application
from tests.builders import (
    add_assignment,
    add_chat,
    add_heartbeat,
    add_message,
    add_operator,
    add_people,
    make_assigned_chat,
    make_replied_chat,
    make_waiting_chat,
    restore_stamp,
    restoring,
)
from tests.counting import EVENT_QUERIES, Watcher
from tests.servers import Platform

ADMIN = "manual_reassignment_by_admin"
CHECK_QUERIES = ("invalid_chats", "invalid_states", "invalid_times", "invalid_users")

# Reasons as they stand in the rows, and what each counts as.
OUTCOMES = {
    "operator_sent_message": "replied",
    "real_user_replied_after_operator": "customer_replied",
    "idle_timeout": "idle_timeout",
    "operator_idle_timeout": "idle_timeout",
    "auto_release: no heartbeat for 7 minutes": "auto_release",
    f"{ADMIN}:too slow": "admin",
    ADMIN: "admin",
    "manual_unassign": "manual",
    "idle_timeout - max reassignments reached": "closed",
    "operator_idle_timeout - max reassignments reached": "closed",
    f"{ADMIN}:x - max reassignments reached": "closed",
    "the operator went home": "other",
    # Near ones: none of these is what it seems to begin or end with.
    "idle_timeout of the office": "other",
    "not idle_timeout": "other",
    "operator_idle_timeouts": "other",
    "max reassignments reached": "other",
    "operator_sent_messages": "other",
    "auto_release": "other",
    "Idle_Timeout": "other",
    "": "other",
    None: "other",
}


@pytest.mark.parametrize(("reason", "outcome"), OUTCOMES.items())
def test_a_reason_counts_as_its_outcome(
    platform: Platform, reason: str | None, outcome: str
) -> None:
    with Watcher(platform, ["releases"]) as watcher:
        make_assigned_chat(platform, age_s=300)
        watcher.poll_well()
        platform.execute(
            "UPDATE chat_assignments SET released_at = now(), release_reason = %s", (reason,)
        )
        watcher.poll_well()

        assert watcher.counts("chatqueue_releases_total") == {outcome: 1}
        handled = watcher.value("chatqueue_handle_seconds_count")
        assert handled == (1 if outcome == "replied" else 0)


def test_reasons_of_ones_own_come_before_the_built_in_ones(platform: Platform) -> None:
    own = {"%reached%": "manual", "idle_timeout": "auto_release", "bot%": "idle_timeout"}
    reasons = ("idle_timeout - max reassignments reached", "idle_timeout", "bot says so", "else")
    with Watcher(platform, ["releases"], events={"release_reasons": own}) as watcher:
        watcher.poll_well()
        for reason in reasons:
            chat = add_chat(platform)
            add_assignment(platform, chat, add_operator(platform), released_s=0, reason=reason)
        watcher.poll_well()

        assert watcher.counts("chatqueue_releases_total") == {
            "manual": 1,
            "auto_release": 1,
            "idle_timeout": 1,
            "other": 1,
        }


def test_the_limit_of_reassignments_closes_a_chat(platform: Platform) -> None:
    with Watcher(platform, ["releases"]) as watcher:
        chat = make_assigned_chat(platform, past_turns=3, age_s=10)
        near = make_assigned_chat(platform, past_turns=2, age_s=10)
        watcher.poll_well()

        assert application.release(platform.connection, chat, "idle_timeout") is False
        assert application.release(platform.connection, near, "idle_timeout") is True
        watcher.poll_well()
        assert watcher.counts("chatqueue_releases_total") == {"closed": 1, "idle_timeout": 1}
        assert watcher.samples("chatqueue_state_transitions_total") == {
            ("assigned", "completed"): 1,
            ("assigned", "waiting_assignment"): 1,
            ("assigned", "waiting_real_user_reply"): 0,
        }


IDLE_RELEASES: dict[str, dict[str, float]] = {
    "idle_timeout": {"job": 1},
    "idle_timeout - max reassignments reached": {"job": 1},
    "bot was idle": {"job": 1},
    "operator_idle_timeout": {"page": 1},
    "operator_idle_timeout - max reassignments reached": {"page": 1},
    "idle_timeout of the office": {},
    "operator_sent_message": {},
    "auto_release: idle_timeout": {},
}


@pytest.mark.newest
@pytest.mark.parametrize(("reason", "counted"), IDLE_RELEASES.items(), ids=IDLE_RELEASES)
def test_an_idle_release_says_whether_the_platforms_job_made_it(
    platform: Platform, reason: str, counted: dict[str, float]
) -> None:
    own = {"bot was idle": "idle_timeout"}
    with Watcher(platform, ["releases"], events={"release_reasons": own}) as watcher:
        make_assigned_chat(platform, age_s=300)
        watcher.poll_well()
        platform.execute(
            "UPDATE chat_assignments SET released_at = now(), release_reason = %s", (reason,)
        )
        watcher.poll_well()

        assert watcher.counts("chatqueue_idle_releases_total") == counted
        assert set(watcher.samples("chatqueue_idle_releases_total")) == {("job",), ("page",)}


# An admin's reassignment: one release and one assignment, and no trip through the queue.

TRANSITIONS = "chatqueue_state_transitions_total"


def transitions(watcher: Watcher) -> dict[tuple[str, ...], float]:
    """Those that happened."""
    return {labels: value for labels, value in watcher.samples(TRANSITIONS).items() if value}


def make_chat_in(platform: Platform, state: str) -> UUID:
    """A chat in that state, whose last holder is away."""
    if state == "assigned":
        return make_assigned_chat(platform, age_s=300)
    if state == "waiting_real_user_reply":
        return make_replied_chat(platform, age_s=300)
    chat = make_assigned_chat(platform, age_s=300, past_turns=3)
    assert application.release(platform.connection, chat, "idle_timeout") is False
    return chat


@pytest.mark.parametrize("state", ["assigned", "waiting_real_user_reply", "completed"])
def test_an_admins_reassignment_is_one_assignment_straight_from_the_state_before(
    platform: Platform, state: str
) -> None:
    with Watcher(platform, (*EVENT_QUERIES, "fairness")) as watcher:
        chat = make_chat_in(platform, state)
        watcher.poll_well()
        before = watcher.value("chatqueue_operator_window_assignments", "24h")
        assert before is not None
        named = add_operator(platform)
        make_waiting_chat(platform, age_s=60)  # so that a repeat could be avoided
        application.reassign_as_admin(platform.connection, chat, named, "urgent")
        for _ in range(3):
            watcher.poll_well()

        ended = {"admin": 1.0} if state == "assigned" else {}
        assert watcher.counts("chatqueue_releases_total") == ended
        assert watcher.value("chatqueue_assignments_total") == 1
        assert transitions(watcher) == {(state, "assigned"): 1}
        assert watcher.value("chatqueue_answer_seconds_count") == 0
        assert set(watcher.samples("chatqueue_same_operator_assignments_total").values()) == {0}
        assert watcher.value("chatqueue_operator_window_assignments", "24h") == before + 1
        pending = watcher.worker._results.counters["releases"].parameters()["pending"]
        assert len(pending) == 1, "the new row alone"


def test_a_chat_named_out_of_the_queue_did_wait_there(platform: Platform) -> None:
    with Watcher(platform) as watcher:
        chat = make_waiting_chat(platform, age_s=60)
        watcher.poll_well()
        application.reassign_as_admin(platform.connection, chat, add_operator(platform), "vip")
        watcher.poll_well()

        assert transitions(watcher) == {("waiting_assignment", "assigned"): 1}
        assert watcher.value("chatqueue_answer_seconds_count") == 1
        assert watcher.value("chatqueue_answer_seconds_sum") == pytest.approx(60, abs=5)


def test_an_admin_who_names_the_same_operator_again_is_no_avoidable_repeat(
    platform: Platform,
) -> None:
    with Watcher(platform) as watcher:
        operator = add_operator(platform)
        chat = make_assigned_chat(platform, operator, age_s=300)
        make_waiting_chat(platform, age_s=60)
        watcher.poll_well()
        application.reassign_as_admin(platform.connection, chat, operator, "stay")
        watcher.poll_well()

        assert transitions(watcher) == {("assigned", "assigned"): 1}
        assert set(watcher.samples("chatqueue_same_operator_assignments_total").values()) == {0}


def test_an_admin_who_takes_a_chat_from_one_after_the_other_leaves_one_open_row(
    platform: Platform,
) -> None:
    with Watcher(platform, (*EVENT_QUERIES, *CHECK_QUERIES), checks={"grace": "0s"}) as watcher:
        chat = make_assigned_chat(platform, age_s=300)
        watcher.poll_well()
        for _ in range(3):
            application.reassign_as_admin(
                platform.connection, chat, add_operator(platform), "shift ends"
            )
        watcher.poll_well()

        open_rows = "SELECT count(*) FROM chat_assignments WHERE released_at IS NULL"
        assert platform.value(open_rows) == 4
        assert watcher.counts("chatqueue_invalid_chats") == {}
        assert watcher.counts("chatqueue_releases_total") == {"admin": 3}
        assert transitions(watcher) == {("assigned", "assigned"): 3}
        assert len(watcher.worker._results.counters["releases"].parameters()["pending"]) == 1


def test_an_operator_whom_an_admin_named_holds_several_chats(platform: Platform) -> None:
    with Watcher(platform, CHECK_QUERIES, checks={"grace": "0s"}) as watcher:
        busy = add_operator(platform)
        make_assigned_chat(platform, busy, age_s=300)
        other = make_assigned_chat(platform, age_s=300)
        application.reassign_as_admin(platform.connection, other, busy, "x")
        watcher.poll_well()

        assert watcher.counts("chatqueue_invalid_chats") == {"operator_on_several_chats": 2}


def test_the_row_an_admin_leaves_open_is_not_counted_when_a_later_reply_closes_it(
    platform: Platform,
) -> None:
    with Watcher(platform) as watcher:
        first, second = add_operator(platform), add_operator(platform)
        chat = make_assigned_chat(platform, first, age_s=5)
        watcher.poll_well()
        application.reassign_as_admin(platform.connection, chat, second, "urgent")
        application.reply(platform.connection, chat, second, "Yes")
        application.write_as_user(platform.connection, chat, "And?")
        assert application.assign(platform.connection, first) == chat
        watcher.poll_well()
        application.reply(platform.connection, chat, first, "Yes")
        for _ in range(2):
            watcher.poll_well()

        assert (
            platform.value("SELECT count(*) FROM chat_assignments WHERE released_at IS NULL") == 0
        )
        assert watcher.counts("chatqueue_releases_total") == {"admin": 1, "replied": 2}
        assert watcher.value("chatqueue_handle_seconds_count") == 2
        assert watcher.value("chatqueue_assignments_total") == 2
        assert transitions(watcher) == {
            ("assigned", "assigned"): 1,
            ("assigned", "waiting_real_user_reply"): 2,
            ("waiting_real_user_reply", "waiting_assignment"): 1,
            ("waiting_assignment", "assigned"): 1,
        }


def test_a_row_that_a_half_done_reply_left_open_is_no_handle_time_when_it_is_closed(
    platform: Platform,
) -> None:
    with Watcher(platform) as watcher:
        operator = add_operator(platform)
        chat = make_assigned_chat(platform, operator, age_s=500)
        watcher.poll_well()
        values = {"chat": chat, "operator": operator, "content": "Yes"}
        for step in application.REPLY_STEPS[:2]:
            platform.execute(step, values)
        application.write_as_user(platform.connection, chat, "And?")
        assert application.assign(platform.connection, operator) == chat
        application.reply(platform.connection, chat, operator, "Yes")
        watcher.poll_well()

        # The reply closed both rows of its operator.
        assert watcher.counts("chatqueue_releases_total") == {"replied": 2}
        assert watcher.value("chatqueue_handle_seconds_count") == 1
        assert transitions(watcher)[("assigned", "waiting_real_user_reply")] == 1


def test_a_user_who_writes_to_an_operator_whom_an_admin_named_changes_no_state(
    platform: Platform,
) -> None:
    with Watcher(platform) as watcher:
        chat = make_replied_chat(platform, age_s=100)
        watcher.poll_well()
        application.reassign_as_admin(platform.connection, chat, add_operator(platform), "x")
        assert application.write_as_user(platform.connection, chat, "Hello?") is False
        for _ in range(2):
            watcher.poll_well()

        assert transitions(watcher) == {("waiting_real_user_reply", "assigned"): 1}


def test_writing_into_a_closed_chat_is_no_transition(platform: Platform) -> None:
    with Watcher(platform) as watcher:
        chat = make_replied_chat(platform, age_s=100)
        application.force_close(platform.connection, chat)
        watcher.poll_well()
        assert application.write_as_user(platform.connection, chat, "Anybody?") is True
        for _ in range(2):
            watcher.poll_well()

        assert transitions(watcher) == {}
        assert watcher.counts("chatqueue_messages_total") == {"customer": 1}


def test_an_assigned_chat_with_a_row_an_admin_left_open_has_one_open_row(
    platform: Platform,
) -> None:
    with Watcher(platform, CHECK_QUERIES) as watcher:
        operator = add_operator(platform)
        chat = make_assigned_chat(platform, operator, age_s=100)
        add_assignment(platform, chat, operator, assigned_s=900)
        add_assignment(
            platform, chat, operator, assigned_s=600, released_s=600, reason=f"{ADMIN}:x"
        )
        watcher.poll_well()

        assert watcher.counts("chatqueue_invalid_chats") == {}


# The four writes of one reply, and the user's: nothing of them is an anomaly, each counts once.


@pytest.mark.parametrize("steps", range(5))
def test_no_step_of_a_reply_is_an_anomaly_within_the_grace(platform: Platform, steps: int) -> None:
    with Watcher(platform, (*EVENT_QUERIES, *CHECK_QUERIES)) as watcher:
        operator = add_operator(platform)
        chat = make_assigned_chat(platform, operator, age_s=300)
        watcher.poll_well()
        values = {"chat": chat, "operator": operator, "content": "Yes"}
        for step in application.REPLY_STEPS[:steps]:
            platform.execute(step, values)
        watcher.poll_well()

        assert watcher.counts("chatqueue_invalid_chats") == {}
        assert watcher.counts("chatqueue_messages_total") == ({"operator": 1} if steps else {})
        assert watcher.counts("chatqueue_releases_total") == ({"replied": 1} if steps > 2 else {})
        for step in application.REPLY_STEPS[steps:]:
            platform.execute(step, values)
        watcher.poll_well()
        assert watcher.counts("chatqueue_messages_total") == {"operator": 1}
        assert watcher.counts("chatqueue_releases_total") == {"replied": 1}
        assert watcher.value("chatqueue_response_seconds_count") == 1
        assert watcher.counts("chatqueue_state_transitions_total") == {"assigned": 1}


def test_no_step_of_handing_a_chat_back_is_an_anomaly_within_the_grace(platform: Platform) -> None:
    with Watcher(platform, CHECK_QUERIES) as watcher:
        operator = add_operator(platform)
        chat = make_assigned_chat(platform, operator, age_s=300)
        values = {"chat": chat, "operator": operator, "reason": "manual_unassign"}
        for step in application.UNASSIGN_STEPS:
            platform.execute(step, values)
            watcher.poll_well()
            assert watcher.counts("chatqueue_invalid_chats") == {}


def test_a_users_message_and_the_change_of_state_that_follows_count_once_each(
    platform: Platform,
) -> None:
    transition = (
        "chatqueue_state_transitions_total",
        "waiting_real_user_reply",
        "waiting_assignment",
    )
    with Watcher(platform) as watcher:
        chat = make_replied_chat(platform, age_s=100)
        watcher.poll_well()
        add_message(platform, chat)
        watcher.poll_well()
        assert watcher.counts("chatqueue_messages_total") == {"customer": 1}
        assert watcher.value(*transition) == 0

        platform.execute("UPDATE chats SET chat_state = 'waiting_assignment'")
        for _ in range(2):
            watcher.poll_well()
        assert watcher.counts("chatqueue_messages_total") == {"customer": 1}
        assert watcher.value(*transition) == 1


def test_a_users_second_message_and_one_during_the_operators_turn_change_no_state(
    platform: Platform,
) -> None:
    transition = (
        "chatqueue_state_transitions_total",
        "waiting_real_user_reply",
        "waiting_assignment",
    )
    with Watcher(platform) as watcher:
        again = make_replied_chat(platform, age_s=100)
        during = make_assigned_chat(platform, age_s=100)
        add_message(platform, during, "fictional", age_s=50)
        watcher.poll_well()
        application.write_as_user(platform.connection, again, "One")
        application.write_as_user(platform.connection, again, "Two")
        application.write_as_user(platform.connection, during, "Three")
        watcher.poll_well()

        assert watcher.value(*transition) == 1
        assert watcher.counts("chatqueue_messages_total") == {"customer": 3}


def test_two_answers_of_one_instant_end_one_wait_with_one_response(platform: Platform) -> None:
    with Watcher(platform) as watcher:
        operator = add_operator(platform)
        chat = make_assigned_chat(platform, operator, age_s=5, waited_s=5)
        watcher.poll_well()
        platform.execute(
            "INSERT INTO messages (chat_id, sender_type, content)"
            " VALUES (%(chat)s, 'fictional', 'a picture'), (%(chat)s, 'fictional', 'a text')",
            {"chat": chat},
        )
        watcher.poll_well()

        assert watcher.counts("chatqueue_messages_total") == {"operator": 2}
        assert watcher.value("chatqueue_response_seconds_count") == 1
        assert watcher.value("chatqueue_first_response_seconds_count") == 1
        assert watcher.value("chatqueue_waits_total") == 1
        assert watcher.value("chatqueue_waits_breached_total") == 0


# What the histograms observe.


def test_the_speeds_are_those_of_the_rows(platform: Platform) -> None:
    with Watcher(platform, slo={"answer_within": "80s"}) as watcher:
        watcher.poll_well()
        operator = add_operator(platform)
        chat = add_chat(
            platform,
            "waiting_real_user_reply",
            created_s=500,
            operator=None,
            last_operator=operator,
            replied_s=2,
        )
        add_message(platform, chat, age_s=400)
        add_message(platform, chat, "fictional", age_s=300)
        # The user writes twice; an operator lets it go, the next one takes it and answers.
        add_message(platform, chat, age_s=100)
        add_message(platform, chat, age_s=90)
        add_assignment(
            platform, chat, operator, assigned_s=80, released_s=28, reason="idle_timeout"
        )
        add_assignment(
            platform, chat, operator, assigned_s=20, released_s=2, reason="operator_sent_message"
        )
        add_message(platform, chat, "fictional", age_s=2)
        # The first answer of another chat.
        other = add_chat(platform, "waiting_real_user_reply", created_s=20, replied_s=1)
        add_message(platform, other, age_s=15)
        add_message(platform, other, "fictional", age_s=1)
        watcher.poll_well()

        def observed(name: str) -> tuple[float | None, float | None]:
            total = watcher.value(f"chatqueue_{name}_seconds_sum")
            count = watcher.value(f"chatqueue_{name}_seconds_count")
            return count, None if total is None else round(total, 1)

        # Within the overlap of 30 s before the first poll: one assignment, two answers.
        assert observed("answer") == (1, 8.0)
        assert observed("handle") == (1, 18.0)
        assert observed("response") == (2, 112.0)
        assert observed("first_response") == (1, 14.0)
        assert watcher.value("chatqueue_waits_total") == 2
        assert watcher.value("chatqueue_waits_breached_total") == 1


# The same operator again.


def take_again(platform: Platform, operator: UUID) -> UUID:
    """Let an operator take a chat that he had before; returns it."""
    chat = make_replied_chat(platform, operator, age_s=600)
    application.write_as_user(platform.connection, chat, "And?")
    platform.execute(
        "UPDATE chats SET chat_state = 'assigned', assigned_operator_id = %(operator)s,"
        " assignment_time = now(), last_operator_id = %(operator)s WHERE id = %(chat)s",
        {"operator": operator, "chat": chat},
    )
    add_assignment(platform, chat, operator)
    return chat


def test_the_same_operator_was_avoidable_while_another_chat_waited(platform: Platform) -> None:
    with Watcher(platform) as watcher:
        watcher.poll_well()
        make_waiting_chat(platform, age_s=60)
        take_again(platform, add_operator(platform))
        watcher.poll_well()

        same = watcher.samples("chatqueue_same_operator_assignments_total")
        assert same == {("true",): 1, ("false",): 0}


def test_the_same_operator_was_avoidable_though_the_other_chat_was_taken_since(
    platform: Platform,
) -> None:
    with Watcher(platform) as watcher:
        watcher.poll_well()
        other = make_waiting_chat(platform, age_s=60)
        take_again(platform, add_operator(platform))
        assert application.assign(platform.connection, add_operator(platform)) == other
        watcher.poll_well()

        same = watcher.samples("chatqueue_same_operator_assignments_total")
        assert same == {("true",): 1, ("false",): 0}


@pytest.mark.parametrize("near", ["alone", "his own", "came later", "taken before"])
def test_the_same_operator_was_not_avoidable(platform: Platform, near: str) -> None:
    with Watcher(platform) as watcher:
        watcher.poll_well()
        operator = add_operator(platform)
        if near == "his own":
            make_waiting_chat(platform, age_s=60, last_operator=operator)
        if near == "taken before":
            make_waiting_chat(platform, age_s=60)
            assert application.assign(platform.connection, add_operator(platform))
        take_again(platform, operator)
        if near == "came later":
            application.start_chat(platform.connection, uuid4(), uuid4(), "Hello")
        watcher.poll_well()

        same = watcher.samples("chatqueue_same_operator_assignments_total")
        assert same == {("true",): 0, ("false",): 1}


def test_another_operator_or_a_first_one_is_not_the_same(platform: Platform) -> None:
    with Watcher(platform) as watcher:
        watcher.poll_well()
        make_waiting_chat(platform, age_s=60, last_operator=add_operator(platform))
        assert application.assign(platform.connection, add_operator(platform))
        watcher.poll_well()

        assert watcher.value("chatqueue_assignments_total") == 1
        assert set(watcher.samples("chatqueue_same_operator_assignments_total").values()) == {0}


# Waits.


def test_an_open_wait_breaches_once_and_not_again_when_it_is_answered(platform: Platform) -> None:
    def waits() -> tuple[float | None, float | None]:
        return (
            watcher.value("chatqueue_waits_total"),
            watcher.value("chatqueue_waits_breached_total"),
        )

    with Watcher(platform, slo={"answer_within": "2m"}) as watcher:
        watcher.poll_well()
        operator = add_operator(platform)
        chat = make_waiting_chat(platform, age_s=121)
        make_waiting_chat(platform, age_s=100)
        for _ in range(3):
            watcher.poll_well()
            # Nobody answers anybody, and it is not 0 of 0.
            assert waits() == (1, 1)

        assert application.assign(platform.connection, operator) == chat
        watcher.poll_well()
        application.reply(platform.connection, chat, operator, "Sorry")
        for _ in range(2):
            watcher.poll_well()
            assert waits() == (1, 1)

        # The next wait of the same chat is another one.
        application.write_as_user(platform.connection, chat, "Well")
        platform.execute(
            "UPDATE messages SET created_at = created_at - interval '121 s' WHERE chat_id = %s",
            (chat,),
        )
        watcher.poll_well()
        assert waits() == (2, 2)


@pytest.mark.parametrize(
    ("closed_ago_s", "breached"), [(6, 0), (4, 1)], ids=["before its breach", "after it"]
)
def test_a_chat_closed_between_two_polls(
    platform: Platform, closed_ago_s: int, breached: int
) -> None:
    with Watcher(platform, slo={"answer_within": "2m"}) as watcher:
        watcher.poll_well()
        chat = make_waiting_chat(platform, age_s=125)
        # Without the trigger that stamps every write with the present.
        platform.execute("SET session_replication_role = replica")
        platform.execute(
            "UPDATE chats SET is_active = false, chat_state = 'completed',"
            " updated_at = now() - %s * interval '1 s' WHERE id = %s",
            (closed_ago_s, chat),
        )
        platform.execute("RESET session_replication_role")
        watcher.poll_well()

        assert watcher.value("chatqueue_waits_breached_total") == breached


def test_a_user_who_waits_in_a_chat_nobody_looks_at_is_breached_too(platform: Platform) -> None:
    with Watcher(platform, slo={"answer_within": "2m"}) as watcher:
        watcher.poll_well()
        chat = make_waiting_chat(platform, age_s=125)
        platform.execute(
            "UPDATE chats SET chat_state = 'waiting_real_user_reply', operator_replied_at = now()"
            " WHERE id = %s",
            (chat,),
        )
        watcher.poll_well()

        assert watcher.value("chatqueue_waits_breached_total") == 1


def test_a_breached_wait_that_was_there_at_the_first_poll_is_not_counted(
    platform: Platform,
) -> None:
    with Watcher(platform) as watcher:
        operator = add_operator(platform)
        chat = make_waiting_chat(platform, age_s=1000)
        watcher.poll_well()
        application.assign(platform.connection, operator)
        application.reply(platform.connection, chat, operator, "Sorry")
        watcher.poll_well()

        assert watcher.value("chatqueue_waits_total") == 0


def test_the_first_poll_brings_no_flood(platform: Platform) -> None:
    add_people(platform, users=100, operators=1)
    platform.execute(
        """
        WITH chat AS (
            INSERT INTO chats (real_user_id, fictional_user_id)
            SELECT u.id, f.id FROM real_users AS u, fictional_users AS f
            RETURNING id
        ),
        turn AS (
            INSERT INTO chat_assignments
                (chat_id, operator_id, assigned_at, released_at, release_reason, created_at)
            SELECT chat.id, operator.id, now() - n * interval '10 s',
                now() - n * interval '10 s' + interval '5 s', 'operator_sent_message',
                now() - n * interval '10 s'
            FROM chat, operators AS operator, generate_series(1, 50) AS n
        )
        INSERT INTO messages (chat_id, sender_type, content, created_at)
        SELECT chat.id, CASE n % 2 WHEN 0 THEN 'real' ELSE 'fictional' END, 'text',
            now() - n * interval '5 s'
        FROM chat, generate_series(1, 100) AS n
        """
    )
    with Watcher(platform) as watcher:
        for _ in range(3):
            watcher.poll_well()

        assert watcher.value("chatqueue_messages_total", "operator") == 0
        assert watcher.value("chatqueue_assignments_total") == 0
        assert watcher.counts("chatqueue_releases_total") == {}
        assert watcher.value("chatqueue_waits_total") == 0
        held = watcher.worker._results.counters["messages"].parameters()["seen"]
        assert len(held) < 1500


# The checks. A scenario takes the age at which its last write was made; it must count when that is
# beyond the grace of 30 s, and not when it is within.


def drop_constraints(platform: Platform) -> None:
    for name in (
        "chats_chat_state_check",
        "chk_assigned_state_has_operator",
        "chk_waiting_reply_has_timestamp",
    ):
        platform.execute(f"ALTER TABLE chats DROP CONSTRAINT {name}")


def assigned_without_operator(platform: Platform, age_s: float) -> None:
    add_chat(platform, "assigned", created_s=900, updated_s=age_s, assigned_s=800)


def operator_on_unassigned_chat(platform: Platform, age_s: float) -> None:
    operator = add_operator(platform)
    add_chat(
        platform, created_s=900, updated_s=age_s, operator=operator, assigned_s=max(age_s, 800)
    )


def assigned_without_open_assignment(platform: Platform, age_s: float) -> None:
    operator = add_operator(platform)
    chat = add_chat(
        platform, "assigned", created_s=900, updated_s=age_s, operator=operator, assigned_s=800
    )
    add_assignment(
        platform, chat, operator, assigned_s=800, released_s=age_s, reason="manual_unassign"
    )


def orphaned_assignment(platform: Platform, age_s: float) -> None:
    operator = add_operator(platform)
    chat = add_chat(
        platform, "waiting_real_user_reply", created_s=900, updated_s=0, replied_s=age_s
    )
    add_assignment(platform, chat, operator, assigned_s=800)


def several_open_assignments(platform: Platform, age_s: float) -> None:
    operator = add_operator(platform)
    chat = make_assigned_chat(platform, operator, age_s=800)
    add_assignment(platform, chat, operator, assigned_s=age_s)


def operator_mismatch(platform: Platform, age_s: float) -> None:
    chat = make_assigned_chat(platform, age_s=age_s)
    platform.execute(
        "UPDATE chat_assignments SET operator_id = %s WHERE chat_id = %s",
        (add_operator(platform), chat),
    )


def operator_on_several_chats(platform: Platform, age_s: float) -> None:
    operator = add_operator(platform)
    make_assigned_chat(platform, operator, age_s=800)
    make_assigned_chat(platform, operator, age_s=age_s)


def inactive_operator(platform: Platform, age_s: float) -> None:
    make_assigned_chat(platform, add_operator(platform, active=False), age_s=age_s)


def reply_without_timestamp(platform: Platform, age_s: float) -> None:
    add_chat(platform, "waiting_real_user_reply", created_s=900, updated_s=age_s)


def lost_reply(platform: Platform, age_s: float) -> None:
    chat = make_replied_chat(platform, age_s=900)
    add_message(platform, chat, age_s=age_s)


def lost_reply_between_the_writes(platform: Platform, age_s: float) -> None:
    """The user's message came after the operator's, and before the state that it should change."""
    chat = make_replied_chat(platform, age_s=age_s + 1)
    add_message(platform, chat, age_s=age_s)
    platform.execute(
        "UPDATE chats SET operator_replied_at = now(), last_message_at = now() WHERE id = %s",
        (chat,),
    )


def answered_but_waiting(platform: Platform, age_s: float) -> None:
    chat = make_waiting_chat(platform, age_s=900)
    add_message(platform, chat, "fictional", age_s=age_s)


def answered_and_released(platform: Platform, age_s: float) -> None:
    """The application died after the operator's message; then the chat was released."""
    answered_but_waiting(platform, 800)
    chat = platform.value("SELECT id FROM chats")
    operator = add_operator(platform)
    add_assignment(
        platform, chat, operator, assigned_s=850, released_s=age_s, reason="idle_timeout"
    )


def completed_but_active(platform: Platform, age_s: float) -> None:
    add_chat(platform, "completed", created_s=900, updated_s=age_s)


def unknown_state(platform: Platform, age_s: float) -> None:
    add_chat(platform, None, created_s=900, updated_s=age_s)
    add_chat(platform, "on_hold", created_s=900, updated_s=age_s)


def time_in_future(platform: Platform, age_s: float) -> None:
    # It is wrong by more than a minute, or the clocks merely differ a little.
    add_chat(platform, created_s=-70 if age_s > 30 else -50)


def time_infinite(platform: Platform, age_s: float) -> None:
    add_chat(platform, "completed", active=age_s > 30, created_s=0, updated_s=0)
    platform.execute("UPDATE chats SET created_at = '-infinity'")


def closed_but_written_to(platform: Platform, age_s: float) -> None:
    chat = make_replied_chat(platform, age_s=900)
    application.force_close(platform.connection, chat)
    application.write_as_user(platform.connection, chat, "Anybody?")
    with restoring(platform):
        platform.execute(
            "UPDATE messages SET created_at = now() - make_interval(secs => %(age)s)"
            " WHERE content = 'Anybody?'",
            {"age": age_s},
        )
    restore_stamp(platform, chat, age_s)


def active_chat_of_blocked_user(platform: Platform, age_s: float) -> None:
    make_assigned_chat(platform, age_s=900)
    with restoring(platform):
        platform.execute(
            "UPDATE real_users SET is_active = false,"
            " updated_at = now() - make_interval(secs => %s)",
            (age_s,),
        )


Scenario = Callable[[Platform, float], None]
CHECKS: tuple[tuple[Scenario, str, float], ...] = (
    (assigned_without_operator, "", 1),
    (operator_on_unassigned_chat, "", 1),
    (assigned_without_open_assignment, "", 1),
    (orphaned_assignment, "", 1),
    (several_open_assignments, "", 1),
    (operator_mismatch, "", 1),
    (operator_on_several_chats, "", 2),
    (inactive_operator, "", 1),
    (reply_without_timestamp, "", 1),
    (lost_reply, "", 1),
    (lost_reply_between_the_writes, "lost_reply", 1),
    (answered_but_waiting, "", 1),
    (answered_and_released, "answered_but_waiting", 1),
    (completed_but_active, "", 1),
    (unknown_state, "", 2),
    (time_in_future, "", 1),
    (time_infinite, "", 1),
    (closed_but_written_to, "", 1),
    (active_chat_of_blocked_user, "", 1),
)


@pytest.mark.parametrize(
    ("scenario", "check", "chats"),
    [(scenario, check or scenario.__name__, chats) for scenario, check, chats in CHECKS],
    ids=[scenario.__name__ for scenario, _, _ in CHECKS],
)
def test_an_anomaly_counts_beyond_the_grace_and_not_within(
    platform: Platform, scenario: Scenario, check: str, chats: float
) -> None:
    drop_constraints(platform)
    with Watcher(platform, CHECK_QUERIES) as watcher:
        scenario(platform, 25)
        watcher.poll_well()
        assert watcher.counts("chatqueue_invalid_chats") == {}
        platform.execute("DELETE FROM chats")

        scenario(platform, 40)
        watcher.poll_well()
        raised = watcher.counts("chatqueue_invalid_chats")
        assert raised.pop(check) == chats
        # An operator who holds a chat that is not his is on two things at once, and so on.
        assert raised == {}

        platform.execute("DELETE FROM chats")
        watcher.poll_well()
        assert watcher.counts("chatqueue_invalid_chats") == {}


def test_every_check_has_its_scenario(platform: Platform) -> None:
    with Watcher(platform, CHECK_QUERIES) as watcher:
        watcher.poll_well()
        known = {labels[0] for labels in watcher.samples("chatqueue_invalid_chats")}

    assert known == {check or scenario.__name__ for scenario, check, _ in CHECKS}
    assert len(known) == 17


@pytest.mark.parametrize(
    "near",
    [
        "closed on a user who waited",
        "answered before its end",
        "of a blocked user",
        "of the day before yesterday",
        "open again",
    ],
)
def test_a_message_that_is_not_shut_out_is_no_anomaly(platform: Platform, near: str) -> None:
    with Watcher(platform, ["invalid_users"]) as watcher:
        if near == "closed on a user who waited":
            chat = make_waiting_chat(platform, age_s=300)
            application.force_close(platform.connection, chat)
        elif near == "answered before its end":
            chat = make_replied_chat(platform, age_s=300)
            application.force_close(platform.connection, chat)
        else:
            closed_but_written_to(platform, 2 * 86_400 if "yesterday" in near else 40)
        if near == "of a blocked user":
            platform.execute("UPDATE real_users SET is_active = false")
        if near == "open again":
            platform.execute("UPDATE chats SET is_active = true")
        watcher.poll_well()

        assert watcher.counts("chatqueue_invalid_chats") == {}


def test_writing_into_a_chat_that_a_release_closed_is_seen_whatever_touched_it_since(
    platform: Platform,
) -> None:
    with Watcher(platform, ["invalid_users"], checks={"grace": "0s"}) as watcher:
        chat = make_assigned_chat(platform, age_s=300, past_turns=3)
        assert application.release(platform.connection, chat, "idle_timeout") is False
        watcher.poll_well()
        assert watcher.counts("chatqueue_invalid_chats") == {}

        application.write_as_user(platform.connection, chat, "Anybody?")
        restore_stamp(platform, chat, -60)
        watcher.poll_well()
        assert watcher.counts("chatqueue_invalid_chats") == {"closed_but_written_to": 1}


def make_sound_platform(platform: Platform) -> None:
    """Every state as it should be, however old."""
    make_waiting_chat(platform, age_s=900)
    make_assigned_chat(platform, age_s=900, past_turns=2)
    make_replied_chat(platform, age_s=9000)
    add_chat(platform, "completed", active=False, created_s=9000)
    # A user who writes while his chat is assigned; an operator who is away; times of long ago.
    add_message(platform, make_assigned_chat(platform, age_s=500), age_s=100)
    add_operator(platform, active=False)
    # Inactive chats are nobody's business, whatever they say.
    add_chat(platform, None, active=False, created_s=9000)
    add_chat(platform, "assigned", active=False, created_s=9000, operator=add_operator(platform))


def test_a_sound_platform_raises_nothing(platform: Platform) -> None:
    with Watcher(platform, CHECK_QUERIES) as watcher:
        make_sound_platform(platform)
        watcher.poll_well()

        assert watcher.counts("chatqueue_invalid_chats") == {}


def test_a_heartbeat_from_the_future_is_no_anomaly_of_the_chat(platform: Platform) -> None:
    with Watcher(platform, (*CHECK_QUERIES, *EVENT_QUERIES)) as watcher:
        operator = add_operator(platform, seen_s=-3600)
        chat = make_assigned_chat(platform, operator, age_s=100, heartbeat_s=None)
        add_heartbeat(platform, chat, operator, browser_s=-3600, updated_s=5)
        watcher.poll_well()

        assert watcher.counts("chatqueue_invalid_chats") == {}


def test_a_user_who_keeps_writing_hides_no_operator_that_was_not_cleared(
    platform: Platform,
) -> None:
    with Watcher(platform, CHECK_QUERIES) as watcher:
        operator = add_operator(platform)
        replied = make_replied_chat(platform, operator, age_s=100)
        platform.execute(
            "UPDATE chats SET assigned_operator_id = %s, assignment_time = now() - interval '3 min'"
            " WHERE id = %s",
            (operator, replied),
        )
        watcher.poll_well()

        # updated_at is of this moment, and the reply's clock is not.
        age = platform.value("SELECT now() - updated_at FROM chats")
        assert isinstance(age, timedelta)
        assert age < timedelta(seconds=20)
        assert watcher.counts("chatqueue_invalid_chats") == {"operator_on_unassigned_chat": 1}


def test_counting_goes_by_the_databases_clock(platform: Platform) -> None:
    with Watcher(platform) as watcher:
        watcher.poll_well()
        since = watcher.worker._results.counters["messages"].parameters()["since"]

        assert isinstance(since, datetime)
        lag = platform.value("SELECT now() - %s::timestamptz", (since,))
        assert timedelta(seconds=30) <= lag < timedelta(seconds=50)
