"""Everybody else at every point of the transaction, committed or still in flight.

A second connection acts just before one step of the transaction; where our locks stop it, it goes
on as soon as they are gone. Each test walks all steps for one actor, with a chat of its own each.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest

from exporter.demo.platform import application
from exporter.release.engine import STEPS, Engine
from exporter.release.facts import Decision
from exporter.release.orders import Order, Result
from exporter.release.statements import STATEMENTS
from tests import builders
from tests.release import (
    assert_audit_and_releases_agree,
    install,
    make_engine,
    make_limits,
    make_stuck_chat,
    observe,
    state_of,
)
from tests.servers import Platform

POINTS = ("begin", *STEPS)
JUDGED = POINTS.index("judge")
LIMITS = make_limits(burst=1000.0, breaker_at_least=999, alongside_idle_detector=True)
Write = Callable[["psycopg.Connection[Any]"], object]


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


def beat_by_upsert(chat: UUID, operator: UUID) -> list[Write]:
    """A heartbeat that inserts its row where there is none."""
    return [
        lambda c: c.execute(
            "INSERT INTO operator_activity (chat_id, operator_id) VALUES (%s, %s)"
            " ON CONFLICT (chat_id, operator_id) DO UPDATE SET last_activity = now()",
            [chat, operator],
        )
    ]


def reply(writes: int) -> Callable[[UUID, UUID], list[Write]]:
    """The first writes of an operator's reply."""

    def make(chat: UUID, operator: UUID) -> list[Write]:
        values = {"chat": chat, "operator": operator, "content": "here I am"}

        def writing(step: Any) -> Write:
            return lambda c: c.execute(step, values)

        return [writing(step) for step in application.REPLY_STEPS[:writes]]

    return make


def write_as_user(chat: UUID, operator: UUID) -> list[Write]:
    """The user writes, which says nothing of the operator."""
    return [lambda c: application.write_as_user(c, chat, "hello?")]


def reassign(chat: UUID, operator: UUID) -> list[Write]:
    """An admin takes the chat away."""
    return [lambda c: application.reassign_as_admin(c, chat, "note")]


def start_reassigning(chat: UUID, operator: UUID) -> list[Write]:
    """The first request of an admin's reassignment alone: a second row, already released."""
    return [
        lambda c: c.execute(
            "INSERT INTO chat_assignments (chat_id, operator_id, released_at, release_reason)"
            " VALUES (%s, %s, now(), 'manual_reassignment_by_admin:x')",
            [chat, operator],
        )
    ]


def unassign(chat: UUID, operator: UUID) -> list[Write]:
    """The operator hands the chat back."""
    return [lambda c: application.unassign(c, chat)]


def close_assignment(chat: UUID, operator: UUID) -> list[Write]:
    """The first request of handing back alone."""
    return [
        lambda c: c.execute(
            "UPDATE chat_assignments SET released_at = now(), release_reason = 'manual_unassign'"
            " WHERE chat_id = %s AND released_at IS NULL",
            [chat],
        )
    ]


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


# What shows life, or takes the chat away: once it is committed before the judgement, nobody
# may release the chat any more.
LIVING = {
    "heartbeat": beat,
    "heartbeat by upsert": beat_by_upsert,
    "reply 1": reply(1),
    "reply 2": reply(2),
    "reply 3": reply(3),
    "reply 4": reply(4),
    "reassign": reassign,
    "reassign, first write": start_reassigning,
    "unassign": unassign,
    "unassign, first write": close_assignment,
    "idle release": release_idle,
}

SEVERAL = ("unassign", "idle release")
"""Those whose writes touch more than one of the rows that we lock, one after the other."""


def interleave(
    platform: Platform,
    make_writes: Callable[[UUID, UUID], list[Write]],
    point: str,
    in_flight: bool,
) -> tuple[UUID, Actor, Result]:
    """Release a stuck chat while an actor acts just before one step."""
    operator = builders.add_operator(platform)
    chat = make_stuck_chat(platform, operator)
    actor = Actor(platform, make_writes(chat, operator), in_flight)

    def act(step: str) -> None:
        if step == point:
            actor.act()

    engine = make_engine(platform, limits=LIMITS, on_step=act)
    result = engine.release(Order(observe(engine, chat), "enforce"))
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
    return platform


