"""Every metric of every built-in query, on known contents, equals what was worked out by hand.

Each look is a whole poll, made directly and through PgBouncer in transaction mode, on a database
whose clock stands still: figures are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from exporter.demo.platform import application
from tests import builders
from tests.postgres.test_queries_support import (
    CLOCKED,
    NOW_S,
    STATES,
    Figures,
    by_state,
    clock_figures,
    families_of,
    move_clock,
    plain,
    poll,
    stop_clock,
)
from tests.servers import PgBouncer, Platform

Look = Callable[..., Figures]
DEFAULT_LIMITS_S = {"waiting_assignment": (120.0, 300.0), "assigned": (600.0, 1200.0)}
HOUR, DAY = 3600, 86400


@pytest.fixture
def stopped(platform: Platform) -> Platform:
    """A platform database whose clock stands still."""
    return stop_clock(platform)


@pytest.fixture
def look(stopped: Platform, pgbouncer: PgBouncer) -> Look:
    """Polls everything, by both ways, with further lines of configuration."""

    def look(settings: str = "") -> Figures:
        direct = plain(families_of(poll(stopped.dsn, settings)))
        pooled = plain(families_of(poll(pgbouncer.dsn(stopped.database), settings)))
        assert pooled == direct
        return direct

    return look


def drop_checks(platform: Platform) -> None:
    """Let the test's own database hold states the platform has never heard of."""
    platform.execute(
        "ALTER TABLE chats DROP CONSTRAINT chats_chat_state_check,"
        " DROP CONSTRAINT chk_assigned_state_has_operator"
    )


def approximately(figures: Figures) -> Figures:
    """The figures, but that a mean may be off by what a float of a Unix time cannot hold."""
    return {
        name: pytest.approx(values, abs=1e-3) if "_mean_" in name else values
        for name, values in figures.items()
    }


def ages_of(figures: Figures) -> dict[str, float]:
    """Oldest age of each state that has a chat."""
    counts = figures["state_age_chats"]
    oldest = figures["state_oldest_age_seconds"]
    return {state: oldest[state] for state in CLOCKED if counts[f"{state},+Inf"]}


def test_an_empty_platform_is_all_zeros(stopped: Platform, look: Look) -> None:
    assert look() == {
        "chats": by_state(STATES, {}),
        "chats_with_operator": by_state(STATES, {}),
        "chats_with_last_operator": by_state(STATES, {}),
        "oldest_chat_created_timestamp_seconds": {},
        "newest_chat_created_timestamp_seconds": {},
        "platform_queue_chats": {"waiting": 0, "assigned": 0, "waiting_reply": 0},
        "platform_queue_oldest_age_seconds": {"": 0},
        "platform_queue_mean_age_seconds": {"": 0},
        "platform_stuck_chats": by_state(STATES, {}),
        **clock_figures({}, {}),
        "customer_oldest_wait_seconds": {"": 0},
        "unanswered_chats": {"": 0},
        "empty_waiting_chats": {"": 0},
        "operators": {"available": 0, "on_chat": 0, "stale": 0, "away": 0, "disabled": 0},
        "operator_chats": {},
        "idle_overdue_chats": {"": 0},
        "idle_timeout_seconds": {"": 300},
    }


