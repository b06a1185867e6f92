"""Histories of a platform, played on a real server, and what is to be counted of them.

`History` plays actions: the platform's functions and the application's separate writes, on several
connections, in transactions that stay open while others go on, and polls of all kinds in between.
It never lets two of them work on one chat at a time: what they would make of it is the platform's
business, and not what is counted. `Recount` works out in Python, from plain rows, what the queries
of events work out in SQL.
"""

from __future__ import annotations

import datetime
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg

from exporter.demo.platform import application
from tests.builders import add_operator
from tests.counting import EVENT_QUERIES, Watcher
from tests.servers import Platform

OVERLAP_S = 0.5
# A transaction is ended by then; what the machine adds to it must stay within the overlap.
HELD_S = 0.15
TARGET_S = 0.1

ADMIN = "manual_reassignment_by_admin"
SHUT_OUT = "Anybody?"
"""What a user writes into a closed chat, which owes no answer."""

CLOSED = " - max reassignments reached"
REASONS = (
    "idle_timeout",
    "operator_idle_timeout",
    "auto_release: silent",
    "user was rude",
    f"{ADMIN}: by hand",
)


class TooSlow(Exception):
    """The machine held a transaction open for longer than the overlap: no fair test."""


def outcome_of(reason: str | None) -> str:
    """What a reason counts as, without the patterns of the product."""
    reason = reason or ""
    if reason.endswith(CLOSED):
        return "closed"
    for start, outcome in (("auto_release:", "auto_release"), (ADMIN, "admin")):
        if reason.startswith(start):
            return outcome
    known = {
        "operator_sent_message": "replied",
        "real_user_replied_after_operator": "customer_replied",
        "idle_timeout": "idle_timeout",
        "operator_idle_timeout": "idle_timeout",
        "manual_unassign": "manual",
    }
    return known.get(reason, "other")


def idle_release_by(reason: str | None) -> str | None:
    """Who gave an idle chat back, whether that closed it or not."""
    known = {"idle_timeout": "job", "operator_idle_timeout": "page"}
    return known.get((reason or "").removesuffix(CLOSED))


@dataclass
class Recount:
    """Events by query and key; each adds to figures named as the watcher's samples are."""

    events: dict[str, dict[str, dict[tuple[str, ...], float]]]

    @classmethod
    def of(cls, platform: Platform) -> Recount:
        """Count all there is, whenever it happened."""
        rows = _Rows(platform)
        return cls(
            {
                "assignments": dict(rows.assignments()),
                "releases": dict(rows.releases()),
                "messages": dict(rows.written()),
                "waits": dict(rows.waits()),
            }
        )

    def since(self, earlier: dict[str, Recount]) -> dict[tuple[str, ...], float]:
        """Sum what was not there at each query's first poll."""
        totals: dict[tuple[str, ...], float] = defaultdict(float)
        for query, events in self.events.items():
            for key in events.keys() - earlier[query].events[query].keys():
                for figure, value in events[key].items():
                    totals[figure] += value
        return dict(totals)


