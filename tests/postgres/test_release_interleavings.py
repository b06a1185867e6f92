"""Everybody else at every point of the transaction, committed or still in flight.

A second connection acts just before one step of the transaction; where our locks stop it, it goes
on as soon as they are gone. Each test walks all steps for one actor, with a chat of its own each.
The tables `LIVING`, `HOLDING` and `NEUTRAL` say what comes of every pair; `test_of_two_daemons…`
is the pair with another daemon.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest

from exporter.database.session import Session
from exporter.demo.platform import application
from exporter.release import admin
from exporter.release.attempt import ReleaseRequest, Result
from exporter.release.facts import Decision, Limits
from exporter.release.statements import STATEMENTS
from exporter.release.transaction import STEPS, Engine
from tests import builders
from tests.release import (
    assert_audit_and_releases_agree,
    install,
    make_engine,
    make_limits,
    make_stuck_chat,
    observe,
    reassign_long_ago,
    state_of,
)
from tests.servers import Platform

pytestmark = pytest.mark.newest

POINTS = ("begin", *STEPS)
ADMIN = "manual_reassignment_by_admin"
COLLEAGUE = UUID("c0113a90-0000-4000-8000-000000000000")
"""Whom an admin names."""
LIMITS = make_limits(burst=1000.0, breaker_at_least=999, alongside_idle_detector=True)
Write = Callable[["psycopg.Connection[Any]"], object]
MakeWrites = Callable[[UUID, UUID], list[Write]]


class Actor:
    """Runs writes on a connection of its own, and waits where a lock stops them.

    Attributes:
        blocked: Whether a lock stopped them before the transaction had ended.
    """

    def __init__(self, platform: Platform, writes: Sequence[Write], in_flight: bool) -> None:
        self._platform = platform
        self._writes = list(writes)
        self._in_flight = in_flight
        self._acted, self._end = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self.blocked = False
        self.started = False

    def act(self) -> None:
        """Return once the writes are done or stopped by a lock."""
        self.started = True
        self._thread.start()
        while not self._acted.wait(0.005):
            if self._platform.value(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ):
                self.blocked = True
                return

    def finish(self) -> None:
        """Commit what is in flight, and see the end of what was stopped."""
        self._end.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with self._platform.connect() as connection:
                *before, last = self._writes
                for write in before:
                    write(connection)
                if self._in_flight:
                    connection.autocommit = False
                last(connection)
                self._acted.set()
                if self._in_flight:
                    self._end.wait(20)
                    connection.commit()
        except BaseException as error:
            self._error = error
        finally:
            self._acted.set()


def beat(chat: UUID, operator: UUID) -> list[Write]:
    """The browser's heartbeat."""
    return [lambda c: application.beat(c, chat, operator)]


def beat_as_colleague(chat: UUID, operator: UUID) -> list[Write]:
    """The heartbeat of the operator whom the admin named, the first or a later one."""
    return beat(chat, COLLEAGUE)


def hand_over(chat: UUID, operator: UUID) -> list[Write]:
    """Long ago an admin gave the chat to the colleague, who never came."""
    return [lambda c: reassign_long_ago(c, chat, COLLEAGUE)]


def show_open_tab(chat: UUID, operator: UUID) -> list[Write]:
    """A heartbeat that tells of no input since the one before."""
    return [
        lambda c: c.execute(
            "UPDATE operator_activity SET last_activity = last_activity WHERE chat_id = %s", [chat]
        )
    ]


def close_superseded(chat: UUID, operator: UUID) -> list[Write]:
    """A person closes by hand the row that the admin's reassignment left open."""
    return [
        lambda c: c.execute(
            "UPDATE chat_assignments SET released_at = now(), release_reason = 'by hand'"
            " WHERE chat_id = %s AND operator_id = %s AND released_at IS NULL",
            [chat, operator],
        )
    ]


def write_as_user(chat: UUID, operator: UUID) -> list[Write]:
    """The user writes, which says nothing of the operator."""
    return [lambda c: application.write_as_user(c, chat, "hello?")]