def test_every_figure_of_a_busy_platform(stopped: Platform, look: Look) -> None:
    drop_checks(stopped)
    add = builders.add_operator
    ann, bob, cyd = (add(stopped, name) for name in ("Ann", "Bob", "Cyd"))
    add(stopped, "Dan", seen_s=301)
    add(stopped, "Eve", available=False)
    add(stopped, "Fay", active=False)
    # Waiting 20 s and 400 s; the older was queued long after its creation.
    builders.make_waiting_chat(stopped, age_s=20, last_operator=ann)
    builders.make_waiting_chat(stopped, age_s=400, created_s=2 * DAY)
    # Assigned 60 s (user waits 70), 700 s without any heartbeat (user waits 5000).
    builders.make_assigned_chat(stopped, ann, age_s=60, heartbeat_s=30)
    builders.make_assigned_chat(stopped, bob, age_s=700, heartbeat_s=None, waited_s=4300)
    # The user is to write, since 10, 8000 and 16000 s.
    for age_s in (10, 8000, 16000):
        builders.make_replied_chat(stopped, cyd, age_s=age_s)
    builders.add_chat(stopped, None, created_s=4 * HOUR + 1, operator=ann)
    builders.add_chat(stopped, "on_the_moon", created_s=40, last_operator=bob)
    builders.add_chat(stopped, "completed", created_s=5 * DAY)
    # None of these is active.
    for state in ("waiting_assignment", "assigned", "waiting_real_user_reply", "completed", None):
        gone = builders.add_chat(
            stopped, state, active=False, created_s=9 * DAY, operator=cyd, assigned_s=9 * DAY,
            replied_s=9 * DAY, last_operator=cyd,
        )  # fmt: skip
        builders.add_message(stopped, gone, age_s=9 * DAY)
    unset = builders.add_chat(stopped, active=None, created_s=9 * DAY)
    builders.add_message(stopped, unset, age_s=9 * DAY)

    assert look() == approximately(
        {
            "chats": {
                "waiting_assignment": 2,
                "assigned": 2,
                "waiting_real_user_reply": 3,
                "completed": 1,
                "unknown": 2,
            },
            "chats_with_operator": by_state(STATES, {"assigned": 2, "unknown": 1}),
            "chats_with_last_operator": by_state(
                STATES,
                {
                    "waiting_assignment": 1,
                    "assigned": 2,
                    "waiting_real_user_reply": 3,
                    "unknown": 1,
                },
            ),
            "oldest_chat_created_timestamp_seconds": {
                "waiting_assignment": NOW_S - 2 * DAY,
                "assigned": NOW_S - 5000,
                "waiting_real_user_reply": NOW_S - 16030,
                "completed": NOW_S - 5 * DAY,
                "unknown": NOW_S - 4 * HOUR - 1,
            },
            "newest_chat_created_timestamp_seconds": {
                "waiting_assignment": NOW_S - 20,
                "assigned": NOW_S - 70,
                "waiting_real_user_reply": NOW_S - 40,
                "completed": NOW_S - 5 * DAY,
                "unknown": NOW_S - 40,
            },
            "platform_queue_chats": {"waiting": 2, "assigned": 2, "waiting_reply": 3},
            "platform_queue_oldest_age_seconds": {"": 2 * DAY},
            "platform_queue_mean_age_seconds": {"": (2 * DAY + 20) / 2},
            # Updated more than an hour ago: two replied, the one of NULL, the completed one.
            "platform_stuck_chats": by_state(
                STATES, {"waiting_real_user_reply": 2, "completed": 1, "unknown": 1}
            ),
            **clock_figures(
                {
                    "waiting_assignment": (20, 400),
                    "assigned": (60, 700),
                    "waiting_real_user_reply": (10, 8000, 16000),
                    "unknown": (4 * HOUR + 1, 40),
                },
                DEFAULT_LIMITS_S,
            ),
            "customer_oldest_wait_seconds": {"": 5000},
            "unanswered_chats": {"": 4},
            "empty_waiting_chats": {"": 0},
            # Bob's chat has had no heartbeat for longer than 5 min; Dan was last seen then.
            "operators": {"available": 1, "on_chat": 1, "stale": 2, "away": 1, "disabled": 1},
            # Cyd's are the replied ones: 40 s ago, 8030 and 16030 s ago.
            "operator_chats": {"Ann": 1, "Bob": 1, "Cyd": 1, "Dan": 0, "Eve": 0},
            "idle_overdue_chats": {"": 1},
            "idle_timeout_seconds": {"": 300},
        }
    )


def test_a_chat_is_overdue_beyond_its_limit_not_at_it(stopped: Platform, look: Look) -> None:
    for age_s in (120, 120.001, 300, 300.001):
        builders.make_waiting_chat(stopped, age_s=age_s)
    for age_s in (600, 600.001, 1200, 1200.001):
        builders.make_assigned_chat(stopped, age_s=age_s)
    for age_s in (60, 60.001, 120, 120.001):
        builders.make_replied_chat(stopped, age_s=age_s)

    limits = "thresholds: {oldest_age: {waiting_real_user_reply: {warning: 1m, critical: 2m}}}\n"
    overdue = look(limits)["state_overdue_chats"]

    for state in CLOCKED[:3]:
        assert (overdue[f"{state},warning"], overdue[f"{state},critical"]) == (3, 1), state


