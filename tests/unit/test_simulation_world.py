"""The simulated people, in memory: repeatable, healthy by default, in trouble as announced."""

from __future__ import annotations

from collections import Counter

import pytest

from exporter.demo.scenarios import SCENARIOS
from exporter.demo.simulation import Simulation
from exporter.demo.world.memory import MemoryPlatform
from exporter.demo.world.rows import AssignmentRow, ChatRow

OWED = ("waiting_assignment", "assigned")


def play(scenario: str, *, seed: int = 1, minutes: float = 0) -> tuple[Simulation, MemoryPlatform]:
    """Play two hours of history and then some minutes of the scenario, all in memory."""
    simulation = Simulation("", seed=seed, scenario=scenario)
    platform = simulation.build_history(2)
    simulation.world.platform = platform
    simulation.step(simulation.world.now + 60 * minutes)
    return simulation, platform


def active(platform: MemoryPlatform, *states: str | None) -> list[ChatRow]:
    return [
        chat for chat in platform.chats.values() if chat.is_active and chat.chat_state in states
    ]


def oldest_wait_s(simulation: Simulation, platform: MemoryPlatform) -> float:
    """The longest run of unanswered messages among chats the platform owes an answer."""
    since: dict[object, float] = {}
    for message in platform.rows.messages:
        if message.sender_type == "real":
            since.setdefault(message.chat_id, message.created_at)
        else:
            since.pop(message.chat_id, None)
    waits = [
        simulation.world.now - since[chat.id]
        for chat in active(platform, *OWED)
        if chat.id in since
    ]
    return max(waits, default=0)


def idle_overdue(simulation: Simulation, platform: MemoryPlatform) -> int:
    """Assigned chats that the platform's job should have released two minutes ago."""
    limit = simulation.world.now - 420
    overdue = 0
    for chat in active(platform, "assigned"):
        assert chat.assigned_operator_id is not None
        beat = platform.activity.get((chat.id, chat.assigned_operator_id))
        since = chat.assignment_time or simulation.world.now
        overdue += since < limit and (beat is None or beat.last_activity < limit)
    return overdue


def test_the_same_seed_gives_the_same_events_and_rows() -> None:
    runs = []
    for seed in (7, 7, 8):
        simulation = Simulation("", seed=seed)
        platform = simulation.build_history(0.5)
        simulation.world.platform = platform
        events = simulation.step(simulation.world.now + 300)
        chats = [(chat.id, chat.chat_state, chat.created_at) for chat in platform.rows.chats]
        runs.append((events, chats))

    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_calm_shift_is_healthy_all_the_time(seed: int) -> None:
    simulation, platform = play("calm", seed=seed)

    worst_wait_s = 0.0
    for _ in range(60):
        simulation.step(simulation.world.now + 60)
        worst_wait_s = max(worst_wait_s, oldest_wait_s(simulation, platform))
        assert idle_overdue(simulation, platform) == 0
        assert 20 <= len(active(platform, *OWED, "waiting_real_user_reply")) <= 80

    assert 10 < worst_wait_s < 150
    assert active(platform, None, "completed") == []


def test_the_history_has_every_kind_of_release() -> None:
    _, platform = play("calm")

    reasons = Counter((row.release_reason or "open") for row in platform.rows.chat_assignments)

    assert reasons["operator_sent_message"] > 500
    assert {
        "open",
        "manual_unassign",
        "idle_timeout",
        "idle_timeout - max reassignments reached",
        "manual_reassignment_by_admin:other operator wanted",
    } <= set(reasons)


def test_a_rush_piles_up_the_queue() -> None:
    simulation, platform = play("rush")
    at_start = len(active(platform, "waiting_assignment"))

    simulation.step(simulation.world.now + 60)

    assert at_start > 50
    assert len(active(platform, "waiting_assignment")) > at_start + 5
    assert oldest_wait_s(simulation, platform) > 300


@pytest.mark.parametrize("scenario", ["vanished-operators", "dead-idle-detector"])
def test_chats_of_operators_who_left_are_overdue_and_stay_so(scenario: str) -> None:
    simulation, platform = play(scenario)
    at_start = idle_overdue(simulation, platform)

    simulation.step(simulation.world.now + 300)

    assert at_start >= 2
    assert idle_overdue(simulation, platform) >= 2
    oldest = min(chat.assignment_time or 0 for chat in active(platform, "assigned"))
    assert simulation.world.now - oldest > 600


def test_the_old_assignment_returns_chats_although_others_wait() -> None:
    simulation, platform = play("same-chat")
    repeats = 0
    for _ in range(120):
        simulation.step(simulation.world.now + 1)
        for operator in simulation.world.operators.values():
            turns = [row for row in platform.open.values() if row.operator_id == operator.id]
            repeats += len(turns) > 0 and len(platform.waiting) > 0 and repeated(platform, turns[0])

    assert repeats > 0


def repeated(platform: MemoryPlatform, turn: AssignmentRow) -> bool:
    same = [row for row in platform.rows.chat_assignments if row.chat_id == turn.chat_id]
    return len(same) > 1 and same[-1].operator_id == same[-2].operator_id


def test_a_faulty_deploy_leaves_every_kind_of_contradiction_in_turn() -> None:
    simulation, platform = play("invalid-states")
    seen = Counter[str]()
    for _ in range(30):
        simulation.step(simulation.world.now + 10)
        seen["no state"] += len(active(platform, None))
        seen["completed but active"] += len(active(platform, "completed"))
        seen["replied with operator"] += any(
            chat.assigned_operator_id for chat in active(platform, "waiting_real_user_reply")
        )
        seen["no assignment"] += any(
            chat.id not in platform.open for chat in active(platform, "assigned")
        )

    assert all(seen[fault] for fault in seen), seen


def test_lost_replies_leave_users_unanswered_in_a_calm_queue() -> None:
    simulation, platform = play("lost-replies")

    lost = [
        chat
        for chat in active(platform, "waiting_real_user_reply")
        if (chat.last_message_at or 0) > (chat.operator_replied_at or 0)
    ]

    assert len(lost) >= 3
    assert oldest_wait_s(simulation, platform) < 150


def test_every_scenario_says_what_it_is_in_a_line() -> None:
    assert next(iter(SCENARIOS)) == "calm"
    for scenario in SCENARIOS.values():
        assert 0 < len(scenario.summary) < 100
        assert 0 < len(scenario.look_at) < 100
    assert [name for name, it in SCENARIOS.items() if it.database_down] == ["database-down"]