class _Rows:
    """All rows of the event tables, by chat and in order."""

    def __init__(self, platform: Platform) -> None:
        self.now: datetime.datetime = platform.value("SELECT now()")
        self.chats = {
            row[0]: row
            for row in platform.fetch(
                "SELECT id, chat_state, is_active, created_at, operator_replied_at FROM chats"
            )
        }
        self.turns: dict[UUID, list[Any]] = defaultdict(list)
        for row in platform.fetch(
            "SELECT chat_id, id, operator_id, assigned_at, released_at, release_reason, created_at"
            " FROM chat_assignments ORDER BY assigned_at, id"
        ):
            self.turns[row[0]].append(row)
        self.messages: dict[UUID, list[Any]] = defaultdict(list)
        for row in platform.fetch(
            "SELECT chat_id, id, sender_type, created_at, content FROM messages"
            " ORDER BY created_at, id"
        ):
            self.messages[row[0]].append(row)

    def assignments(self) -> Iterator[tuple[str, dict[tuple[str, ...], float]]]:
        for chat, turns in self.turns.items():
            for turn in turns:
                if self._is_second(turn):
                    continue
                at = turn[3]
                state = self._state_before(chat, turn)
                figures: dict[tuple[str, ...], float] = {
                    ("chatqueue_assignments_total",): 1,
                    _transition(state, "assigned"): 1,
                }
                if state == "waiting_assignment":
                    figures |= _observed("answer", at - self._queued_at(chat, turn))
                before = [other for other in turns if other[3] < at]
                if before and before[-1][2] == turn[2] and state == "waiting_assignment":
                    figures[("same_operator",)] = 1
                yield str(turn[1]), figures

    def releases(self) -> Iterator[tuple[str, dict[tuple[str, ...], float]]]:
        after = {
            "replied": "waiting_real_user_reply",
            "customer_replied": "waiting_real_user_reply",
            "closed": "completed",
        }
        for turns in self.turns.values():
            for turn in turns:
                if turn[4] is None or self._is_superseded(turn):
                    continue
                outcome = outcome_of(turn[5])
                figures: dict[tuple[str, ...], float] = {
                    ("chatqueue_releases_total", outcome): 1,
                }
                if by := idle_release_by(turn[5]):
                    figures["chatqueue_idle_releases_total", by] = 1
                # Closed after the chat was assigned again: a half-done reply had left it open.
                is_overtaken = any(turn[3] < other[3] < turn[4] for other in turns)
                if not is_overtaken and not self._is_second(turn):
                    figures[_transition("assigned", after.get(outcome, "waiting_assignment"))] = 1
                if outcome == "replied" and not is_overtaken:
                    figures |= _observed("handle", turn[4] - turn[3])
                yield str(turn[1]), figures

    def written(self) -> Iterator[tuple[str, dict[tuple[str, ...], float]]]:
        for messages in self.messages.values():
            asked_at, answered = None, False
            for _, key, sender, at, _ in messages:
                who = "customer" if sender == "real" else "operator"
                figures: dict[tuple[str, ...], float] = {("chatqueue_messages_total", who): 1}
                if sender == "fictional":
                    if asked_at is not None:
                        figures |= _observed("response", at - asked_at)
                        if not answered:
                            figures |= _observed("first_response", at - asked_at)
                    asked_at, answered = None, True
                elif asked_at is None:
                    asked_at = at
                yield str(key), figures

    def waits(self) -> Iterator[tuple[str, dict[tuple[str, ...], float]]]:
        for chat, messages in self.messages.items():
            asked_at, after = None, ""
            for _, _, sender, at, content in messages:
                if sender == "fictional":
                    if asked_at is not None:
                        yield f"{chat} {after}", _waited(at - asked_at)
                    asked_at, after = None, str(at)
                elif asked_at is None and content != SHUT_OUT:
                    asked_at = at
            # A chat that was closed with its user unanswered was polled before; see History.
            if asked_at is not None:
                figures = _waited(self.now - asked_at)
                if figures[("chatqueue_waits_breached_total",)]:
                    yield f"{chat} {after}", figures

    def _queued_at(self, chat: UUID, turn: Any) -> datetime.datetime:
        """When the wait that this turn ended began."""
        ended = [t[4] for t in self.turns[chat] if t is not turn and t[4] and t[4] <= turn[3]]
        run: list[datetime.datetime] = []
        for _, _, sender, at, _ in self.messages[chat]:
            if at <= turn[3]:
                run = [] if sender == "fictional" else [*run, at]
        return max([*ended, *run[:1]], default=self.chats[chat][3])

    def _state_before(self, chat: UUID, turn: Any) -> str:
        """What state the chat was in until that turn began."""
        ended = [t for t in self.turns[chat] if t is not turn and t[4] and t[4] <= turn[3]]
        last = max(ended, key=lambda t: (t[4], t[6]), default=None)
        written = [m for m in self.messages[chat] if m[3] <= turn[3]]
        if last is None:
            return "waiting_assignment"
        if self._is_second(last) and turn[3] - last[4] < datetime.timedelta(minutes=1):
            return "assigned"
        asked = [m[3] for m in written if m[2] == "real"]
        if outcome_of(last[5]) == "closed" and not (asked and asked[-1] > last[4]):
            return "completed"
        is_answered = not written or written[-1][2] == "fictional"
        if is_answered and outcome_of(last[5]) == "replied":
            return "waiting_real_user_reply"
        return "waiting_assignment"

    def _others(self, turn: Any) -> list[Any]:
        """Other rows of the same chat and operator."""
        return [t for t in self.turns[turn[0]] if t[2] == turn[2] and t is not turn]

    def _is_second(self, turn: Any) -> bool:
        """Whether it is the row that an admin's reassignment inserts."""
        _, _, _, at, released_at, reason, created_at = turn
        if released_at is None or released_at in (at, created_at):
            return released_at is not None
        return (reason or "").startswith(ADMIN) and any(
            other[3] < released_at and (other[4] is None or other[4] > released_at)
            for other in self._others(turn)
        )

    def _is_superseded(self, turn: Any) -> bool:
        """Whether it is the row that an admin's reassignment left open."""
        return any(
            (other[5] or "").startswith(ADMIN)
            and other[4] > turn[3]
            and (turn[4] is None or turn[4] > other[4])
            for other in self._others(turn)
        )