def test_a_threshold_that_is_off_is_never_overdue(stopped: Platform, look: Look) -> None:
    builders.make_waiting_chat(stopped, age_s=9 * DAY)
    builders.make_assigned_chat(stopped, age_s=9 * DAY)
    builders.make_replied_chat(stopped, age_s=9 * DAY)

    off = "{warning: off, critical: off}"
    figures = look(f"thresholds: {{oldest_age: {{waiting_assignment: {off}, assigned: {off}}}}}\n")

    assert set(figures["state_overdue_chats"].values()) == {0}


def test_an_age_at_a_step_counts_for_the_step(stopped: Platform, look: Look) -> None:
    for age_s in (15, 15.001, 86400, 86400.001):
        builders.make_waiting_chat(stopped, age_s=age_s)
        builders.make_replied_chat(stopped, age_s=age_s)

    ages = look()["state_age_chats"]

    for state in ("waiting_assignment", "waiting_real_user_reply"):
        steps = [ages[f"{state},{step}"] for step in ("15", "30", "14400", "86400", "+Inf")]
        assert steps == [1, 2, 2, 3, 4]


def test_a_user_who_keeps_writing_does_not_hide_that_the_operator_left(
    stopped: Platform, look: Look
) -> None:
    chat = builders.make_assigned_chat(stopped, age_s=7200, heartbeat_s=7200)
    assert look()["platform_stuck_chats"]["assigned"] == 1

    for age_s in (3600, 60, 0):
        builders.add_message(stopped, chat, age_s=age_s)
    stopped.execute("UPDATE chats SET last_message_at = now(), message_count = 4")

    figures = look()
    assert figures["platform_stuck_chats"]["assigned"] == 0  # the platform sees nothing
    assert figures["state_oldest_age_seconds"]["assigned"] == 7200
    assert figures["state_overdue_chats"]["assigned,critical"] == 1
    assert figures["customer_oldest_wait_seconds"] == {"": 7210}
    assert figures["idle_overdue_chats"] == {"": 1}
    assert figures["operators"]["stale"] == 1


def test_a_release_starts_the_states_clock_again_but_not_the_users(
    stopped: Platform, look: Look
) -> None:
    chat = builders.make_assigned_chat(stopped, age_s=900, waited_s=60)
    move_clock(stopped, 100)

    assert application.release(stopped.connection, chat, "idle_timeout") is True

    move_clock(stopped, 130)
    figures = look()
    assert ages_of(figures) == {"waiting_assignment": 30}
    assert figures["customer_oldest_wait_seconds"] == {"": 900 + 60 + 130}
    assert figures["operators"]["on_chat"] == 0


def test_a_waiting_chat_counts_from_the_later_of_release_and_message(
    stopped: Platform, look: Look
) -> None:
    operator = builders.add_operator(stopped)

    def waiting(released_s: float | None, *messages: tuple[str, float]) -> UUID:
        chat = builders.add_chat(stopped, created_s=5000)
        if released_s is not None:
            builders.add_assignment(
                stopped, chat, operator, assigned_s=4000, released_s=released_s, reason="x"
            )
        for sender, age_s in messages:
            builders.add_message(stopped, chat, sender, age_s=age_s)
        return chat

    def oldest_of(chat: UUID) -> float:
        age_s = look()["state_oldest_age_seconds"]["waiting_assignment"]
        stopped.execute("DELETE FROM chats WHERE id = %s", (chat,))
        return age_s

    assert oldest_of(waiting(None, ("real", 4500), ("real", 10))) == 4500
    assert oldest_of(waiting(None, ("real", 4500), ("fictional", 100), ("real", 50))) == 50
    assert oldest_of(waiting(100, ("real", 4500))) == 100
    assert oldest_of(waiting(3000, ("fictional", 2000), ("real", 900), ("real", 50))) == 900
    # Its last message is the operator's: nobody is owed an answer, and only the release counts.
    assert oldest_of(waiting(300, ("real", 4500), ("fictional", 200))) == 300
    assert oldest_of(waiting(None, ("real", 4500), ("fictional", 200))) == 5000


