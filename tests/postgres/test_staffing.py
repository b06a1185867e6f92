"""Figures that are worked out, against others: Erlang C, fairness, the platform's own."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.builders import (
    add_assignment,
    add_chat,
    add_message,
    add_operator,
    add_people,
    make_assigned_chat,
    make_replied_chat,
    make_waiting_chat,
    restoring,
)
from tests.counting import Watcher
from tests.servers import Platform


def wait_probability(operators: int, erlangs: float) -> float:
    """C(n, a) by its definition, as sums of terms; none of the recursion of the query."""
    logs = [k * math.log(erlangs) - math.lgamma(k + 1) for k in range(operators + 1)]
    # All in proportion to the last one, as the terms themselves are beyond any double.
    last = operators / (operators - erlangs)
    return last / (sum(math.exp(log - logs[-1]) for log in logs[:-1]) + last)


def service_level(operators: int, erlangs: float, within_s: float, handle_s: float) -> float:
    """P(wait <= T)."""
    spare = operators - erlangs
    return 1 - wait_probability(operators, erlangs) * math.exp(-spare * within_s / handle_s)


def required(erlangs: float, within_s: float, handle_s: float, objective: float) -> int:
    """The smallest number of operators that keeps the objective."""
    operators = math.floor(erlangs) + 1
    while service_level(operators, erlangs, within_s, handle_s) < objective:
        operators += 1
    return operators


def add_load(platform: Platform, turns: int, handle_s: float, replies: int | None = None) -> None:
    """Make users write, all half an hour ago, and operators answer within the handle time."""
    operator = add_operator(platform)
    add_people(platform, users=turns)
    platform.execute(
        """
        WITH persona AS (SELECT id FROM fictional_users LIMIT 1),
        customer AS (
            SELECT u.id FROM real_users AS u
            WHERE NOT EXISTS (SELECT FROM chats AS c WHERE c.real_user_id = u.id)
        ),
        fresh AS (
            INSERT INTO chats (real_user_id, fictional_user_id, chat_state, operator_replied_at)
            SELECT customer.id, persona.id, 'waiting_real_user_reply', now()
            FROM customer, persona
            RETURNING id
        ),
        asked AS (
            INSERT INTO messages (chat_id, sender_type, content, created_at)
            SELECT id, 'real', 'text', now() - interval '30 min' FROM fresh
        )
        INSERT INTO chat_assignments
            (chat_id, operator_id, assigned_at, released_at, release_reason)
        SELECT id, %(operator)s, now() - interval '30 min',
            now() - interval '30 min' + %(handle_s)s * interval '1 s', 'operator_sent_message'
        FROM fresh LIMIT %(replies)s
        """,
        {
            "operator": operator,
            "handle_s": handle_s,
            "replies": replies or turns,
        },
    )


def staffing(platform: Platform, within: str = "2m", objective: float = 0.9) -> Any:
    """Required operators and the queue's drain, as exported."""
    slo = {"answer_within": within, "objective": objective}
    with Watcher(platform, ["staffing"], slo=slo) as watcher:
        watcher.poll_well()
        return (
            watcher.value("chatqueue_operators_required"),
            watcher.value("chatqueue_queue_drain_seconds"),
        )


def test_the_tests_own_formula_gives_the_published_figures() -> None:
    # 100 calls in 30 minutes of 180 s: 10 erlangs; 14 agents, answered within 20 s.
    # https://www.callcentrehelper.com/erlang-c-formula-example-121281.htm
    assert wait_probability(14, 10) == pytest.approx(0.1741, abs=5e-5)
    assert service_level(14, 10, 20, 180) == pytest.approx(0.888, abs=5e-4)
    # One server is M/M/1, where the probability of a wait is the load itself.
    assert wait_probability(1, 0.7) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("objective", "operators"),
    # 14 operators keep 88.8 %: as soon as more is wanted, it takes 15.
    [(0.80, 14), (0.887, 14), (0.889, 15), (0.95, 16)],
)
def test_the_published_example_needs_its_fourteen_operators(
    platform: Platform, objective: float, operators: int
) -> None:
    add_load(platform, 200, 180)

    assert required(10, 20, 180, objective) == operators
    assert staffing(platform, "20s", objective)[0] == operators