def steps(texts: Sequence[LiteralString]) -> MakeWrites:
    """Those requests, one after the other."""

    def make(chat: UUID, operator: UUID) -> list[Write]:
        values = {
            "chat": chat,
            "operator": operator,
            "content": "here I am",
            "reason": "manual_unassign",
        }

        def writing(text: LiteralString) -> Write:
            return lambda c: c.execute(text, values)

        return [writing(text) for text in texts]

    return make


def reply(chat: UUID, operator: UUID) -> list[Write]:
    """The operator answers, likewise."""
    return [lambda c: application.reply(c, chat, operator, "here I am")]


def unassign(chat: UUID, operator: UUID) -> list[Write]:
    """The operator hands the chat back, by all its requests in one transaction or one by one."""
    return [lambda c: application.unassign(c, chat)]


def reassign(*numbers: int) -> MakeWrites:
    """Those requests of an admin who gives the chat to the colleague; all at once without any."""

    def make(chat: UUID, operator: UUID) -> list[Write]:
        values = {"chat": chat, "operator": COLLEAGUE, "reason": f"{ADMIN}:note"}

        def writing(text: LiteralString) -> Write:
            return lambda c: c.execute(text, values)

        if not numbers:
            return [lambda c: application.reassign_as_admin(c, chat, COLLEAGUE, "note")]
        return [writing(application.REASSIGN_STEPS[number - 1]) for number in numbers]

    return make


def give_back(chat: UUID, operator: UUID) -> list[Write]:
    """An admin gives the chat back to who had it before."""
    return [lambda c: application.reassign_as_admin(c, chat, operator, "note")]


def time_out(chat: UUID, operator: UUID) -> list[Write]:
    """The operator's own page gives an idle chat back."""
    return [lambda c: ignore_race(lambda: application.time_out_operator(c, chat))]


def release_idle(chat: UUID, operator: UUID) -> list[Write]:
    """The platform's own idle detector."""
    return [lambda c: ignore_race(lambda: application.release(c, chat, "idle_timeout"))]


def ignore_race(call: Callable[[], object]) -> None:
    """The platform's function raises where somebody was faster; its job survives that."""
    with contextlib.suppress(psycopg.errors.RaiseException):
        call()


def pause(chat: UUID, operator: UUID) -> list[Write]:
    """A person pauses releases."""
    values = {"seconds": 3600, "reason": "test", "by": "ann"}
    return [lambda c: c.execute(STATEMENTS["pause"].encode(), values)]


def exempt(chat: UUID, operator: UUID) -> list[Write]:
    """A person exempts the chat; what stays in flight are the statements that would do it."""
    values = {"kind": "chat", "subject": chat, "seconds": 3600, "reason": "test", "by": "ann"}

    def write(connection: psycopg.Connection[Any]) -> None:
        if connection.autocommit:
            with Session(connection.info.dsn) as session:
                admin.exempt(session, "chat", chat, timedelta(hours=1), "ann", "test")
        else:
            for name in ("control", "exempt"):
                connection.execute(STATEMENTS[name].encode(), values)

    return [write]


REPLY = application.REPLY_STEPS
UNASSIGN = application.UNASSIGN_STEPS
NOTHING = steps(())


@dataclass(frozen=True)
class Case:
    """Somebody else, and what comes of a release at each point where he acts.

    Attributes:
        committed: A letter a point, see `LETTERS`, where his writes are committed at once.
        in_flight: Where his last write is committed only after the transaction has ended.
        writes: What he does there, one after the other.
        before: What he had done before the chat was observed.
    """

    committed: str
    in_flight: str
    writes: MakeWrites
    before: MakeWrites = NOTHING


LETTERS = {
    Decision.RELEASED: "r",
    Decision.CHANGED: "c",
    Decision.BUSY: "b",
    Decision.PAUSED: "p",
    Decision.EXEMPT: "e",
}
"""In capitals where a lock of ours made him wait until the transaction had ended."""