def test_the_last_of_several_releases_counts_even_beside_an_open_assignment(
    stopped: Platform, look: Look
) -> None:
    operator = builders.add_operator(stopped)
    chat = builders.add_chat(stopped, created_s=5000)
    for assigned_s, released_s in ((4000, 3000), (2000, 1000), (2500, None)):
        builders.add_assignment(
            stopped, chat, operator, assigned_s=assigned_s, released_s=released_s
        )
    builders.add_message(stopped, chat, age_s=4500)

    assert ages_of(look()) == {"waiting_assignment": 1000}


@pytest.mark.parametrize("came_back", [False, True], ids=["new", "handed back"])
def test_a_chat_in_which_nobody_has_written_is_counted_and_no_wait(
    stopped: Platform, look: Look, came_back: bool
) -> None:
    empty = builders.add_chat(stopped, created_s=5000)
    if came_back:
        builders.add_assignment(
            stopped, empty, builders.add_operator(stopped), assigned_s=900, released_s=800
        )

    figures = look()
    assert figures["empty_waiting_chats"] == {"": 1}
    assert figures["chats"]["waiting_assignment"] == 1
    assert figures["customer_oldest_wait_seconds"] == figures["unanswered_chats"] == {"": 0}
    assert {name: figures[name] for name in clock_figures({}, {})} == clock_figures({}, {})

    builders.add_message(stopped, empty, age_s=700)
    figures = look()
    assert figures["empty_waiting_chats"] == {"": 0}
    assert ages_of(figures) == {"waiting_assignment": 700}
    assert figures["customer_oldest_wait_seconds"] == {"": 700}


def test_only_unanswered_messages_of_chats_that_are_owed_an_answer_count(
    stopped: Platform, look: Look
) -> None:
    operator = builders.add_operator(stopped)
    answered = builders.add_chat(stopped, created_s=900)
    builders.add_message(stopped, answered, age_s=900)
    builders.add_message(stopped, answered, "fictional", age_s=800)
    silent = builders.add_chat(stopped, created_s=950)
    assert silent
    builders.make_replied_chat(stopped, age_s=5000)
    lost = builders.make_replied_chat(stopped, age_s=5000)
    builders.add_message(stopped, lost, age_s=4000)  # another check's matter: invalid_chats
    figures = look()
    assert (figures["unanswered_chats"], figures["customer_oldest_wait_seconds"]) == (
        {"": 0},
        {"": 0},
    )

    builders.add_message(stopped, answered, age_s=30)
    taken = builders.add_chat(stopped, "assigned", created_s=99, operator=operator, assigned_s=1)
    builders.add_message(stopped, taken, age_s=70)
    builders.add_message(stopped, taken, age_s=20)

    figures = look()
    assert figures["unanswered_chats"] == {"": 2}
    assert figures["customer_oldest_wait_seconds"] == {"": 70}


def test_a_chat_that_has_no_time_but_the_future_counts_without_an_age(
    stopped: Platform, look: Look
) -> None:
    drop_checks(stopped)
    builders.make_waiting_chat(stopped, age_s=-500)
    builders.make_assigned_chat(stopped, age_s=-500, heartbeat_s=-500)
    builders.make_replied_chat(stopped, age_s=-500)
    builders.add_chat(stopped, "on_the_moon", created_s=-500)

    figures = look()

    assert ages_of(figures) == dict.fromkeys(CLOCKED, 0)
    assert figures["state_mean_age_seconds"] == pytest.approx(dict.fromkeys(CLOCKED, 0), abs=1e-3)
    assert {figures["state_age_chats"][f"{state},86400"] for state in CLOCKED} == {0}
    assert {figures["state_age_chats"][f"{state},+Inf"] for state in CLOCKED} == {1}
    assert figures["unanswered_chats"] == {"": 2}
    for name in (
        "platform_queue_oldest_age_seconds",
        "platform_queue_mean_age_seconds",
        "customer_oldest_wait_seconds",
        "idle_overdue_chats",
    ):
        assert figures[name] == {"": 0}, name