@pytest.mark.newest  # arithmetic: a handful of cases on 15 are below
@pytest.mark.parametrize("turns", [1, 7, 60, 500, 3000])
@pytest.mark.parametrize("handle_s", [0.5, 60.0, 600.0])
def test_required_operators_are_those_of_the_formula(
    postgres_server: Any, platform: Platform, turns: int, handle_s: float
) -> None:
    add_load(platform, turns, handle_s)
    erlangs = turns / 3600 * handle_s
    for within_s, objective in ((1, 0.8), (30, 0.95), (600, 0.99)):
        expected = required(erlangs, within_s, handle_s, objective)
        assert staffing(platform, f"{within_s}s", objective)[0] == expected


def test_no_arrivals_need_nobody(platform: Platform) -> None:
    assert staffing(platform) == (0, 0)


def test_arrivals_that_nobody_answered_give_no_figure(platform: Platform) -> None:
    make_waiting_chat(platform, age_s=60)

    assert staffing(platform)[0] is None


@pytest.mark.newest
def test_a_huge_load_has_a_figure_up_to_twenty_thousand_operators(platform: Platform) -> None:
    handle_s = 1_700
    with restoring(platform):
        add_load(platform, 8_000, handle_s, replies=20)
    assert staffing(platform)[0] == required(8_000 / 3600 * handle_s, 120, handle_s, 0.9)

    with restoring(platform):
        add_load(platform, 35_000, handle_s, replies=20)
    assert staffing(platform)[0] is None


# The queue's drain, over ten minutes.


def add_answered_turn(platform: Platform, age_s: float, asked_s: float) -> None:
    chat = add_chat(platform, "waiting_real_user_reply", created_s=asked_s, replied_s=age_s)
    add_message(platform, chat, age_s=asked_s)
    add_message(platform, chat, "fictional", age_s=age_s)
    add_assignment(
        platform,
        chat,
        add_operator(platform),
        assigned_s=age_s + 10,
        released_s=age_s,
        reason="operator_sent_message",
    )


def test_the_drain_is_the_queue_over_its_net_pace(platform: Platform) -> None:
    for _ in range(3):
        make_waiting_chat(platform, age_s=1200)
    # Four of an older queue were taken in ten minutes, and two came: net two.
    for _ in range(4):
        add_answered_turn(platform, 100, 1100)
    for _ in range(2):
        make_waiting_chat(platform, age_s=500)

    assert staffing(platform)[1] == pytest.approx(5 * 600 / 2)


def test_the_drain_is_unknown_where_nothing_was_ever_assigned(platform: Platform) -> None:
    make_waiting_chat(platform, age_s=100)

    assert staffing(platform)[1] is None


def test_the_drain_is_infinite_when_the_queue_does_not_shrink(platform: Platform) -> None:
    add_answered_turn(platform, 100_000, 101_000)
    make_waiting_chat(platform, age_s=100)

    assert staffing(platform)[1] == math.inf


@pytest.mark.parametrize(
    ("reason", "drain_s"),
    [
        ("idle_timeout", math.inf),
        (None, math.inf),
        ("idle_timeout - max reassignments reached", 600),
        ("real_user_replied_after_operator", 600),
    ],
)
def test_chats_that_come_back_to_the_queue_count_as_arrivals(
    platform: Platform, reason: str | None, drain_s: float
) -> None:
    make_waiting_chat(platform, age_s=1200)
    chat = make_waiting_chat(platform, age_s=1300)
    platform.execute(
        "UPDATE chats SET chat_state = 'completed', is_active = false WHERE id = %s", (chat,)
    )
    add_assignment(
        platform, chat, add_operator(platform), assigned_s=300, released_s=200, reason=reason
    )

    assert staffing(platform)[1] == drain_s


# Fairness.