def _transition(before: str, after: str) -> tuple[str, ...]:
    return ("chatqueue_state_transitions_total", before, after)


def _observed(name: str, length: datetime.timedelta) -> dict[tuple[str, ...], float]:
    return {
        (f"chatqueue_{name}_seconds_count",): 1,
        (f"chatqueue_{name}_seconds_sum",): max(length.total_seconds(), 0),
    }


def _waited(length: datetime.timedelta) -> dict[tuple[str, ...], float]:
    return {
        ("chatqueue_waits_total",): 1,
        ("chatqueue_waits_breached_total",): float(length.total_seconds() > TARGET_S),
    }


def counted_by(watcher: Watcher) -> dict[tuple[str, ...], float]:
    """The watcher's figures, zeros left out, named as those of a Recount."""
    histograms = [
        f"chatqueue_{name}_seconds_{part}"
        for name in ("answer", "handle", "response", "first_response")
        for part in ("count", "sum")
    ]
    found = {
        (name, *labels): value
        for name in (
            "chatqueue_assignments_total",
            "chatqueue_releases_total",
            "chatqueue_idle_releases_total",
            "chatqueue_messages_total",
            "chatqueue_state_transitions_total",
            "chatqueue_waits_total",
            "chatqueue_waits_breached_total",
            *histograms,
        )
        for labels, value in watcher.samples(name).items()
    }
    same = watcher.samples("chatqueue_same_operator_assignments_total")
    found[("same_operator",)] = sum(same.values())
    return {figure: value for figure, value in found.items() if value}


@dataclass
class _Held:
    """An open transaction: since when, whom it keeps from others, what it will have done."""

    began_s: float
    busy: set[UUID] = field(default_factory=set)
    returned: int = 0


class _Steps:
    """A connection that lets something happen once, after one of its statements."""

    def __init__(
        self, connection: psycopg.Connection[Any], between: Callable[[], None], after: int
    ) -> None:
        self._connection = connection
        self._between = between
        self._left = after

    def execute(self, *arguments: Any) -> Any:
        cursor = self._connection.execute(*arguments)
        self._left -= 1
        if self._left == 0:
            self._between()
        return cursor