# The points, from left to right: begin, control, lock_chat | lock_assignment | lock_heartbeat |
# judge | audit, release, verify, spend, commit. Who acts before his row is locked is seen; who acts
# afterwards waits. A small r would be a release under the hands of somebody who did not wait.
LIVING = {
    "heartbeat": Case("cccccRRRRRR", "bbbbbRRRRRR", beat),
    "first heartbeat": Case("cccRRRRRRRR", "bbbRRRRRRRR", beat, steps(REPLY[3:4])),
    "open tab": Case("cccccRRRRRR", "bbbbbRRRRRR", show_open_tab),
    "reply 1": Case("cccRRRRRRRR", "bbbRRRRRRRR", steps(REPLY[:1])),
    "reply 1-2": Case("cccRRRRRRRR", "bbbRRRRRRRR", steps(REPLY[:2])),
    "reply 1-3": Case("cccRRRRRRRR", "bbbRRRRRRRR", steps(REPLY[:3])),
    "reply 1-4": Case("cccRRRRRRRR", "cccRRRRRRRR", steps(REPLY[:4])),
    "reply 1-5": Case("cccRRRRRRRR", "cccRRRRRRRR", steps(REPLY)),
    "reply at once": Case("cccRRRRRRRR", "bbbRRRRRRRR", reply),
    "reply 2 after 1": Case("cccCCCccccc", "bbbCCCccccc", steps(REPLY[1:2]), steps(REPLY[:1])),
    "unassign 1": Case("cccRRRRRRRR", "bbbRRRRRRRR", steps(UNASSIGN[:1])),
    "unassign 1-2": Case("cccRRRRRRRR", "bbbRRRRRRRR", steps(UNASSIGN[:2])),
    "unassign 1-3": Case("cccRRRRRRRR", "cccRRRRRRRR", steps(UNASSIGN)),
    "unassign at once": Case("cccRRRRRRRR", "bbbRRRRRRRR", unassign),
    "reassign 1": Case("cccRRRRRRRR", "bbbRRRRRRRR", reassign(1)),
    "reassign 1-2": Case("cccRRRRRRRR", "bbbRRRRRRRR", reassign(1, 2)),
    "reassign 1-3": Case("cccRRRRRRRR", "bbbRRRRRRRR", reassign(1, 2, 3)),
    "reassign 2 after 1": Case("cccRRRRRRRR", "bbbRRRRRRRR", reassign(2), reassign(1)),
    "reassign 3 after 2": Case("cccCccccccc", "bbbCccccccc", reassign(3), reassign(1, 2)),
    "reassign at once": Case("cccRRRRRRRR", "bbbRRRRRRRR", reassign()),
    "idle release": Case("cccRRRRRRRR", "bbbRRRRRRRR", release_idle),
    "page's time-out": Case("cccRRRRRRRR", "bbbRRRRRRRR", time_out),
    # An admin gave the chat to the colleague long ago; the row before is superseded.
    "named, first heartbeat": Case("cccRRRRRRRR", "bbbRRRRRRRR", beat_as_colleague, hand_over),
    "named, idle release": Case("cccRRRRRRRR", "bbbRRRRRRRR", release_idle, hand_over),
    "named, unassign": Case("cccRRRRRRRR", "bbbRRRRRRRR", unassign, hand_over),
    "named, reply of the one before": Case(
        "cccRRRRRRRR", "cccRRRRRRRR", steps(REPLY[1:]), hand_over
    ),
    "named, reassign back": Case("cccRRRRRRRR", "bbbRRRRRRRR", give_back, hand_over),
    "named, row closed by hand": Case("ccccRRRRRRR", "bbbbRRRRRRR", close_superseded, hand_over),
}
# Who holds a release up, and once he has returned, none of his chats is released.
HOLDING = {
    "pause": Case("ppRRRRRRRRR", "bbRRRRRRRRR", pause),
    "exempt": Case("eeRRRRRRRRR", "bbRRRRRRRRR", exempt),
}
# Who says nothing of the operator: what he wrote is kept, and only a write in flight is waited for.
NEUTRAL = {
    "user message": Case("rrrRRRRRRRR", "bbbRRRRRRRR", write_as_user),
    "named, heartbeat of the one before": Case("rrrrrRRRRRR", "bbbbbRRRRRR", beat, hand_over),
    "named, message of the one before": Case(
        "rrrRRRRRRRR", "bbbRRRRRRRR", steps(REPLY[:1]), hand_over
    ),
}
# What holds under the other rules as well. With `life: input` an open tab says nothing.
OTHERWISE = (
    *("heartbeat", "first heartbeat", "reply 1", "reply 1-5", "reply at once", "unassign 1-3"),
    *("unassign at once", "reassign 1-3", "reassign at once", "named, unassign"),
)
RULES = {
    "input": replace(LIMITS, life="input"),
    "requeue": replace(LIMITS, on_would_close="requeue"),
}


