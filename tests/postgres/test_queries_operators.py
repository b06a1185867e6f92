"""What is said of operators and of the platform's idle detector, on known contents."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import pytest

from exporter.demo.platform import application
from tests import builders
from tests.counting import Watcher
from tests.postgres.test_queries import Look, look, stopped
from tests.servers import Platform

__all__ = ["look", "stopped"]  # fixtures

IDLE_S = 300
GRACE_S = 120


def counted(look: Look, settings: str = "") -> dict[str, float]:
    """Operators by status, without the statuses nobody has."""
    operators = look(settings)["operators"]
    assert set(operators) == {"available", "on_chat", "stale", "away", "disabled"}
    return {status: count for status, count in operators.items() if count}


@pytest.mark.parametrize(
    ("seen_s", "status"), [(0, "available"), (IDLE_S, "available"), (IDLE_S + 0.001, "stale"),
                           (None, "stale"), (-59, "available"), (-3600, "stale")],
)  # fmt: skip
def test_an_available_operator_shows_life_by_his_last_activity(
    stopped: Platform, look: Look, seen_s: float | None, status: str
) -> None:
    builders.add_operator(stopped, seen_s=seen_s)

    assert counted(look) == {status: 1}


@pytest.mark.parametrize(
    ("heartbeat_s", "status"),
    [
        (0, "on_chat"),
        (IDLE_S, "on_chat"),
        (IDLE_S + 0.001, "stale"),
        (-3600, "stale"),
        (-59, "on_chat"),
    ],
)
def test_an_operator_on_a_chat_shows_life_by_its_heartbeat_alone(
    stopped: Platform, look: Look, heartbeat_s: float, status: str
) -> None:
    operator = builders.add_operator(stopped, seen_s=0)
    builders.make_assigned_chat(stopped, operator, age_s=3600, heartbeat_s=heartbeat_s)

    assert counted(look) == {status: 1}


@pytest.mark.parametrize(("age_s", "status"), [(IDLE_S, "on_chat"), (IDLE_S + 1, "stale")])
def test_a_chat_without_a_heartbeat_counts_from_its_assignment(
    stopped: Platform, look: Look, age_s: float, status: str
) -> None:
    builders.make_assigned_chat(stopped, age_s=age_s, heartbeat_s=None)

    assert counted(look) == {status: 1}


def test_a_fresh_chat_without_a_heartbeat_is_not_judged_by_another_chats(
    stopped: Platform, look: Look
) -> None:
    operator = builders.add_operator(stopped)
    builders.make_assigned_chat(stopped, operator, age_s=4000, heartbeat_s=4000)
    builders.make_assigned_chat(stopped, operator, age_s=10, heartbeat_s=None)

    assert counted(look) == {"on_chat": 1}


def test_a_heartbeat_of_another_operator_or_chat_is_no_life(stopped: Platform, look: Look) -> None:
    operator, other = builders.add_operator(stopped), builders.add_operator(stopped)
    chat = builders.make_assigned_chat(stopped, operator, age_s=4000, heartbeat_s=None)
    builders.add_heartbeat(stopped, chat, other)
    builders.add_heartbeat(stopped, builders.make_replied_chat(stopped, operator), operator)

    assert counted(look) == {"stale": 1, "available": 1}


def test_a_browsers_clock_in_the_future_is_no_life_but_stops_the_platforms_idle_detector(
    stopped: Platform, look: Look
) -> None:
    operator = builders.add_operator(stopped)
    chat = builders.make_assigned_chat(stopped, operator, age_s=4000, heartbeat_s=None)
    builders.add_heartbeat(stopped, chat, operator, browser_s=-3600, updated_s=4000)

    figures = look()

    assert figures["operators"]["stale"] == 1
    assert figures["idle_overdue_chats"] == {"": 0}


def test_each_operator_is_counted_once_whatever_he_holds(stopped: Platform, look: Look) -> None:
    busy = builders.add_operator(stopped, available=False)
    for _ in range(3):
        builders.make_assigned_chat(stopped, busy)
    gone = builders.add_operator(stopped, active=False)
    builders.make_assigned_chat(stopped, gone)
    former = builders.add_operator(stopped)
    builders.make_replied_chat(stopped, former)
    closed = builders.make_assigned_chat(stopped, former)
    stopped.execute("UPDATE chats SET is_active = false WHERE id = %s", (closed,))

    assert counted(look) == {"on_chat": 1, "disabled": 1, "available": 1}


SETTINGS = {
    "a number": (7, 420),
    "a fraction": (0.5, 30),
    "a JSON string": ("7", 420),
    "a string with blanks": (" 7.5 ", 450),
    "zero": (0, 0),
    "null": (None, 300),
    "negative": (-5, 300),
    "words": ("five", 300),
    "an empty string": ("", 300),
    "not a number": ("NaN", 300),
    "infinite": ("Infinity", 300),
    "an object": ({"minutes": 7}, 300),
    "a list": ([7], 300),
    "a switch": (True, 300),
    "digits of another script": ("\u0665", 300),
    "a wide blank": ("\u20035", 300),
    "a number beyond reason": (10**30, 300),
}


@pytest.mark.parametrize(("value", "timeout_s"), SETTINGS.values(), ids=SETTINGS)
def test_the_idle_timeout_is_read_however_it_is_written(
    stopped: Platform, look: Look, value: Any, timeout_s: float
) -> None:
    builders.set_config(stopped, "idle_timeout_minutes", value)
    operator = builders.add_operator(stopped, seen_s=timeout_s + 1)
    assert operator
    for beyond_s in (0, 0.001):
        builders.make_assigned_chat(stopped, age_s=1e6, heartbeat_s=timeout_s + GRACE_S + beyond_s)

    figures = look()

    assert figures["idle_timeout_seconds"] == {"": timeout_s}
    assert figures["idle_overdue_chats"] == {"": 1}
    assert figures["operators"]["stale"] == 3


def test_without_a_setting_the_platforms_default_counts(stopped: Platform, look: Look) -> None:
    stopped.execute("DELETE FROM platform_config")
    builders.add_operator(stopped, seen_s=301)

    figures = look()

    assert figures["idle_timeout_seconds"] == {"": 300}
    assert figures["operators"]["stale"] == 1


def test_the_grace_is_the_configurations(stopped: Platform, look: Look) -> None:
    for heartbeat_s in (IDLE_S, IDLE_S + 1, IDLE_S + 11, IDLE_S + 121):
        builders.make_assigned_chat(stopped, age_s=4000, heartbeat_s=heartbeat_s)

    def overdue(settings: str) -> float:
        return look(settings)["idle_overdue_chats"][""]

    assert overdue("") == 1
    assert overdue("thresholds: {idle_grace: 10s}\n") == 2
    assert overdue("thresholds: {idle_grace: 0s}\n") == 3


def test_idle_chats_are_those_that_the_platforms_job_would_take(
    stopped: Platform, look: Look
) -> None:
    limit_s = IDLE_S + GRACE_S
    operator = builders.add_operator(stopped)
    for age_s in (limit_s, limit_s + 1):
        # A missing row is idle; a missing time of assignment never is.
        builders.make_assigned_chat(stopped, age_s=age_s, created_s=9000, heartbeat_s=None)
        builders.add_chat(stopped, "assigned", created_s=9000, operator=operator)
        # The tab is open, and nobody sits there: the input decides, and not the beat.
        open_tab = builders.make_assigned_chat(stopped, operator, age_s=9000, heartbeat_s=None)
        builders.add_heartbeat(stopped, open_tab, operator, browser_s=age_s, updated_s=5)
        # Both must be old.
        fresh = builders.make_assigned_chat(stopped, operator, age_s=60, heartbeat_s=None)
        builders.add_heartbeat(stopped, fresh, operator, browser_s=age_s, updated_s=age_s)
    # What an earlier holder's browser says is no sign of the present one's.
    orphan = builders.make_assigned_chat(stopped, operator, age_s=9000, heartbeat_s=None)
    builders.add_heartbeat(stopped, orphan, builders.add_operator(stopped))
    builders.make_waiting_chat(stopped, age_s=9000)
    builders.make_replied_chat(stopped, age_s=9000)

    assert look()["idle_overdue_chats"] == {"": 3}


@pytest.mark.newest
def test_the_idle_query_counts_what_the_platforms_own_condition_selects(
    stopped: Platform, look: Look
) -> None:
    ages_s = (None, -300, 0, 299, 301, 9000)
    operator = builders.add_operator(stopped)
    for assigned_s, browser_s, updated_s in itertools.product(ages_s, ages_s, (0, 9000)):
        chat = builders.add_chat(
            stopped, "assigned", created_s=9000, operator=operator, assigned_s=assigned_s
        )
        if browser_s is not None:
            builders.add_heartbeat(
                stopped, chat, operator, browser_s=browser_s, updated_s=updated_s
            )

    overdue = look("thresholds: {idle_grace: 0s}\n")["idle_overdue_chats"][""]

    builders.set_config(stopped, "max_reassignments", 9)
    assert overdue == len(application.run_idle_detector(stopped.connection)) == 12


def idle_s(platform: Platform) -> float | None:
    """What is said of the longest idle operator, in seconds."""
    with Watcher(platform, ["operator_idle"]) as watcher:
        watcher.poll_well()
        return watcher.value("chatqueue_operator_idle_max_seconds")


def make_idle(platform: Platform, had_s: float, **operator: Any) -> UUID:
    """Add an operator whose last chat ended that long ago."""
    idle = builders.add_operator(platform, **operator)
    builders.make_replied_chat(platform, idle, age_s=had_s)
    return idle


def test_nobody_is_idle_where_nobody_is_available(stopped: Platform) -> None:
    assert idle_s(stopped) == 0

    make_idle(stopped, 700, available=False)
    make_idle(stopped, 710, active=False)
    make_idle(stopped, 720, seen_s=IDLE_S + 1)
    make_idle(stopped, 730, seen_s=None)
    make_idle(stopped, 740, seen_s=-3600)
    builders.make_assigned_chat(stopped, make_idle(stopped, 750))

    assert idle_s(stopped) == 0
    assert "available" not in statuses(stopped)


def statuses(platform: Platform) -> set[str]:
    """Those that any operator has."""
    with Watcher(platform, ["operators"]) as watcher:
        watcher.poll_well()
        return set(watcher.counts("chatqueue_operators"))


@pytest.mark.parametrize("had_s", [0, 61.5, 4000, 3 * 86_400])
def test_the_operator_who_has_been_without_a_chat_longest_counts(
    stopped: Platform, had_s: float
) -> None:
    make_idle(stopped, had_s, seen_s=IDLE_S)
    busy = make_idle(stopped, 9 * 86_400)
    builders.make_replied_chat(stopped, busy, age_s=0)

    assert idle_s(stopped) == had_s


def test_the_latest_of_an_operators_assignments_counts_however_it_ended(stopped: Platform) -> None:
    operator = make_idle(stopped, 900, created_s=1e7)
    chat = builders.add_chat(stopped, created_s=9000)
    handed_back = {"assigned_s": 800, "released_s": 600, "reason": "manual_unassign"}
    builders.add_assignment(stopped, chat, operator, **handed_back)

    assert idle_s(stopped) == 600

    # Taken before, and kept for longer.
    builders.add_assignment(stopped, chat, operator, assigned_s=3000, released_s=500)
    assert idle_s(stopped) == 500
    # Left open for ever by an admin's reassignment: from its beginning.
    builders.add_assignment(stopped, chat, operator, assigned_s=400)
    assert idle_s(stopped) == 400
    # A time to come says nothing.
    builders.add_assignment(stopped, chat, operator, assigned_s=-60, released_s=-90)
    builders.add_assignment(stopped, chat, operator, assigned_s=700, released_s=-90)
    assert idle_s(stopped) == 400


def test_an_operator_without_any_chat_counts_from_the_account(stopped: Platform) -> None:
    builders.add_operator(stopped, created_s=1234.5)

    assert idle_s(stopped) == 1234.5

    stopped.execute("UPDATE operators SET created_at = NULL")
    assert idle_s(stopped) == 0


def work(platform: Platform, operator: UUID, chats: int, *, assigned_s: float = 60) -> None:
    """Assign that many chats to an operator."""
    for _ in range(chats):
        chat = builders.add_chat(platform, "completed", active=False)
        builders.add_assignment(platform, chat, operator, assigned_s=assigned_s, released_s=1)


def test_distinct_chats_of_the_last_hour_are_counted(stopped: Platform, look: Look) -> None:
    ann, bob = builders.add_operator(stopped, "Ann"), builders.add_operator(stopped, "Bob")
    work(stopped, ann, 2)
    work(stopped, ann, 1, assigned_s=3599.999)
    work(stopped, ann, 5, assigned_s=3600)
    again = builders.add_chat(stopped)
    for operator in (ann, ann, bob):
        builders.add_assignment(stopped, again, operator, assigned_s=5)

    assert look()["operator_chats"] == {"Ann": 4, "Bob": 1}


def test_an_operator_who_left_is_shown_while_his_work_counts(stopped: Platform, look: Look) -> None:
    worked = builders.add_operator(stopped, "Worked", active=False)
    builders.add_operator(stopped, "Idle", active=False)
    work(stopped, worked, 1)

    assert look()["operator_chats"] == {"Worked": 1}


def test_beyond_the_cap_the_least_busy_are_summed(stopped: Platform, look: Look) -> None:
    for number in range(6):
        work(stopped, builders.add_operator(stopped, f"O{number}"), number)

    def chats(max_series: int) -> dict[str, float]:
        return look(f"operators: {{max_series: {max_series}}}\n")["operator_chats"]

    assert chats(6) == {"O5": 5, "O4": 4, "O3": 3, "O2": 2, "O1": 1, "O0": 0}
    assert chats(5) == {"O5": 5, "O4": 4, "O3": 3, "O2": 2, "O1": 1, "other": 0}
    assert chats(2) == {"O5": 5, "O4": 4, "other": 6}
    assert chats(0) == {"other": 15}


def test_the_choice_among_equals_does_not_change_from_poll_to_poll(
    stopped: Platform, look: Look
) -> None:
    for number in range(20):
        builders.add_operator(stopped, f"O{number}")

    first = look("operators: {max_series: 3}\n")["operator_chats"]
    stopped.execute("UPDATE operators SET last_activity = now() WHERE name LIKE '%%5'")

    assert len(first) == 4
    assert look("operators: {max_series: 3}\n")["operator_chats"] == first


def test_operators_who_share_a_name_are_told_apart(stopped: Platform, look: Look) -> None:
    twins = [builders.add_operator(stopped, "Ann") for _ in range(2)]
    for number, twin in enumerate(twins):
        work(stopped, twin, number + 1)
    builders.add_operator(stopped, "ann")

    assert look()["operator_chats"] == {
        f"Ann ({str(twins[0])[:8]})": 1,
        f"Ann ({str(twins[1])[:8]})": 2,
        "ann": 0,
    }


def test_long_names_that_begin_alike_are_told_apart(stopped: Platform, look: Look) -> None:
    operators = [builders.add_operator(stopped, "ü" * 300 + end) for end in "ab"]
    builders.add_operator(stopped, "x" * 300)

    assert look()["operator_chats"] == {
        **{f"{'ü' * 100} ({str(operator)[:8]})": 0 for operator in operators},
        "x" * 100: 0,
    }


@pytest.mark.parametrize("name", [None, "", "other"])
def test_a_name_that_would_mislead_gives_way_to_the_id(
    stopped: Platform, look: Look, name: str | None
) -> None:
    stopped.execute("ALTER TABLE operators ALTER name DROP NOT NULL")
    operators = [builders.add_operator(stopped) for _ in range(2)]
    stopped.execute("UPDATE operators SET name = %s", (name,))
    work(stopped, operators[0], 1)

    assert look()["operator_chats"] == {str(operators[0]): 1, str(operators[1]): 0}


def test_names_are_shown_as_they_are(stopped: Platform, look: Look) -> None:
    names = ['Ann "the\nbest" \\ O\'Neil', "安 🙂", " ", "%(name)s {0} %s"]
    for name in names:
        builders.add_operator(stopped, name)

    assert look()["operator_chats"] == dict.fromkeys(names, 0)


def test_ids_stand_in_for_names_where_names_are_personal(stopped: Platform, look: Look) -> None:
    operators = [builders.add_operator(stopped, name) for name in ("Ann", "Bob", "Bob")]
    work(stopped, operators[1], 2)

    chats = look("operators: {label: id}\n")["operator_chats"]

    assert chats == {str(operators[0]): 0, str(operators[1]): 2, str(operators[2]): 0}