class History:
    """One run of a platform and its watcher."""

    def __init__(self, platform: Platform, overlap_s: float = OVERLAP_S) -> None:
        self.platform = platform
        platform.execute("DELETE FROM chats")
        platform.execute("DELETE FROM operators")
        self.operators = [add_operator(platform) for _ in range(3)]
        self.sessions = [platform.connect() for _ in range(3)]
        self.held: dict[int, _Held] = {}
        self.returned = 0
        self.first: dict[str, Recount] = {}
        self.first_returned: int | None = None
        self.failed_polls = 0
        self.watcher = Watcher(
            platform,
            parameters={"event_overlap": overlap_s, "slo_answer_within": TARGET_S},
        )

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.watcher.__exit__()
        for session in self.sessions:
            session.close()

    # What the platform does. `who` chooses a session, `which` a chat or operator. In manner `held`
    # the transaction stays open; else each statement commits, and `polled` polls between two.

    def play(self, kind: str, who: int, which: int, manner: str) -> None:
        """Let one thing happen, if it can."""
        for session in [s for s, h in self.held.items() if time.monotonic() - h.began_s > HELD_S]:
            self.end(session)
        who %= len(self.sessions)
        if kind in ("poll", "cut", "broken", "mismatch", "reload"):
            self.poll(kind, which)
        elif kind == "pass":
            time.sleep(0.03)
        elif kind == "end":
            self.end(who)
        elif kind == "rollback":
            self.end(who, rollback=True)
        else:
            self.end(who)
            self._act(getattr(self, f"_{kind}"), who, which, manner)

    def _act(self, action: Callable[..., None], who: int, which: int, manner: str) -> None:
        """Do something to the platform in one of three manners."""
        session = self.sessions[who]
        if manner != "held":
            self._now = _Held(0.0)
            after = 1 + which % 3 if manner == "polled" else 0
            action(_Steps(session, self.poll, after), which)
            self.returned += self._now.returned
            return
        self._now = _Held(time.monotonic())
        session.execute("BEGIN")
        action(session, which)
        self.held[who] = self._now

    def end(self, who: int, *, rollback: bool = False) -> None:
        """End a session's transaction, if there is one."""
        held = self.held.pop(who, None)
        if held is None:
            return
        self.sessions[who].execute("ROLLBACK" if rollback else "COMMIT")
        if time.monotonic() - held.began_s > OVERLAP_S * 0.9:
            raise TooSlow
        self.returned += 0 if rollback else held.returned

    def _pick(self, which: int, condition: str, *, active: bool = True) -> Any:
        """One of the chats that nobody is at work on: id, operator, past releases; or None."""
        busy = set().union(*(held.busy for held in self.held.values()))
        rows = self.platform.fetch(
            "SELECT c.id, c.assigned_operator_id, (SELECT count(*) FROM chat_assignments a"
            " WHERE a.chat_id = c.id AND a.released_at IS NOT NULL), (SELECT sender_type"
            " FROM messages m WHERE m.chat_id = c.id ORDER BY created_at DESC LIMIT 1)"
            f" FROM chats c WHERE {'' if active else 'NOT '}c.is_active AND {condition}"
            " ORDER BY c.created_at, c.id"
        )
        free = [row for row in rows if row[0] not in busy]
        if not free:
            return None
        row = free[which % len(free)]
        self._now.busy.add(row[0])
        return row

    def _start(self, session: Any, which: int) -> None:
        chat = uuid4()
        self._now.busy.add(chat)
        application.start_chat(session, chat, uuid4(), "Hello")

    def _write(self, session: Any, which: int) -> None:
        if row := self._pick(which, "true"):
            self._now.returned += application.write_as_user(session, row[0], "And?")

    def _lose(self, session: Any, which: int) -> None:
        if row := self._pick(which, "chat_state = 'waiting_real_user_reply'"):
            application.write_unnoticed(session, row[0], "Anyone?")

    def _assign(self, session: Any, which: int) -> None:
        busy = set().union(*(held.busy for held in self.held.values()))
        at_work = {
            row[0]
            for row in self.platform.fetch(
                "SELECT assigned_operator_id FROM chats WHERE chat_state = 'assigned' AND is_active"
            )
        }
        free = [o for o in self.operators if o not in busy and o not in at_work]
        if not free:
            return
        operator = free[which % len(free)]
        chat = application.assign(session, operator)
        self._now.busy |= {operator} | ({chat} if chat else set())

    def _reply(self, session: Any, which: int, steps: int = 4) -> None:
        if row := self._pick(which, "chat_state = 'assigned'"):
            values = {"chat": row[0], "operator": row[1], "content": "Yes"}
            self._now.busy.add(row[1])
            for step in application.REPLY_STEPS[:steps]:
                session.execute(step, values)

    def _die(self, session: Any, which: int) -> None:
        """The application dies after one, two or three of the four writes."""
        self._reply(session, which, 1 + which % 3)

    def _release(self, session: Any, which: int) -> None:
        row = self._pick(which, "chat_state = 'assigned'")
        if row is None:
            return
        if row[2] >= 3 and row[3] == "real" and "waits" in self.first:
            # It closes the chat, and its user's wait can only be counted before.
            time.sleep(TARGET_S)
            self.poll()
        self._now.busy.add(row[1])
        application.release(session, row[0], REASONS[which % len(REASONS)])

    def _unassign(self, session: Any, which: int) -> None:
        if row := self._pick(which, "chat_state = 'assigned'"):
            self._now.busy.add(row[1])
            application.unassign(session, row[0])

    def _admin(self, session: Any, which: int) -> None:
        """An admin gives a chat to a named operator, whoever has it or wherever it waits."""
        # Out of a lost reply: whether it was queued in between, nothing tells afterwards.
        is_lost = (
            "chat_state = 'waiting_real_user_reply' AND 'real' = (SELECT sender_type"
            " FROM messages m WHERE m.chat_id = c.id ORDER BY created_at DESC LIMIT 1)"
        )
        row = self._pick(which, f"NOT ({is_lost})")
        if row is None:
            return
        named = self.operators[which % len(self.operators)]
        self._now.busy |= {row[1], named}
        application.reassign_as_admin(session, row[0], named, "urgent")

    def _close(self, session: Any, which: int) -> None:
        """An admin closes a chat that no operator has; its user's messages are counted before."""
        row = self._pick(which, "chat_state <> 'assigned'")
        if row is None:
            return
        if {"waits", "messages"} <= self.first.keys():
            time.sleep(TARGET_S)
            self.poll()
        application.force_close(session, row[0])

    def _write_to_closed(self, session: Any, which: int) -> None:
        """The user writes into a chat that is not active: no change of state."""
        row = self._pick(which, "true", active=False)
        if row:
            application.write_as_user(session, row[0], SHUT_OUT)

    # What the watch does.

    def poll(self, kind: str = "poll", which: int = 0) -> None:
        """Poll, well or not."""
        name = EVENT_QUERIES[which % len(EVENT_QUERIES)]
        query = self.watcher.query(name)
        now: Recount | None = None
        if len(self.first) < len(EVENT_QUERIES):
            # What is open and not yet too long at the first poll would be a matter of luck.
            time.sleep(TARGET_S)
            now = Recount.of(self.platform)
        if kind == "cut":
            self.platform.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid <>"
                " pg_backend_pid() AND application_name LIKE 'chatqueue-exporter%'"
                " AND datname = current_database()"
            )
        elif kind == "broken":
            self.watcher.change_query(name, sql="SELECT 1 / 0", parameters=())
        elif kind == "mismatch":
            self.watcher.change_query(name, max_rows=0)
        elif kind == "reload":
            self.watcher.change(parameters=dict(self.watcher.worker._plan.parameters))
            self.watcher.worker._connection.close()
        done = self.watcher.poll()
        if kind in ("broken", "mismatch"):
            self.watcher.change_query(
                name, sql=query.sql, parameters=query.parameters, max_rows=query.max_rows
            )
        self.failed_polls += done != self.watcher.names
        for succeeded in done - self.first.keys():
            assert now is not None
            self.first[succeeded] = now
            if succeeded == "messages":
                self.first_returned = self.returned

    def finish(self) -> dict[tuple[str, ...], tuple[float, float]]:
        """End what is open, poll once more and return figures that differ: counted, recounted."""
        for who in list(self.held):
            self.end(who)
        if len(self.first) < len(EVENT_QUERIES):
            self.poll()
        time.sleep(TARGET_S)
        self.watcher.poll_well()
        expected = Recount.of(self.platform).since(self.first)
        assert self.first_returned is not None
        returned = self.returned - self.first_returned
        expected[_transition("waiting_real_user_reply", "waiting_assignment")] = returned
        counted = counted_by(self.watcher)
        return {
            figure: (counted.get(figure, 0.0), expected.get(figure, 0.0))
            for figure in counted.keys() | expected.keys()
            if abs(counted.get(figure, 0.0) - expected.get(figure, 0.0)) > 1e-6
        }
