"""Everything that goes wrong in a run, and the phases it goes through."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import psycopg

from exporter.database.session import Session
from exporter.errors import ChatqueueError
from exporter.release import admin
from tests.chaos.daemons import CLOSINGS, CUTS, LOOSE, RULES, STRICT, Fleet
from tests.chaos.judge import DAEMONS, mark
from tests.chaos.people import Connection, Person, Stage

PHASES = ("pause", "shortage", "outage", "silence")
_ROUND_S = 0.25


class Troublemaker(Person):
    """Kills, terminates, cuts and reloads at random."""

    def __init__(self, stage: Stage, fleet: Fleet) -> None:
        super().__init__(stage, "troublemaker")
        self._fleet = fleet
        self._deeds: Mapping[Callable[[Connection], None], int] = {
            self.terminate_daemon: 4,
            self.terminate_operator: 6,
            self.cut: 4,
            self.kill: 2,
            self.reload: 2,
        }

    def act(self, on: Connection) -> None:
        """Do one thing."""
        self.wait(self.rng.uniform(0, 2))
        (deed,) = self.rng.choices(tuple(self._deeds), tuple(self._deeds.values()))
        deed(on)

    def terminate_daemon(self, on: Connection) -> None:
        """End a connection of a daemon, in whatever it is doing."""
        self._terminate(on, "daemon's backend terminated", "usename LIKE %s", f"{DAEMONS}%")

    def terminate_operator(self, on: Connection) -> None:
        """End a connection of an operator."""
        self._terminate(on, "operator's backend terminated", "application_name = %s", "people")

    def cut(self, on: Connection) -> None:
        """Break a connection in COMMIT."""
        self._fleet.cut(self.rng.choice(CUTS))

    def kill(self, on: Connection) -> None:
        """Kill a daemon."""
        self._fleet.kill(self.rng)

    def reload(self, on: Connection) -> None:
        """Have the configuration read again."""
        self._fleet.reload()

    def _terminate(self, on: Connection, name: str, condition: str, value: str) -> None:
        query = (
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {condition}"
            " AND datname = current_database() AND pid <> pg_backend_pid()"
            " ORDER BY (xact_start IS NULL), random() LIMIT 1"
        )
        if on.execute(query.encode(), [value]).fetchall():
            self.stage.tally.add(name)


class Refill(Person):
    """Lets time pass for the rate alone: 1000 an hour is the most that can be configured."""

    def __init__(self, stage: Stage, name: str) -> None:
        super().__init__(stage, name)
        self._last_s = time.monotonic()

    def act(self, on: Connection) -> None:
        """Give the bucket some of what it would get in a longer time."""
        self.wait(_ROUND_S)
        with on.transaction():
            on.execute("SELECT FROM chatqueue.release_control FOR UPDATE")
            now_s = time.monotonic()
            passed_s, self._last_s = now_s - self._last_s, now_s
            wanted = self.rng.uniform(0, 2) * self.stage.weather.refill_per_s * passed_s
            seconds = wanted * 3600 / RULES["rate"]["per_hour"]
            on.execute(
                "UPDATE chatqueue.release_control"
                " SET tokens_at = tokens_at - %s * interval '1 s' WHERE tokens_at IS NOT NULL",
                [seconds],
            )
            mark(on, "refill", value=seconds)


class Director(Person):
    """Leads the run through its phases, with as much ordinary chaos between them."""

    def __init__(self, stage: Stage, fleet: Fleet, ordinary_s: float, rest_s: float) -> None:
        super().__init__(stage, "director")
        self._fleet, self._ordinary_s, self._rest_s = fleet, ordinary_s, rest_s
        self._closings = CLOSINGS

    def act(self, on: Connection) -> None:
        """Play every phase once, in some order, and then none for a while."""
        for phase in self.rng.sample(PHASES, len(PHASES)):
            self._switch_closing()
            self.wait(self.rng.uniform(0.5, 1.5) * self._ordinary_s)
            if not self.stage.stop.is_set():
                getattr(self, phase)(on)
                self.stage.tally.add(f"phase {phase}")
        rested_by_s = time.monotonic() + self._rest_s
        while time.monotonic() < rested_by_s and not self.stage.stop.is_set():
            self._switch_closing()
            self.wait(2 * self._ordinary_s)

    def _switch_closing(self) -> None:
        """Let the daemons treat what would be closed in the other way."""
        self._closings = self._closings[::-1]
        self._fleet.configure(LOOSE, self._closings[0])
        self._fleet.reload()

    def pause(self, on: Connection) -> None:
        """A person pauses releases, and ends it."""
        if self._by_hand(lambda session: admin.pause(session, timedelta(hours=1), "x", "y")):
            mark(on, "paused")
            self.wait(self.rng.uniform(1, 2))
            mark(on, "resuming")
        while not self._by_hand(admin.resume):
            pass

    def shortage(self, on: Connection) -> None:
        """The rate gives next to nothing."""
        weather = self.stage.weather
        before, weather.refill_per_s = weather.refill_per_s, 0.5
        self.wait(self.rng.uniform(3, 4))
        weather.refill_per_s = before

    def outage(self, on: Connection) -> None:
        """Nearly everybody vanishes, and the breaker is set to notice."""
        weather = self.stage.weather
        before, weather.vanishing = weather.vanishing, 1.0
        self._fleet.configure(STRICT, self.rng.choice(CLOSINGS))
        self._fleet.reload()
        self.wait(self.rng.uniform(3, 4))
        weather.vanishing = before
        self._fleet.configure(LOOSE, self.rng.choice(CLOSINGS))
        self._fleet.reload()

    def silence(self, on: Connection) -> None:
        """No heartbeat gets through, and nobody takes a chat just now."""
        weather = self.stage.weather
        before, weather.beats, weather.vanishing = weather.vanishing, False, 1.0
        self.wait(self.rng.uniform(11.5, 12.5))
        weather.beats, weather.vanishing = True, before

    def _by_hand(self, deed: Callable[[Session], Any]) -> bool:
        """Do what a person does on the command line; whether it was done."""
        with contextlib.suppress(ChatqueueError, psycopg.Error):
            with Session(self.stage.platform.dsn) as session:
                deed(session)
            return True
        return False
