"""Chats that contradict themselves, as far as the platform's constraints let them be written."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from exporter.demo.world.rows import ActivityRow, AssignmentRow, ChatRow, MessageRow, Rows

# What is wrong with the chat; `build_fault` says how.
FAULTS = (
    "assigned without assignment",
    "two open assignments",
    "waiting with operator",
    "no state",
    "replied with operator",
    "completed but active",
    "no assignment time",
    "no heartbeat row",
    "assignment left open",
    "waiting but inactive",
)
_AGE_S = 90.0


def build_fault(
    fault: str, chat: UUID, user: UUID, operator: UUID, make_id: Callable[[], UUID], now: float
) -> Rows:
    """Return the rows of one faulty chat.

    Args:
        fault: One of `FAULTS`.
        chat: Id of the chat; its `fictional_user_id` is left to whoever writes the rows.
        user: Id of its user.
        operator: Who has it where somebody has.
        make_id: Gives the ids of assignments.
        now: The time; the chat is a minute and a half old.
    """
    then = now - _AGE_S
    row = ChatRow(chat, user, chat, then, then, then)
    row.chat_state, row.assigned_operator_id, row.assignment_time = "assigned", operator, then
    row.last_operator_id = operator
    assignment = AssignmentRow(make_id(), chat, operator, then, then)
    rows = Rows(
        chats=[row],
        chat_assignments=[assignment],
        operator_activity=[ActivityRow(chat, operator, now, now)],
        messages=[MessageRow(chat, "real", "Hello", then)],
    )
    _FAULT_WRITERS[fault](rows, make_id)
    return rows


def _leave_assigned(rows: Rows, _make_id: Callable[[], UUID]) -> None:
    rows.chat_assignments.clear()


def _double_assignment(rows: Rows, make_id: Callable[[], UUID]) -> None:
    first = rows.chat_assignments[0]
    second = AssignmentRow(
        make_id(), first.chat_id, first.operator_id, first.assigned_at, first.created_at
    )
    rows.chat_assignments.append(second)


def _queue_with_operator(rows: Rows, _make_id: Callable[[], UUID]) -> None:
    rows.chats[0].chat_state = "waiting_assignment"
    _end_assignment(rows)


def _lose_state(rows: Rows, _make_id: Callable[[], UUID]) -> None:
    rows.chats[0].chat_state = None
    _clear_operator(rows)
    _end_assignment(rows)


def _reply_with_operator(rows: Rows, _make_id: Callable[[], UUID]) -> None:
    rows.chats[0].chat_state = "waiting_real_user_reply"
    rows.chats[0].operator_replied_at = rows.chats[0].updated_at
    _end_assignment(rows)


def _complete_but_active(rows: Rows, _make_id: Callable[[], UUID]) -> None:
    rows.chats[0].chat_state = "completed"
    _clear_operator(rows)
    _end_assignment(rows)


def _lose_assignment_time(rows: Rows, _make_id: Callable[[], UUID]) -> None:
    rows.chats[0].assignment_time = None


def _lose_heartbeat(rows: Rows, _make_id: Callable[[], UUID]) -> None:
    rows.operator_activity.clear()


def _leave_assignment_open(rows: Rows, _make_id: Callable[[], UUID]) -> None:
    rows.chats[0].chat_state = "waiting_real_user_reply"
    rows.chats[0].operator_replied_at = rows.chats[0].updated_at
    _clear_operator(rows)


def _deactivate_waiting(rows: Rows, _make_id: Callable[[], UUID]) -> None:
    rows.chats[0].chat_state, rows.chats[0].is_active = "waiting_assignment", False
    _clear_operator(rows)
    _end_assignment(rows)


def _clear_operator(rows: Rows) -> None:
    rows.chats[0].assigned_operator_id = rows.chats[0].assignment_time = None
    rows.operator_activity.clear()


def _end_assignment(rows: Rows) -> None:
    assignment = rows.chat_assignments[0]
    assignment.released_at = rows.chats[0].updated_at
    assignment.release_reason = "operator_sent_message"


_FAULT_WRITERS: dict[str, Callable[[Rows, Callable[[], UUID]], None]] = dict(
    zip(
        FAULTS,
        (
            _leave_assigned,
            _double_assignment,
            _queue_with_operator,
            _lose_state,
            _reply_with_operator,
            _complete_but_active,
            _lose_assignment_time,
            _lose_heartbeat,
            _leave_assignment_open,
            _deactivate_waiting,
        ),
        strict=True,
    )
)
