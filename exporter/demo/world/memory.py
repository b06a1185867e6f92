"""The platform without a database: the same rules on dictionaries, on a clock that is handed in.

Makes the demo's history in a fraction of a second and lets the people be tested without a server.
Its rules are those of `platform/*.sql` and `platform.application`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from uuid import UUID

from exporter.demo.platform.application import IdleRelease
from exporter.demo.world.phrases import say
from exporter.demo.world.rows import ActivityRow, AssignmentRow, ChatRow, MessageRow, Rows

_IDLE_TIMEOUT_S = 300
_MAX_REASSIGNMENTS = 3


class MemoryPlatform:
    """A platform in memory.

    Args:
        rows: Its operators; grows into the whole history.
        clock: The simulated time.
        seed: Of the ids that a database would make.
        persona: The fictional user of every chat.
    """

    def __init__(self, rows: Rows, clock: Callable[[], float], seed: int, persona: UUID) -> None:
        self.rows = rows
        self.chats: dict[UUID, ChatRow] = {}
        self.waiting: dict[UUID, ChatRow] = {}
        self.open: dict[UUID, AssignmentRow] = {}
        self.activity: dict[tuple[UUID, UUID], ActivityRow] = {}
        self._clock = clock
        self._ids = random.Random(seed)
        self._persona = persona
        self._operators = {operator.id: operator for operator in rows.operators}
        self._past_turns: dict[UUID, int] = {}

    def start_chat(self, chat: UUID, user: UUID) -> None:
        """Open a chat with a first message."""
        now = self._clock()
        row = ChatRow(chat, user, self._persona, now, now, now)
        self._add_chat(row)
        self._add_message(chat, "real", None)

    def write(self, chat: UUID, *, unnoticed: bool = False) -> None:
        """Let the user write; requeues a chat that waits for that."""
        row = self._touch(chat)
        self._add_message(chat, "real", None)
        row.last_message_at = self._clock()
        row.message_count += 1
        if row.chat_state == "waiting_real_user_reply" and not unnoticed:
            self._queue(row)

    def take(self, operator: UUID, *, same_chat_first: bool = False) -> UUID | None:
        """Give the operator the oldest chat, by preference one (or, the old way, his) of others."""
        if not self.waiting:
            return None
        chosen = min(
            self.waiting.values(),
            key=lambda row: (
                (row.last_operator_id == operator) != same_chat_first,
                row.created_at,
            ),
        )
        now = self._clock()
        row = self._touch(chosen.id)
        del self.waiting[row.id]
        row.chat_state = "assigned"
        row.assigned_operator_id = row.last_operator_id = operator
        row.assignment_time = now
        assignment = AssignmentRow(self._make_id(), row.id, operator, now, now)
        self.rows.chat_assignments.append(assignment)
        self.open[row.id] = assignment
        self.activity[row.id, operator] = ActivityRow(row.id, operator, now, now)
        return row.id

    def reply(self, chat: UUID, operator: UUID) -> bool:
        """Let the operator answer, all four steps at once."""
        if not self._has(operator, chat):
            return False
        row = self._touch(chat)
        now = self._clock()
        self._add_message(chat, "fictional", operator)
        row.last_message_at = row.operator_replied_at = now
        row.message_count += 1
        self._release(row, "operator_sent_message")
        row.chat_state = "waiting_real_user_reply"
        return True

    def beat(self, operator: UUID, chat: UUID | None) -> None:
        """Move the operator's own clock and that of his heartbeat row."""
        now = self._clock()
        self._operators[operator].last_activity = now
        if chat is not None and (row := self.activity.get((chat, operator))):
            row.last_activity = row.updated_at = now

    def hand_back(self, chat: UUID, operator: UUID, admin_note: str | None = None) -> bool:
        """Queue the chat again; an admin leaves the assignment open and adds a released one."""
        if not self._has(operator, chat):
            return False
        row = self._touch(chat)
        if admin_note is None:
            self._release(row, "manual_unassign")
        else:
            now = self._clock()
            reason = f"manual_reassignment_by_admin:{admin_note}"
            extra = AssignmentRow(self._make_id(), chat, operator, now, now, now, reason)
            self.rows.chat_assignments.append(extra)
            self._count_turn(chat)
            self.open.pop(chat, None)
            self._clear_operator(row)
        self._queue(row)
        return True

    def complete(self, chat: UUID) -> None:
        """End the conversation."""
        if chat in self.chats:
            row = self._touch(chat)
            row.chat_state, row.is_active = "completed", False
            row.assigned_operator_id = row.assignment_time = None
            self._forget(row)

    def set_available(self, operator: UUID, available: bool) -> None:
        """Let the operator go on a break or come back."""
        self._operators[operator].is_available = available

    def run_idle_detector(self) -> tuple[IdleRelease, ...]:
        """Release what has no heartbeat for five minutes; the limit closes the chat."""
        limit = self._clock() - _IDLE_TIMEOUT_S
        overdue = [beat for beat in self.activity.values() if beat.last_activity < limit]
        released = []
        for beat in overdue:
            row = self._touch(beat.chat_id)
            closes = self._past_turns.get(row.id, 0) >= _MAX_REASSIGNMENTS
            suffix = " - max reassignments reached" if closes else ""
            self._release(row, f"idle_timeout{suffix}")
            if closes:
                self.complete(row.id)
            else:
                self._queue(row)
            released.append(IdleRelease(row.id, beat.operator_id, not closes))
        return tuple(released)

    def add_rows(self, rows: Rows) -> None:
        """Write rows past the rules."""
        for chat in rows.chats:
            self._add_chat(chat)
        for assignment in rows.chat_assignments:
            self.rows.chat_assignments.append(assignment)
            if assignment.released_at is None:
                self.open[assignment.chat_id] = assignment
        for activity in rows.operator_activity:
            self.activity[activity.chat_id, activity.operator_id] = activity
        self.rows.messages.extend(rows.messages)

    def collect_rows(self) -> Rows:
        """Return everything that a database would hold now."""
        self.rows.operator_activity = list(self.activity.values())
        return self.rows

    def _add_chat(self, row: ChatRow) -> None:
        self.rows.chats.append(row)
        self.chats[row.id] = row
        if row.chat_state == "waiting_assignment" and row.is_active:
            self.waiting[row.id] = row

    def _has(self, operator: UUID, chat: UUID) -> bool:
        row = self.chats.get(chat)
        return bool(row and row.assigned_operator_id == operator and row.chat_state == "assigned")

    def _touch(self, chat: UUID) -> ChatRow:
        """Return the row with `updated_at` moved, as the trigger does."""
        row = self.chats[chat]
        row.updated_at = self._clock()
        return row

    def _queue(self, row: ChatRow) -> None:
        row.chat_state = "waiting_assignment"
        row.assigned_operator_id = row.assignment_time = None
        self.waiting[row.id] = row

    def _release(self, row: ChatRow, reason: str) -> None:
        if assignment := self.open.pop(row.id, None):
            assignment.released_at, assignment.release_reason = self._clock(), reason
            self._count_turn(row.id)
        self._clear_operator(row)

    def _clear_operator(self, row: ChatRow) -> None:
        if row.assigned_operator_id:
            self.activity.pop((row.id, row.assigned_operator_id), None)
        row.assigned_operator_id = row.assignment_time = None

    def _count_turn(self, chat: UUID) -> None:
        self._past_turns[chat] = self._past_turns.get(chat, 0) + 1

    def _forget(self, row: ChatRow) -> None:
        self.waiting.pop(row.id, None)

    def _add_message(self, chat: UUID, sender_type: str, operator: UUID | None) -> None:
        line = say(sender_type)
        self.rows.messages.append(MessageRow(chat, sender_type, line, self._clock(), operator))

    def _make_id(self) -> UUID:
        return UUID(int=self._ids.getrandbits(128), version=4)