def interleave(
    platform: Platform,
    make_writes: MakeWrites,
    point: str,
    in_flight: bool,
    make_before: MakeWrites = lambda chat, operator: [],
    limits: Limits = LIMITS,
) -> tuple[UUID, Actor, Result]:
    """Release a stuck chat, or requeue one, while an actor acts just before one step."""
    operator = builders.add_operator(platform)
    turns = 3 if limits.on_would_close == "requeue" else 0
    chat = make_stuck_chat(platform, operator, past_turns=turns)
    for write in make_before(chat, operator):
        write(platform.connection)
    actor = Actor(platform, make_writes(chat, operator), in_flight)

    def act(step: str) -> None:
        if step == point:
            actor.act()

    engine = make_engine(platform, limits=limits, on_step=act)
    result = engine.release(ReleaseRequest(observe(engine, chat), "enforce"))
    if not actor.started:  # the transaction ended before that step
        actor.act()
    actor.finish()
    engine.session.close()
    return chat, actor, result


@pytest.fixture
def living(platform: Platform) -> Platform:
    """A platform with our schema, where one operator works, so that heartbeats can be believed."""
    install(platform)
    builders.make_assigned_chat(platform)
    application.add_account(platform.connection, COLLEAGUE)
    platform.execute(
        "INSERT INTO operators (id, name, email) VALUES (%s, 'Colleague', 'c@example.test')",
        [COLLEAGUE],
    )
    return platform


def walk(
    platform: Platform, case: Case, in_flight: bool, limits: Limits = LIMITS
) -> tuple[str, list[UUID]]:
    """Let somebody act at every point, with a chat of its own each; letters and chats."""
    row, chats = "", []
    for point in POINTS:
        chat, actor, result = interleave(
            platform, case.writes, point, in_flight, case.before, limits
        )
        if result.decision is Decision.RELEASED:
            assert result.outcome == (
                "requeued" if limits.on_would_close == "requeue" else "released"
            )
        letter = LETTERS[result.decision]
        row += letter.upper() if actor.blocked else letter
        chats.append(chat)
        holder = state_of(platform, chat)[2]
        is_lost = holder is None or holder != result.request.observed.operator_id
        assert is_lost or result.decision is not Decision.RELEASED, point
        assert_audit_and_releases_agree(platform)
        platform.execute(STATEMENTS["resume"])
    return row, chats


EITHER = pytest.mark.parametrize("in_flight", [False, True], ids=["committed", "in flight"])


def test_nobody_who_shows_life_or_holds_is_passed_over_without_waiting() -> None:
    rows = [row for case in (LIVING | HOLDING).values() for row in (case.committed, case.in_flight)]

    assert {len(row) for row in rows} == {len(POINTS)}
    assert [row for row in rows if "r" in row] == []


@EITHER
@pytest.mark.parametrize("name", LIVING)
def test_no_chat_is_taken_from_who_shows_life_before_the_judgement(
    living: Platform, name: str, in_flight: bool
) -> None:
    case = LIVING[name]

    row, chats = walk(living, case, in_flight)

    assert row == (case.in_flight if in_flight else case.committed)
    if name.startswith("reply 1"):
        assert living.value("SELECT count(*) FROM messages WHERE content = 'here I am'") == len(
            chats
        )


