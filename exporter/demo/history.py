"""The last hours before the demo, minute by minute, computed from the platform's rows. Pure.

The daemon has seen none of them. What rows do not tell, such as who was available, is left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from exporter.demo.world.rows import AssignmentRow, ChatRow, MessageRow, Rows

ANSWER_WITHIN_S = 120.0
"""The service level's default target."""

_NEVER = float("inf")
_REASONS = {
    "auto_release": "released_auto",
    "idle_timeout": "released_idle",
    "operator_idle_timeout": "released_idle",
    "manual_unassign": "released_by_hand",
    "manual_reassignment_by_admin": "released_by_hand",
}


@dataclass(frozen=True, slots=True)
class _Hold:
    """An operator's time with a chat, in simulated seconds; `ended` may be infinite."""

    chat: object
    operator: object
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class _Wait:
    """A user's run of unanswered messages, in simulated seconds; `ended` may be infinite."""

    chat: object
    began: float
    ended: float
    is_answered: bool


def compute_minutes(rows: Rows, now: float, minutes: int) -> list[dict[str, float]]:
    """Return the values of each minute, oldest first; keys are those of the table of figures.

    Args:
        rows: The platform's.
        now: The simulated time at which the last minute ends.
        minutes: How many.
    """
    waits, holds = tuple(_find_waits(rows)), tuple(_find_holds(rows))
    counts = _count_events(rows, waits, now)
    counts["repeats"] = Counter(_minute_of(at, now) for at in _find_repeats(waits, holds))
    ends = [now - 60 * (minutes - 1 - index) for index in range(minutes)]
    return [
        {
            **{key: float(counts[key][_minute_of(end - 1, now)]) for key in counts},
            **_measure(waits, holds, end),
        }
        for end in ends
    ]


def _minute_of(at: float, now: float) -> int:
    """How many minutes before the end of all."""
    return int((now - at) // 60)


def _count_events(rows: Rows, waits: Iterable[_Wait], now: float) -> dict[str, Counter[int]]:
    """Counters' growth, by key and minute."""
    keys = ("user_messages", "operator_messages", "assignments", "waits", "waits_breached")
    counts: dict[str, Counter[int]] = {
        key: Counter() for key in (*keys, *dict.fromkeys(_REASONS.values()))
    }
    for message in rows.messages:
        key = "user_messages" if message.sender_type == "real" else "operator_messages"
        counts[key][_minute_of(message.created_at, now)] += 1
    for assignment in rows.chat_assignments:
        counts["assignments"][_minute_of(assignment.assigned_at, now)] += 1
        reason = _REASONS.get((assignment.release_reason or "").partition(":")[0])
        if reason and assignment.released_at is not None:
            counts[reason][_minute_of(assignment.released_at, now)] += 1
    for wait in waits:
        late_at = wait.began + ANSWER_WITHIN_S
        if wait.ended > late_at and late_at <= now:
            counts["waits"][_minute_of(late_at, now)] += 1
            counts["waits_breached"][_minute_of(late_at, now)] += 1
        elif wait.is_answered:
            counts["waits"][_minute_of(wait.ended, now)] += 1
    return counts


def _measure(waits: Sequence[_Wait], holds: Sequence[_Hold], at: float) -> dict[str, float]:
    """What gauges would have shown."""
    taken = {hold.chat: hold for hold in holds if hold.began <= at < hold.ended}
    unanswered = [wait for wait in waits if wait.began <= at < wait.ended]
    queued = {wait.chat: wait.began for wait in unanswered if wait.chat not in taken}
    for hold in holds:
        if hold.chat in queued and hold.ended <= at:
            queued[hold.chat] = max(queued[hold.chat], hold.ended)
    return {
        "unanswered": float(len(unanswered)),
        "customer_wait": max((at - wait.began for wait in unanswered), default=0.0),
        "waiting": float(len(queued)),
        "oldest_waiting": max((at - since for since in queued.values()), default=0.0),
        "on_chat": float(len({hold.operator for hold in taken.values()})),
        "oldest_assigned": max((at - hold.began for hold in taken.values()), default=0.0),
    }


def _find_repeats(waits: Sequence[_Wait], holds: Iterable[_Hold]) -> Iterable[float]:
    """When an operator got the chat they had last although another one's waited."""
    last: dict[object, object] = {}
    held = sorted((hold for hold in holds if hold.ended > hold.began), key=lambda h: h.began)
    for hold in held:
        at, before = hold.began, last.get(hold.chat)
        last[hold.chat] = hold.operator
        if before == hold.operator:
            taken = {one.chat for one in held if one.began <= at < one.ended}
            others = (w.chat for w in waits if w.began < at < w.ended and w.chat not in taken)
            if any(last.get(chat) != hold.operator for chat in others):
                yield at


def _find_holds(rows: Rows) -> Iterable[_Hold]:
    """Who had which chat; a row that an admin's reassignment left open ends with the next one."""
    assignments: dict[object, list[AssignmentRow]] = defaultdict(list)
    for assignment in sorted(rows.chat_assignments, key=lambda row: row.assigned_at):
        assignments[assignment.chat_id].append(assignment)
    for chat in rows.chats:
        is_held = chat.chat_state == "assigned" and chat.is_active
        last = _NEVER if is_held else chat.updated_at
        taken = assignments[chat.id]
        for row, after in zip_longest(taken, taken[1:]):
            ended = row.released_at or (after.assigned_at if after else last)
            yield _Hold(chat.id, row.operator_id, row.assigned_at, ended)


def _find_waits(rows: Rows) -> Iterable[_Wait]:
    """The waits of every chat."""
    written: dict[object, list[MessageRow]] = defaultdict(list)
    for message in sorted(rows.messages, key=lambda message: message.created_at):
        written[message.chat_id].append(message)
    for chat in rows.chats:
        yield from _find_chat_waits(chat, written[chat.id])


def _find_chat_waits(chat: ChatRow, messages: Sequence[MessageRow]) -> Iterable[_Wait]:
    began: float | None = None
    for message in messages:
        if message.sender_type == "real":
            began = message.created_at if began is None else began
        elif began is not None:
            yield _Wait(chat.id, began, message.created_at, is_answered=True)
            began = None
    if began is None:
        return
    # An open chat that is neither queued nor held owes no answer by its state.
    if chat.chat_state in ("waiting_assignment", "assigned") and chat.is_active:
        yield _Wait(chat.id, began, _NEVER, is_answered=False)
    else:
        yield _Wait(chat.id, began, chat.updated_at, is_answered=False)
