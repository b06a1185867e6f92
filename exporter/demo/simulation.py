"""Runs the simulated people against a platform on PostgreSQL, first as history, then live."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from uuid import UUID

import psycopg

from exporter.demo.scenarios import HISTORY_RHYTHM, SCENARIOS, DownRhythm
from exporter.demo.world.cast import Event
from exporter.demo.world.live import LivePlatform, PlatformDown
from exporter.demo.world.memory import MemoryPlatform
from exporter.demo.world.people import World
from exporter.demo.world.rows import OperatorRow, Rows, copy_rows
from exporter.errors import ChatqueueError

_RETRY_S = 0.5
# The end of the history is calm, so that it shows none of the scenario's trouble.
_QUIET_S = 1500.0


class CannotJoin(ChatqueueError):
    """The platform does not take the simulated people; the message has the server's words."""


class Simulation:
    """Users, operators and the platform's idle job on one platform database.

    Args:
        dsn: A platform database as `install_platform` left it; a superuser's connection string.
        seed: The same seed gives the same people and the same events.
        scenario: Name in `scenarios.SCENARIOS`.
        speed: Simulated seconds per real second. It shortens the people's rhythms only: the
            database's `now()` stays real.
        operators: How many of them work; two more only exist, one disabled and one off duty.
        database_switch: Called with False to stop the server and True to start it, in scenarios
            with `database_down`.

    Attributes:
        scenario: The scenario it plays.
        world: The model; `world.now` is the simulated time in seconds.
    """

    def __init__(
        self,
        dsn: str,
        *,
        seed: int = 1,
        scenario: str = "calm",
        speed: float = 1.0,
        operators: int = 12,
        database_switch: Callable[[bool], None] | None = None,
    ) -> None:
        ids = random.Random(seed)
        self.scenario = SCENARIOS[scenario]
        self._dsn = dsn
        self._seed = seed
        self._speed = speed
        self._switch = database_switch
        self._persona = UUID(int=ids.getrandbits(128), version=4)
        self._staff = [_make_operator(number, ids) for number in range(1, operators + 3)]
        *working, disabled, off_duty = self._staff
        disabled.is_active = disabled.is_available = off_duty.is_available = False
        self.world = World(seed, working, HISTORY_RHYTHM, off_duty.id)
        self._live = LivePlatform(dsn, self._persona, lambda: self.world.now)

    def join(self) -> None:
        """Bring the operators and their persona to a platform that has chats, and go on live.

        Raises:
            CannotJoin: The platform does not take them.
        """
        self.world.platform = self._live
        self.world.change_rhythm(self.scenario.rhythm)
        try:
            with psycopg.connect(self._dsn) as connection:
                copy_rows(connection, Rows(operators=self._staff), self._persona, self.world.now)
        except psycopg.Error as error:
            words = " ".join(str(error).split())
            raise CannotJoin(f"simulated operators could not be added: {words}") from error

    def seed_history(self, hours: float = 2.0) -> Rows:
        """Live through the last hours in memory and write them to the empty platform.

        Returns the rows that it wrote; afterwards the same people go on live.

        Raises:
            psycopg.Error: The rows cannot be written.
        """
        rows = self.build_history(hours).collect_rows()
        with psycopg.connect(self._dsn) as connection:
            copy_rows(connection, rows, self._persona, self.world.now)
            connection.execute("ANALYZE")
        return rows

    def build_history(self, hours: float = 2.0) -> MemoryPlatform:
        """Live through the last hours in memory; returns the platform as it then stands.

        The scenario's own rhythm begins `scenario.lead_s` before the end.
        """
        end = hours * 3600
        world = self.world
        rows = Rows(operators=self._staff)
        platform = MemoryPlatform(rows, lambda: world.now, self._seed, self._persona)
        world.platform = platform
        calm = SCENARIOS["calm"].rhythm
        self.step(end - max(_QUIET_S, self.scenario.lead_s))
        world.change_rhythm(calm)
        self.step(end - self.scenario.lead_s)
        world.change_rhythm(self.scenario.rhythm)
        world.vanish(self.scenario.vanishing)
        self.step(end)
        world.platform = self._live
        return platform

    def step(self, until: float) -> list[Event]:
        """Let everything happen up to a simulated time, without waiting for it.

        Returns the events, in order. While the database is away the clock goes on and people
        try again a second later.
        """
        events = []
        while self.world.next_at <= until:
            try:
                events.append(self.world.step())
            except PlatformDown:
                if self.world.now + 1 > until:
                    break
                self.world.now += 1
        self.world.now = max(self.world.now, float(until))
        return events

    def run(self, stop: threading.Event) -> None:
        """Live in real time until `stop` is set; for a separate thread.

        Simulated time stands still while the database is away.
        """
        switch = _Switch(self.scenario.database_down, self._switch)
        origin = time.monotonic() - self.world.now / self._speed
        while not stop.is_set():
            switch.toggle_if_due()
            wait_s = origin + self.world.next_at / self._speed - time.monotonic()
            if wait_s > 0:
                stop.wait(min(wait_s, _RETRY_S))
                continue
            try:
                self.world.step()
            except PlatformDown:
                before = time.monotonic()
                stop.wait(_RETRY_S)
                origin += time.monotonic() - before
        self._live.close()

    def close(self) -> None:
        """Close the connection, after `step`; `run` does so itself."""
        self._live.close()


class _Switch:
    """Stops and starts the database by the scenario's real-time rhythm."""

    def __init__(self, rhythm: DownRhythm | None, switch: Callable[[bool], None] | None) -> None:
        self._rhythm = rhythm
        self._switch = switch
        self._up = True
        self._since = time.monotonic()

    def toggle_if_due(self) -> None:
        """Stop or start the server if the time has come."""
        if self._rhythm is None or self._switch is None:
            return
        phase_s = self._rhythm.up_s if self._up else self._rhythm.down_s
        if time.monotonic() - self._since >= phase_s:
            self._up = not self._up
            self._switch(self._up)
            self._since = time.monotonic()


def _make_operator(number: int, ids: random.Random) -> OperatorRow:
    return OperatorRow(
        UUID(int=ids.getrandbits(128), version=4),
        f"Operator {number:02}",
        f"operator-{number:02}@example.test",
        0.0,
    )
