"""The platform without a database: the rules of `platform` on dictionaries, on a given clock.

Makes the demo's history in a fraction of a second and lets the people be tested without a server.
Its methods are those of `LivePlatform`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from uuid import UUID

from exporter.demo.platform.application import IdleRelease
from exporter.demo.world.cast import next_phrase
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
        self._past_turns: Counter[UUID] = Counter()

    def start_chat(self, chat: UUID, user: UUID) -> None:
        """Open a chat and write a first message."""
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
        self._give(row, operator)
        self.activity[row.id, operator] = ActivityRow(row.id, operator, now, now)
        return row.id

    def reply(self, chat: UUID, operator: UUID) -> bool:
        """Let the operator answer, all steps at once."""
        if (row := self._touch_held(chat, operator)) is None:
            return False
        now = self._clock()
        self._add_message(chat, "fictional", operator)
        row.last_message_at = row.operator_replied_at = now
        row.message_count += 1
        self._release(row, "operator_sent_message")
        row.chat_state = "waiting_real_user_reply"
        return True

    def beat(self, operator: UUID, chat: UUID | None, *, idle_s: float = 0.0) -> None:
        """Move the operator's own clock and his heartbeat row, made again where it is gone."""
        now = self._clock()
        self._operators[operator].last_activity = now
        if chat is not None:
            self.activity[chat, operator] = ActivityRow(chat, operator, now - idle_s, now)

    def hand_back(self, chat: UUID, operator: UUID) -> bool:
        """Queue the operator's chat again."""
        if (row := self._touch_held(chat, operator)) is None:
            return False
        self._release(row, "manual_unassign")
        self._queue(row)
        return True

    def reassign(self, chat: UUID, operator: UUID, to: UUID) -> bool:
        """Give the chat to another: the first row stays open, a released copy and a new come."""
        if (row := self._touch_held(chat, operator)) is None:
            return False
        now, since = self._clock(), row.assignment_time
        assert since is not None  # noqa: S101
        reason = "manual_reassignment_by_admin:other operator wanted"
        copy = AssignmentRow(self._make_id(), chat, operator, since, now, now, reason)
        self.rows.chat_assignments.append(copy)
        self._past_turns[chat] += 1
        self._give(row, to)
        return True

    def time_out(self, chat: UUID, operator: UUID) -> bool | None:
        """Let the page of an idle operator give the chat back."""
        row = self._touch_held(chat, operator)
        return None if row is None else self._release_or_close(row, "operator_idle_timeout")

    def close_chat(self, chat: UUID) -> None:
        """Close a chat that no operator has; its state stays."""
        row = self.chats.get(chat)
        if row and row.chat_state != "assigned":
            self._touch(chat).is_active = False
            self.waiting.pop(chat, None)

    def remove_fault(self, chat: UUID) -> None:
        """Hide a faulty chat."""
        if chat in self.chats:
            self._close(self._touch(chat))

    def set_available(self, operator: UUID, available: bool) -> None:
        """Let the operator go on a break or come back."""
        self._operators[operator].is_available = available

    def run_idle_detector(self) -> tuple[IdleRelease, ...]:
        """Release what had no input for five minutes; the limit closes the chat."""
        released = []
        for chat in [chat for chat in self.open if self._is_idle(self.chats[chat])]:
            row = self._touch(chat)
            operator = row.assigned_operator_id
            assert operator is not None  # noqa: S101
            requeued = self._release_or_close(row, "idle_timeout")
            released.append(IdleRelease(chat, operator, requeued))
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
        """Return all rows that a database would hold now."""
        self.rows.operator_activity = list(self.activity.values())
        return self.rows

    def _add_chat(self, row: ChatRow) -> None:
        self.rows.chats.append(row)
        self.chats[row.id] = row
        if row.chat_state == "waiting_assignment" and row.is_active:
            self.waiting[row.id] = row

    def _touch_held(self, chat: UUID, operator: UUID) -> ChatRow | None:
        """The touched row of a chat that the operator holds."""
        row = self.chats.get(chat)
        if row is None or row.assigned_operator_id != operator or row.chat_state != "assigned":
            return None
        return self._touch(chat)

    def _touch(self, chat: UUID) -> ChatRow:
        """Return the row with `updated_at` moved, as the trigger does."""
        row = self.chats[chat]
        row.updated_at = self._clock()
        return row

    def _give(self, row: ChatRow, operator: UUID) -> None:
        """Assign the chat, with a new open row."""
        now = self._clock()
        row.chat_state = "assigned"
        row.assigned_operator_id = row.last_operator_id = operator
        row.assignment_time = now
        assignment = AssignmentRow(self._make_id(), row.id, operator, now, now)
        self.rows.chat_assignments.append(assignment)
        self.open[row.id] = assignment

    def _is_idle(self, row: ChatRow) -> bool:
        """As the platform's job sees it: a missing heartbeat row is idle."""
        operator, since = row.assigned_operator_id, row.assignment_time
        if row.chat_state != "assigned" or not row.is_active or operator is None or since is None:
            return False
        limit = self._clock() - _IDLE_TIMEOUT_S
        beat = self.activity.get((row.id, operator))
        return since < limit and (beat is None or beat.last_activity < limit)

    def _release_or_close(self, row: ChatRow, reason: str) -> bool:
        """Do what `release_and_reassign_chat` does; False where that closed the chat."""
        if self._past_turns[row.id] < _MAX_REASSIGNMENTS:
            self._release(row, reason)
            self._queue(row)
            return True
        self._end_assignment(row, f"{reason} - max reassignments reached")
        self._close(row)
        return False

    def _close(self, row: ChatRow) -> None:
        row.chat_state, row.is_active = "completed", False
        row.assigned_operator_id = row.assignment_time = None
        self.waiting.pop(row.id, None)

    def _queue(self, row: ChatRow) -> None:
        row.chat_state = "waiting_assignment"
        row.assigned_operator_id = row.assignment_time = None
        self.waiting[row.id] = row

    def _release(self, row: ChatRow, reason: str) -> None:
        self._end_assignment(row, reason)
        if row.assigned_operator_id:
            self.activity.pop((row.id, row.assigned_operator_id), None)
        row.assigned_operator_id = row.assignment_time = None

    def _end_assignment(self, row: ChatRow, reason: str) -> None:
        if assignment := self.open.pop(row.id, None):
            assignment.released_at, assignment.release_reason = self._clock(), reason
            self._past_turns[row.id] += 1

    def _add_message(self, chat: UUID, sender_type: str, operator: UUID | None) -> None:
        text = next_phrase(sender_type)
        self.rows.messages.append(MessageRow(chat, sender_type, text, self._clock(), operator))

    def _make_id(self) -> UUID:
        return UUID(int=self._ids.getrandbits(128), version=4)