def test_an_assigned_chat_without_a_time_counts_from_its_open_assignment_else_its_creation(
    stopped: Platform, look: Look
) -> None:
    operator = builders.add_operator(stopped)
    chat = builders.add_chat(stopped, "assigned", created_s=5000, operator=operator)
    figures = look()
    assert ages_of(figures) == {"assigned": 5000}
    # The platform's job takes no chat without a time, and so is not late with one.
    assert figures["idle_overdue_chats"] == {"": 0}
    assert figures["operators"]["stale"] == 1

    builders.add_assignment(stopped, chat, operator, assigned_s=9000, released_s=10)
    builders.add_assignment(stopped, chat, operator, assigned_s=250)

    assert ages_of(look()) == {"assigned": 250}


def test_the_time_of_the_assignment_wins_over_its_row(stopped: Platform, look: Look) -> None:
    operator = builders.add_operator(stopped)
    chat = builders.add_chat(stopped, "assigned", created_s=900, operator=operator, assigned_s=100)
    builders.add_assignment(stopped, chat, operator, assigned_s=50)

    assert ages_of(look()) == {"assigned": 100}


def test_a_reply_without_its_time_counts_from_the_chats_creation(
    stopped: Platform, look: Look
) -> None:
    stopped.execute("ALTER TABLE chats DROP CONSTRAINT chk_waiting_reply_has_timestamp")
    builders.add_chat(stopped, "waiting_real_user_reply", created_s=777)

    assert ages_of(look()) == {"waiting_real_user_reply": 777}


def test_states_nobody_has_heard_of_are_counted_as_unknown(stopped: Platform, look: Look) -> None:
    drop_checks(stopped)
    for number, state in enumerate((None, "", "ASSIGNED", " assigned", "unknown", "x" * 500)):
        builders.add_chat(stopped, state, created_s=5000 + number)

    figures = look()

    assert figures["chats"] == by_state(STATES, {"unknown": 6})
    assert figures["platform_stuck_chats"] == by_state(STATES, {"unknown": 6})
    assert figures["state_age_chats"]["unknown,+Inf"] == 6
    assert figures["state_oldest_age_seconds"] == by_state(CLOCKED, {"unknown": 5005})
    assert figures["oldest_chat_created_timestamp_seconds"] == {"unknown": NOW_S - 5005}
    assert figures["newest_chat_created_timestamp_seconds"] == {"unknown": NOW_S - 5000}


def test_a_state_that_empties_is_zero_again(stopped: Platform, look: Look) -> None:
    builders.make_waiting_chat(stopped, age_s=400)
    builders.make_assigned_chat(stopped, age_s=4000, heartbeat_s=None)
    before = look()
    assert before["chats"]["waiting_assignment"] == before["chats"]["assigned"] == 1

    stopped.execute("UPDATE chats SET is_active = false")

    figures = look()
    assert figures["chats"] == by_state(STATES, {})
    assert figures["oldest_chat_created_timestamp_seconds"] == {}
    assert {name: figures[name] for name in clock_figures({}, {})} == clock_figures({}, {})
    assert figures["customer_oldest_wait_seconds"] == figures["idle_overdue_chats"] == {"": 0}


@pytest.mark.parametrize(("hours", "stuck"), [(1, 3), (2, 2), (8760, 1)])
def test_stuck_is_asked_with_the_configured_hours(
    stopped: Platform, look: Look, hours: int, stuck: int
) -> None:
    for age_s in (HOUR, HOUR + 1, 2 * HOUR + 1, 8760 * HOUR + 1):
        builders.make_waiting_chat(stopped, age_s=age_s)

    figures = look(f"thresholds: {{stuck_hours: {hours}}}\n")

    assert figures["platform_stuck_chats"] == by_state(STATES, {"waiting_assignment": stuck})


def test_figures_of_one_poll_are_of_one_moment(stopped: Platform, look: Look) -> None:
    for _ in range(3):
        builders.make_waiting_chat(stopped, age_s=60)

    figures = look()

    assert figures["chats"]["waiting_assignment"] == 3
    assert figures["platform_queue_chats"]["waiting"] == 3
    assert figures["state_age_chats"]["waiting_assignment,+Inf"] == 3
    assert figures["unanswered_chats"][""] == 3