@EITHER
@pytest.mark.parametrize("name", NEUTRAL)
def test_what_says_nothing_of_the_operator_is_kept_and_stops_only_while_in_flight(
    living: Platform, name: str, in_flight: bool
) -> None:
    case = NEUTRAL[name]

    row, chats = walk(living, case, in_flight)

    assert row == (case.in_flight if in_flight else case.committed)
    wrote = {"user message": "hello?", "named, message of the one before": "here I am"}.get(name)
    if wrote is not None:
        found = living.value("SELECT count(*) FROM messages WHERE content = %s", [wrote])
        assert found == len(chats)


@EITHER
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", OTHERWISE)
def test_it_is_the_same_when_requeued_and_when_only_input_is_life(
    living: Platform, name: str, rules: str, in_flight: bool
) -> None:
    case = LIVING[name]

    row, _ = walk(living, case, in_flight, RULES[rules])

    assert row == (case.in_flight if in_flight else case.committed)


@EITHER
def test_where_only_input_is_life_an_open_tab_is_none(living: Platform, in_flight: bool) -> None:
    row, _ = walk(living, LIVING["open tab"], in_flight, RULES["input"])

    assert row == ("bbbbbRRRRRR" if in_flight else "rrrrrRRRRRR")


@EITHER
@pytest.mark.parametrize("name", HOLDING)
def test_nothing_is_released_once_a_hold_has_returned(
    living: Platform, name: str, in_flight: bool
) -> None:
    case = HOLDING[name]

    row, chats = walk(living, case, in_flight)

    assert row == (case.in_flight if in_flight else case.committed)
    assert [state_of(living, chat)[0] for chat in chats] == [
        "waiting_assignment" if letter == "R" else "assigned" for letter in row
    ]


def race(platform: Platform, point: str) -> tuple[Result, Result]:
    """Release a chat by two engines, the second beginning just before a step of the first."""
    others: list[Result] = []
    orders: list[ReleaseRequest] = []

    def make_writes(chat: UUID, operator: UUID) -> list[Write]:
        def run(_: object) -> None:
            other = make_engine(platform, limits=LIMITS)
            others.append(other.release(orders[0]))
            other.session.close()

        engine = make_engine(platform, limits=LIMITS)
        orders.append(ReleaseRequest(observe(engine, chat), "enforce"))
        engine.session.close()
        return [run]

    _, _, result = interleave(platform, make_writes, point, False)
    return result, others[0]


def test_of_two_daemons_one_releases_and_one_token_is_spent(living: Platform) -> None:
    for count, point in enumerate(POINTS, 1):
        first, second = race(living, point)

        assert {first.decision, second.decision} == {Decision.RELEASED, Decision.CHANGED}, point
        assert living.value("SELECT count(*) FROM chatqueue.release_audit") == count
        assert_audit_and_releases_agree(living)
    left = living.value("SELECT tokens FROM chatqueue.release_control")
    assert 1000 - len(POINTS) <= left < 1000 - len(POINTS) + 1


def test_a_kill_at_every_point_while_an_operator_beats(living: Platform) -> None:
    for point in STEPS:  # at `begin` a new connection is opened, and nothing is lost
        operator = builders.add_operator(living)
        chat = make_stuck_chat(living, operator)

        def kill(step: str, point: str = point) -> None:
            if step == point:
                living.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE"
                    " application_name LIKE 'chatqueue-releaser%%' AND datname = %s",
                    [living.database],
                )

        engine = make_engine(living, limits=LIMITS, on_step=kill)
        engine.release(ReleaseRequest(observe(engine, chat), "enforce"))
        engine.session.close()
        deadline = time.monotonic() + 10
        while living.value(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE"
            " 'chatqueue-releaser%%' AND datname = current_database()"
        ):
            assert time.monotonic() < deadline
        application.beat(living.connection, chat, operator)

        assert state_of(living, chat)[0] == "assigned"
        assert_audit_and_releases_agree(living)


def test_the_engine_runs_its_steps_in_their_order(living: Platform) -> None:
    seen: list[str] = []
    chat = make_stuck_chat(living)
    engine: Engine = make_engine(living, limits=LIMITS, on_step=seen.append)

    engine.release(ReleaseRequest(observe(engine, chat), "enforce"))

    engine.session.close()
    assert tuple(seen) == POINTS
