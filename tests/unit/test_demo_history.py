"""The hours before the demo, computed from rows: they agree with what the rows say."""

from __future__ import annotations

from uuid import UUID

import pytest

from exporter.demo.history import compute_minutes
from exporter.demo.simulation import Simulation
from exporter.demo.world.rows import AssignmentRow, ChatRow, MessageRow, Rows
from exporter.metrics.figures import FIGURES

NOW = 600.0
CHAT, ANNA, BEN = (UUID(int=number) for number in (1, 2, 3))


def chat(**columns: object) -> ChatRow:
    return ChatRow(CHAT, CHAT, CHAT, 0.0, NOW, **columns)  # type: ignore[arg-type]


def message(at: float, sender: str = "real") -> MessageRow:
    return MessageRow(CHAT, sender, "text", at)


def assignment(
    at: float, operator: UUID = ANNA, released_at: float | None = None, reason: str | None = None
) -> AssignmentRow:
    return AssignmentRow(UUID(int=int(at)), CHAT, operator, at, at, released_at, reason)


def column(rows: Rows, key: str, minutes: int = 10) -> list[float]:
    return [values[key] for values in compute_minutes(rows, NOW, minutes)]


def test_a_wait_ages_until_it_is_answered() -> None:
    rows = Rows(
        chats=[chat(chat_state="waiting_real_user_reply")],
        messages=[message(30), message(100), message(250, "fictional")],
        chat_assignments=[assignment(200, released_at=250, reason="operator_sent_message")],
    )

    assert column(rows, "customer_wait")[:5] == [30, 90, 150, 210, 0]
    assert column(rows, "waiting")[:5] == [1, 1, 1, 0, 0]
    assert column(rows, "oldest_waiting")[:5] == [30, 90, 150, 0, 0]
    assert column(rows, "on_chat")[:5] == [0, 0, 0, 1, 0]
    assert column(rows, "oldest_assigned")[:5] == [0, 0, 0, 40, 0]
    assert sum(column(rows, "user_messages")) == 2
    assert sum(column(rows, "operator_messages")) == 1
    # It was longer than two minutes, and counts as soon as it is.
    assert column(rows, "waits_breached")[:4] == [0, 0, 1, 0]
    assert sum(column(rows, "waits")) == 1


def test_a_chat_that_came_back_waits_since_then() -> None:
    rows = Rows(
        chats=[chat()],
        messages=[message(30)],
        chat_assignments=[assignment(60, released_at=300, reason="idle_timeout")],
    )

    assert column(rows, "oldest_waiting")[-1] == 300
    assert column(rows, "customer_wait")[-1] == 570
    assert sum(column(rows, "released_idle")) == 1


def test_a_row_that_an_admin_left_open_ends_with_the_next() -> None:
    rows = Rows(
        chats=[chat(chat_state="assigned")],
        messages=[message(30)],
        chat_assignments=[assignment(60), assignment(300, BEN)],
    )

    assert column(rows, "on_chat")[-1] == 1
    assert column(rows, "oldest_assigned")[-1] == 300


def test_a_closed_chat_owes_nothing() -> None:
    rows = Rows(chats=[chat(chat_state="completed", is_active=False)], messages=[message(30)])

    assert column(rows, "unanswered")[-1] == 0


@pytest.mark.parametrize(("scenario", "repeats"), [("calm", False), ("same-chat", True)])
def test_a_scenario_shows_as_it_would_have(scenario: str, repeats: bool) -> None:
    simulation = Simulation("host=nowhere", scenario=scenario)
    rows = simulation.build_history(1).collect_rows()
    lived = compute_minutes(rows, simulation.world.now, 60)

    assert (sum(values["repeats"] for values in lived[-10:]) > 0) is repeats
    assert len(lived) == 60
    assert set(lived[0]) <= set(FIGURES)
