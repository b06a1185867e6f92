"""Chats that contradict themselves, as far as the platform's constraints let them be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from exporter.demo.world.rows import ActivityRow, AssignmentRow, ChatRow, MessageRow, Rows

_AGE_S = 90.0
_NO_OPERATOR = {"assigned_operator_id": None, "assignment_time": None}


@dataclass(frozen=True, slots=True)
class _Fault:
    """How a faulty chat differs from one that is assigned.

    Attributes:
        columns: Columns of the chat.
        assignments: How many assignment rows there are.
        has_ended: Whether the first of them has ended.
        has_heartbeat: Whether there is a heartbeat row.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    assignments: int = 1
    has_ended: bool = False
    has_heartbeat: bool = True


FAULTS: Mapping[str, _Fault] = {
    "assigned without assignment": _Fault(assignments=0),
    "two open assignments": _Fault(assignments=2),
    "waiting with operator": _Fault({"chat_state": "waiting_assignment"}, has_ended=True),
    "no state": _Fault({"chat_state": None, **_NO_OPERATOR}, has_ended=True, has_heartbeat=False),
    "replied with operator": _Fault({"chat_state": "waiting_real_user_reply"}, has_ended=True),
    "completed but active": _Fault(
        {"chat_state": "completed", **_NO_OPERATOR}, has_ended=True, has_heartbeat=False
    ),
    "no assignment time": _Fault({"assignment_time": None}),
    "no heartbeat row": _Fault(has_heartbeat=False),
    "assignment left open": _Fault(
        {"chat_state": "waiting_real_user_reply", **_NO_OPERATOR}, has_heartbeat=False
    ),
    "waiting but inactive": _Fault(
        {"chat_state": "waiting_assignment", "is_active": False, **_NO_OPERATOR},
        has_ended=True,
        has_heartbeat=False,
    ),
}
"""Name to what is wrong with the chat."""


def build_fault(
    name: str, chat: UUID, user: UUID, operator: UUID, make_id: Callable[[], UUID], now: float
) -> Rows:
    """Return the rows of one faulty chat.

    Args:
        name: One of `FAULTS`.
        chat: Id of the chat; its `fictional_user_id` is set when the rows are written.
        user: Id of its user.
        operator: Who has it, unless the fault is that no operator has it.
        make_id: Makes the ids of assignments.
        now: Simulated seconds; the chat is a minute and a half old.
    """
    fault, then = FAULTS[name], now - _AGE_S
    columns = {
        "chat_state": "assigned",
        "assigned_operator_id": operator,
        "assignment_time": then,
        "last_operator_id": operator,
        **fault.columns,
    }
    if columns["chat_state"] == "waiting_real_user_reply":
        columns["operator_replied_at"] = then
    assignments = [
        AssignmentRow(make_id(), chat, operator, then, then) for _ in range(fault.assignments)
    ]
    if fault.has_ended:
        assignments[0].released_at = then
        assignments[0].release_reason = "operator_sent_message"
    return Rows(
        chats=[ChatRow(chat, user, chat, then, then, then, **columns)],
        chat_assignments=assignments,
        operator_activity=[ActivityRow(chat, operator, now, now)] if fault.has_heartbeat else [],
        messages=[MessageRow(chat, "real", "Hello", then)],
    )