@pytest.mark.parametrize("in_flight", [False, True], ids=["committed", "in flight"])
@pytest.mark.parametrize("name", LIVING)
def test_no_chat_is_taken_from_who_shows_life_before_the_judgement(
    living: Platform, name: str, in_flight: bool
) -> None:
    for number, point in enumerate(POINTS):
        chat, actor, result = interleave(living, LIVING[name], point, in_flight)

        if actor.blocked and result.decision is not Decision.RELEASED:
            # Its first write came before our locks and told us; a later one was stopped by them.
            assert name in SEVERAL, point
            assert number <= JUDGED, point
            assert result.decision in (Decision.BUSY, Decision.CHANGED), point
        elif actor.blocked:
            # It came after our locks: the release stands, and the actor found the chat gone.
            assert number > 0, point
        else:
            assert number <= JUDGED, f"{name} was not stopped by any lock before {point}"
            assert result.decision in (Decision.BUSY, Decision.CHANGED), point
        assert_audit_and_releases_agree(living)
        if name.startswith("reply"):
            texts = living.fetch("SELECT content FROM messages WHERE chat_id = %s", [chat])
            assert ("here I am",) in texts


@pytest.mark.parametrize("in_flight", [False, True], ids=["committed", "in flight"])
def test_a_users_message_is_kept_and_stops_only_while_in_flight(
    living: Platform, in_flight: bool
) -> None:
    for point in POINTS:
        chat, actor, result = interleave(living, write_as_user, point, in_flight)

        busy = in_flight and not actor.blocked
        assert result.decision is (Decision.BUSY if busy else Decision.RELEASED), point
        assert state_of(living, chat)[0] == ("assigned" if busy else "waiting_assignment")
        assert living.value(
            "SELECT count(*) FROM messages WHERE chat_id = %s AND content = 'hello?'", [chat]
        )
    assert_audit_and_releases_agree(living)


def test_nothing_is_released_once_pause_has_returned(living: Platform) -> None:
    for point in POINTS:
        chat, actor, result = interleave(living, pause, point, False)
        living.execute(STATEMENTS["resume"])

        before = point in ("begin", "control")
        assert actor.blocked is not before, point
        assert result.decision is (Decision.PAUSED if before else Decision.RELEASED), point
        assert state_of(living, chat)[0] == ("assigned" if before else "waiting_assignment")
    assert_audit_and_releases_agree(living)


def test_a_pause_in_flight_is_waited_for_and_no_longer_than_the_limit(living: Platform) -> None:
    chat, _, result = interleave(living, pause, "control", True)

    assert result.decision is Decision.BUSY
    assert state_of(living, chat)[0] == "assigned"


def race(platform: Platform, point: str) -> tuple[Result, Result]:
    """Release a chat by two engines, the second beginning just before a step of the first."""
    others: list[Result] = []
    orders: list[Order] = []

    def make_writes(chat: UUID, operator: UUID) -> list[Write]:
        def run(_: object) -> None:
            other = make_engine(platform, limits=LIMITS)
            others.append(other.release(orders[0]))
            other.session.close()

        engine = make_engine(platform, limits=LIMITS)
        orders.append(Order(observe(engine, chat), "enforce"))
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
        engine.release(Order(observe(engine, chat), "enforce"))
        engine.session.close()
        deadline = time.monotonic() + 10
        while not application.beat(living.connection, chat, operator):
            assert time.monotonic() < deadline

        assert state_of(living, chat)[0] == "assigned"
        assert_audit_and_releases_agree(living)


def test_the_engine_runs_its_steps_in_their_order(living: Platform) -> None:
    seen: list[str] = []
    chat = make_stuck_chat(living)
    engine: Engine = make_engine(living, limits=LIMITS, on_step=seen.append)

    engine.release(Order(observe(engine, chat), "enforce"))

    engine.session.close()
    assert tuple(seen) == POINTS
