"""Operators and users, each with a connection of his own, doing what the platform's own do.

Nobody waits a minute to be stuck: who vanishes has been given a chat that he took a minute ago,
and everything that happens around the deadline then happens in real time.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg

from exporter.demo.platform import application
from tests import builders
from tests.chaos.tally import Tally
from tests.servers import Platform

OPERATORS = 48
STEADY = 12
GHOSTS = 6
STUCK_S = 60.0
PATIENCE_S, HOPELESS_S = 40.0, 6.0
_WAITING = 30
_GLANCE_S = 0.8
# Ages a chat that was just taken; the heartbeat row anew, for an update would stamp it.
_BACKDATE = (
    """
    UPDATE chat_assignments SET assigned_at = now() - %(age)s * interval '1 s'
    WHERE chat_id = %(chat)s AND operator_id = %(operator)s AND released_at IS NULL
    """,
    "UPDATE chats SET assignment_time = now() - %(age)s * interval '1 s' WHERE id = %(chat)s",
    "DELETE FROM operator_activity WHERE chat_id = %(chat)s AND operator_id = %(operator)s",
    """
    INSERT INTO operator_activity (chat_id, operator_id, last_activity, updated_at)
    SELECT %(chat)s, %(operator)s, t.t, t.t
    FROM (SELECT now() - %(age)s * interval '1 s' AS t) AS t
    """,
)
# Whether the platform's release would close a chat, and whether it was released before.
_PROSPECTS = """
    SELECT
        (SELECT count(*) FROM chat_assignments AS a
         WHERE a.chat_id = %(chat)s AND a.released_at IS NOT NULL) >= 3,
        EXISTS (SELECT FROM chaos.release AS r WHERE r.chat_id = %(chat)s)
"""
Connection = psycopg.Connection[Any]


@dataclass
class Weather:
    """What the course of the run changes for everybody.

    Attributes:
        beats: Whether heartbeats get through.
        vanishing: How many of the operators vanish who take a chat; the steady never do.
        refill_per_s: Releases a second that the rate is given, on average.
    """

    beats: bool = True
    vanishing: float = 0.75
    refill_per_s: float = 9.0


@dataclass
class Stage:
    """What everybody in a run shares."""

    platform: Platform
    weather: Weather
    tally: Tally
    stop: threading.Event
    seed: str
    until_lost_s: float = 3.0
    """How long a vanished operator's chat stays his, on average, of late."""
    staff: list[UUID] = field(default_factory=list)
    """Every operator with a thread."""
    ghosts: list[UUID] = field(default_factory=list)
    """Operators whom an admin names and who never come."""

    def random_for(self, name: str) -> random.Random:
        """A generator of one's own: the same seed, the same course of intentions."""
        return random.Random(f"{self.seed} {name}")