@pytest.mark.parametrize(
    ("counts", "share", "gini"),
    [
        ([], 0, 0),
        ([5], 1, 0),
        ([2, 2, 2, 2], 1 / 4, 0),
        ([1, 3], 3 / 4, 1 / 4),
        # Mean absolute difference over twice the mean: (2*1 + 2*2 + 2*1) / (2 * 9 * 2) = 2/9.
        ([1, 2, 3], 1 / 2, 2 / 9),
        # One has nearly all: (n - 1) / n at most.
        ([1, 1, 1, 17], 17 / 20, 3 * 16 * 2 / (2 * 16 * 5)),
    ],
)
def test_fairness_is_that_of_the_hand(
    platform: Platform, counts: list[int], share: float, gini: float
) -> None:
    for count in counts:
        operator = add_operator(platform)
        for turn in range(count):
            chat = add_chat(platform)
            add_assignment(
                platform, chat, operator, assigned_s=60 + turn, released_s=10, reason="x"
            )
    # An operator who did not work in the hour is not unfairly treated in it.
    add_operator(platform)
    old = add_chat(platform)
    add_assignment(platform, old, add_operator(platform), assigned_s=7200, released_s=7000)
    with Watcher(platform, ["fairness"]) as watcher:
        watcher.poll_well()

        assert watcher.value("chatqueue_operator_window_assignments", "1h") == sum(counts)
        assert watcher.value("chatqueue_operator_window_assignments", "24h") == sum(counts) + 1
        assert watcher.value("chatqueue_operator_share_max_ratio", "1h") == pytest.approx(share)
        assert watcher.value("chatqueue_operator_gini_ratio", "1h") == pytest.approx(gini)


# Disagreement.

FIGURES = "chatqueue_platform_disagreement"


def test_a_consistent_platform_agrees_with_itself(platform: Platform) -> None:
    with Watcher(platform, ["disagreement"]) as watcher:
        watcher.poll_well()
        assert len(watcher.samples(FIGURES)) == 8
        assert watcher.counts(FIGURES) == {}

        make_waiting_chat(platform, age_s=100)
        make_assigned_chat(platform, age_s=50)
        make_replied_chat(platform, age_s=50)
        watcher.poll_well()
        counts = {k: v for k, v in watcher.counts(FIGURES).items() if k.endswith("_chats")}
        assert counts == {}
        # A chat that has waited since it was created is told alike by both.
        assert watcher.value(FIGURES, "queue_oldest_age_seconds") == pytest.approx(0, abs=0.1)


def test_the_waits_differ_by_what_came_before_the_queue(platform: Platform) -> None:
    with Watcher(platform, ["disagreement"]) as watcher:
        # The platform says 1000 and 600 on average 800; truly 100 and 40, on average 70.
        make_waiting_chat(platform, age_s=100, created_s=1000)
        chat = make_waiting_chat(platform, age_s=600)
        add_assignment(
            platform, chat, add_operator(platform), assigned_s=50, released_s=40, reason="x"
        )
        watcher.poll_well()

        assert watcher.value(FIGURES, "queue_oldest_age_seconds") == pytest.approx(900, abs=0.5)
        assert watcher.value(FIGURES, "queue_mean_age_seconds") == pytest.approx(730, abs=0.5)


def test_a_view_and_a_function_that_were_changed_are_told(platform: Platform) -> None:
    with Watcher(platform, ["disagreement"]) as watcher:
        for _ in range(3):
            make_waiting_chat(platform, age_s=10)
        make_assigned_chat(platform)
        platform.execute(
            "CREATE OR REPLACE VIEW chat_state_summary AS SELECT chat_state, count(*) AS count,"
            " count(assigned_operator_id) AS with_operator,"
            " count(last_operator_id) AS has_last_operator, min(created_at) AS oldest_chat,"
            " max(created_at) AS newest_chat FROM chats"
            " WHERE is_active AND chat_state <> 'assigned' GROUP BY chat_state"
        )
        platform.execute(
            "CREATE OR REPLACE FUNCTION get_assignment_queue_status() RETURNS TABLE"
            " (total_waiting integer, total_assigned integer, total_waiting_reply integer,"
            " oldest_waiting_chat timestamptz, average_wait_time_minutes numeric)"
            " LANGUAGE sql AS 'SELECT 5, 1, 7, NULL::timestamptz, NULL::numeric'"
        )
        watcher.poll_well()

        counts = {k: v for k, v in watcher.counts(FIGURES).items() if k.endswith("_chats")}
        assert counts == {
            "summary_assigned_chats": -1,
            "queue_waiting_chats": 2,
            "queue_waiting_reply_chats": 7,
        }
        assert watcher.value(FIGURES, "queue_oldest_age_seconds") == pytest.approx(-10, abs=0.5)