class Person:
    """Somebody with a connection, who goes on with a new one whenever it breaks."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name = stage, name
        self.rng = stage.random_for(name)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._live, name=name)

    def act(self, on: Connection) -> None:
        """Do the next thing."""
        raise NotImplementedError

    def wait(self, seconds: float) -> None:
        """Let time pass, unless the run ends."""
        self.stage.stop.wait(seconds)

    def _live(self) -> None:
        try:
            while not self.stage.stop.is_set():
                with contextlib.suppress(psycopg.Error), self._connect() as on:
                    while not self.stage.stop.is_set():
                        self.act(on)
        except BaseException as error:
            self.failure = error
            raise

    @contextlib.contextmanager
    def _connect(self) -> Iterator[Connection]:
        """A connection that is closed whatever happens."""
        on = self.stage.platform.connect(application_name="people", connect_timeout=10)
        try:
            yield on
        finally:
            on.close()


def _backdate(on: Connection, values: Mapping[str, Any]) -> None:
    """Let an operator have got a chat some time ago, in the transaction that gives it to him."""
    for statement in _BACKDATE:
        on.execute(statement.encode(), values)


class Operator(Person):
    """Takes chats, answers them, vanishes, and comes back at the worst moment."""

    def __init__(self, stage: Stage, number: int) -> None:
        super().__init__(stage, f"operator {number}")
        self.id: UUID = builders.add_operator(stage.platform)
        stage.staff.append(self.id)
        self._is_steady = number < STEADY
        self._returns: tuple[Callable[[Connection, UUID], None], ...] = (
            self.beat,
            *(self.beat_slowly,) * 4,
            self.beat_askew,
            self.write_slowly,
            self.reply,
            self.reply_slowly,
            self.unassign,
            self.time_out,
            *(self.reassign,) * 2,
            *(self.name_ghost,) * 3,
        )

    def act(self, on: Connection) -> None:
        """One turn: take a chat, and do with it whatever it shall be."""
        chat = self.held(on)
        if chat is not None:  # his connection broke, or he took too long
            self.reply(on, chat)
            return
        if self._is_steady and not self.stage.weather.beats:
            self.wait(_GLANCE_S)  # the trouble that stops his heartbeats stops all he does
            return
        vanishes = not self._is_steady and self.rng.random() < self.stage.weather.vanishing
        age_s = self.rng.uniform(STUCK_S - 2, STUCK_S + 3) if vanishes else None
        chat, patience_s = self.take(on, age_s)
        if chat is None:
            self.wait(0.1)
        elif age_s is None:
            self.work(on, chat)
        elif not patience_s:
            self.reply(on, chat)
            self.force_close(on, chat)
        elif self.rng.random() < 0.35:
            self.wait(self.rng.uniform(0.3, 1.3) * self.stage.until_lost_s)
            if self.held(on) == chat:
                self.stage.tally.add("returned")
            else:
                self.stage.tally.add("returned late")
            self.rng.choice(self._returns)(on, chat)
            self.wait(self.rng.uniform(0, 1))
        else:
            self.stage.tally.add("vanished")
            self.wait_until_lost(on, chat, patience_s)
            if self.rng.random() < 0.3:
                self.beat(on, chat)
                self.stage.tally.add("beat late")

    def held(self, on: Connection) -> UUID | None:
        """The chat he has."""
        row = on.execute(
            "SELECT id FROM chats WHERE assigned_operator_id = %s AND chat_state = 'assigned'"
            " AND is_active ORDER BY assignment_time",
            [self.id],
        ).fetchone()
        return row[0] if row else None

    def take(self, on: Connection, age_s: float | None) -> tuple[UUID | None, float]:
        """Take the next chat, or have taken it `age_s` ago and shown no life since.

        Returns the chat, and for how long to stay away: not at all from most chats that no daemon
        may release. Their conversations end, or they would soon be all there are.
        """
        if age_s is None:
            return application.assign(on, self.id), 0.0
        with on.transaction():
            on.execute("SELECT set_config('chaos.silent', 'on', true)")
            chat = application.assign(on, self.id)
            on.execute("SELECT set_config('chaos.silent', '', true)")
            if chat is None:
                return None, 0.0
            values = {"chat": chat, "operator": self.id, "age": age_s}
            ((would_close, was_released),) = on.execute(_PROSPECTS, values).fetchall()
            patience_s = HOPELESS_S if would_close or was_released else PATIENCE_S
            ends = 0.3 if would_close else 0.85 if was_released else 0.0
            if self.rng.random() < ends:
                values["age"], patience_s = 0.0, 0.0
            _backdate(on, values)
        return chat, patience_s

    def work(self, on: Connection, chat: UUID) -> None:
        """Beat for a while, then answer."""
        for _ in range(self.rng.randint(2, 6)):
            self.wait(self.rng.uniform(0.5, 1.5))
            self.beat(on, chat)
        self.rng.choice((self.reply, self.reply, self.reply_slowly, self.unassign))(on, chat)

    def wait_until_lost(self, on: Connection, chat: UUID, patience_s: float) -> None:
        """Stay away until the chat is gone, or for so long."""
        stage, started = self.stage, time.monotonic()
        while time.monotonic() - started < patience_s and not stage.stop.is_set():
            self.wait(_GLANCE_S)
            if self.held(on) != chat:
                waited_s = time.monotonic() - started - _GLANCE_S / 2
                stage.until_lost_s += 0.1 * (waited_s - stage.until_lost_s)
                return

    def beat(self, on: Connection, chat: UUID) -> None:
        """A heartbeat, if any gets through."""
        if self.stage.weather.beats:
            application.beat(on, chat, self.id)

    def beat_askew(self, on: Connection, chat: UUID) -> None:
        """A heartbeat by a browser whose clock is wrong."""
        if self.stage.weather.beats:
            application.beat(on, chat, self.id, skew_s=self.rng.choice((-300.0, 7200.0)))

    def beat_slowly(self, on: Connection, chat: UUID) -> None:
        """A heartbeat that takes its time to be committed."""
        with on.transaction():
            self.beat(on, chat)
            self.wait(self.rng.uniform(0.2, 0.9))

    def write_slowly(self, on: Connection, chat: UUID) -> None:
        """A message alone, committed late."""
        values = {"chat": chat, "operator": self.id, "content": "x"}
        with on.transaction():
            on.execute(application.REPLY_STEPS[0], values)
            self.wait(self.rng.uniform(0.05, 0.8))

    def reply(self, on: Connection, chat: UUID) -> None:
        """Answer, if the chat is still his, with a pause now and then between the writes."""
        if self.held(on) != chat:
            return
        values = {"chat": chat, "operator": self.id, "content": "x"}
        for step in application.REPLY_STEPS:
            on.execute(step, values)
            if self.rng.random() < 0.2:
                self.wait(self.rng.uniform(0, 0.3))
        self.stage.tally.add("replied")

    def reply_slowly(self, on: Connection, chat: UUID) -> None:
        """The same in one transaction that stays open between the writes."""
        with on.transaction():
            self.reply(on, chat)

    def unassign(self, on: Connection, chat: UUID) -> None:
        """Hand the chat back."""
        if self.held(on) == chat:
            application.unassign(on, chat)
            self.stage.tally.add("unassigned")

    def time_out(self, on: Connection, chat: UUID) -> None:
        """Have his own page give it back, which may close it."""
        if self.held(on) == chat:
            with contextlib.suppress(psycopg.errors.RaiseException):  # somebody was faster
                application.time_out_operator(on, chat)
                self.stage.tally.add("page timed out")

    def reassign(self, on: Connection, chat: UUID) -> None:
        """Have an admin give it to a colleague, who may have one; the row stays open for ever."""
        if self.held(on) == chat:
            application.reassign_as_admin(on, chat, self.rng.choice(self.stage.staff), "x")
            self.stage.tally.add("reassigned")

    def name_ghost(self, on: Connection, chat: UUID) -> None:
        """Have had an admin give it to somebody who has shown no life since."""
        ghost = self.rng.choice(self.stage.ghosts)
        with on.transaction():
            if self.held(on) != chat:
                return
            on.execute("SELECT set_config('chaos.silent', 'on', true)")
            application.reassign_as_admin(on, chat, ghost, "x")
            on.execute("SELECT set_config('chaos.silent', '', true)")
            age_s = self.rng.uniform(STUCK_S - 2, STUCK_S + 3)
            _backdate(on, {"chat": chat, "operator": ghost, "age": age_s})
        self.stage.tally.add("given to a ghost")

    def force_close(self, on: Connection, chat: UUID) -> None:
        """Have an admin close it, which fails while it is assigned."""
        with contextlib.suppress(psycopg.errors.CheckViolation):
            application.force_close(on, chat)
            self.stage.tally.add("force closed")
            return
        self.stage.tally.add("force close failed")


class Users(Person):
    """Start chats, write to those that wait for them or are being answered, and go."""

    def act(self, on: Connection) -> None:
        """See that enough users wait; then one of the others does something."""
        ((waiting,),) = on.execute(
            "SELECT count(*) FROM chats WHERE chat_state = 'waiting_assignment' AND is_active"
        ).fetchall()
        for _ in range(max(0, _WAITING - waiting)):
            application.start_chat(on, uuid4(), uuid4(), "?")
        row = on.execute(
            "SELECT id, (SELECT count(*) FROM chat_assignments a WHERE a.chat_id = c.id)"
            " FROM chats c WHERE is_active AND chat_state = %s ORDER BY random() LIMIT 1",
            ["assigned" if self.rng.random() < 0.7 else "waiting_real_user_reply"],
        ).fetchone()
        if row and row[1] > 3:
            self.end(on, row[0])
        elif row:
            application.write_as_user(on, row[0], "?")
            self.stage.tally.add("user wrote")
        self.wait(self.rng.uniform(0.1, 0.9))

    def end(self, on: Connection, chat: UUID) -> None:
        """An admin closes the chat or blocks its user; both fail while it is assigned."""
        with contextlib.suppress(psycopg.errors.CheckViolation):
            if self.rng.random() < 0.5:
                application.force_close(on, chat)
            else:
                ((user,),) = on.execute(
                    "SELECT real_user_id FROM chats WHERE id = %s", [chat]
                ).fetchall()
                application.block_user(on, user)
            self.stage.tally.add("closed by an admin")
            application.write_as_user(on, chat, "still there?")
            return
        self.stage.tally.add("close by an admin failed")
