"""One run from the first chat to the verdict."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from exporter.demo.platform import application
from tests import builders
from tests.chaos.daemons import CLOSINGS, LOOSE, Fleet
from tests.chaos.judge import DUE_S, find_breaches, install_history, mark
from tests.chaos.people import GHOSTS, OPERATORS, STUCK_S, Operator, Person, Stage, Users, Weather
from tests.chaos.tally import Tally
from tests.chaos.troubles import Director, Refill, Troublemaker
from tests.release import install
from tests.servers import clone_platform, memory_directory, run_server

DWELL_S = 0.02
NEEDED = (
    *("daemon's backend terminated", "operator's backend terminated", "kill -9", "reload"),
    *("cut before COMMIT", "cut within COMMIT", "cut after COMMIT"),
    *("phase pause", "phase shortage", "phase outage", "phase silence"),
    *("vanished", "returned", "replied", "unassigned", "reassigned", "given to a ghost"),
    *("beat late", "user wrote", "closed by an admin", "close by an admin failed"),
)
HOLDS = ("busy", "breaker", "cooling_down", "over_limit", "paused", "sensor", "would_close")
"""What the daemons must have been held by, or the limits were never put to the test."""
_SPARE = 4
_KEEPERS = 8
_FRESH = 6
# Stuck, and nothing but time stands in the way: no limit of a chat, not about to be closed.
_HELPABLE = """
    SELECT t.chat_id FROM chaos.truth AS t
    WHERE t.alive_at < now() - %(stuck_s)s * interval '1 s'
      AND (SELECT count(*) FROM chat_assignments AS a
           WHERE a.chat_id = t.chat_id AND a.released_at IS NOT NULL) < 3
      AND NOT EXISTS (SELECT FROM chaos.release AS r WHERE r.chat_id = t.chat_id
                      AND r.outcome <> 'escalated' AND r.at > now() - interval '1 minute')
"""


@dataclass(frozen=True)
class Report:
    """What a run came to.

    Attributes:
        seed: Of every intention.
        took_s: From the first chat to the verdict.
        releases: Committed, by the history.
        requeued: Those among them that the platform's own release would have closed.
        named: Those of chats that an admin had given to the operator.
        due: Stuck chats at the end, all of which had to be released.
        happened: How often each thing happened.
        decisions: What the daemons said they decided; those of a killed daemon's last moment
            are missing.
        breaches: By invariant, in sentences.
        faults: What the daemons logged as defects of their own.
    """

    seed: str
    took_s: float
    releases: int
    requeued: int
    named: int
    due: int
    happened: Mapping[str, int]
    decisions: Mapping[str, int]
    breaches: Mapping[str, list[str]]
    faults: list[str]

    @property
    def missing(self) -> list[str]:
        """What should have happened, and did not."""
        counts = {"requeued": self.requeued, "released from whom an admin named": self.named}
        return [
            *(name for name in NEEDED if name not in self.happened),
            *(f"decision {name}" for name in HOLDS if name not in self.decisions),
            *(name for name, count in counts.items() if not count),
        ]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.took_s:.0f} s", f"{'releases':32}{self.releases:6}"]
        lines.append(f"{'  of them requeued':32}{self.requeued:6}")
        lines.append(f"{'  from whom an admin named':32}{self.named:6}")
        lines.append(f"{'stuck at the end, and released':32}{self.due:6}")
        lines += [f"{name:32}{count:6}" for name, count in self.happened.items()]
        lines += [f"decision {name:23}{count:6}" for name, count in sorted(self.decisions.items())]
        lines.append(f"{'violations':32}{sum(map(len, self.breaches.values())):6}")
        for name, breaches in self.breaches.items():
            lines += [f"{name}: {breach}" for breach in breaches[:20]]
        return "\n".join([*lines, *self.faults[:20]])


def run_chaos(
    seed: str, *, least_s: float, most_s: float, releases: int, ordinary_s: float, rest_s: float
) -> Report:
    """Play a run and judge it.

    Args:
        seed: Of every intention; the clock and the scheduler add their own.
        least_s: How long it lasts, unless more is needed to see enough.
        most_s: When it ends whatever was seen.
        releases: How many are enough.
        ordinary_s: Mean time between two phases.
        rest_s: Time without any, once each was played.
    """
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        # Dozens of threads share this interpreter with the daemons' wire, which must not wait.
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(0.0003)
        settings = {"track_commit_timestamp": "on", "max_connections": "200"}
        server = stack.enter_context(run_server("pg18", **settings))
        platform = stack.enter_context(clone_platform(server))
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=memory_directory()))
        install(platform)
        install_history(platform.connection)
        platform.execute(f"ALTER DATABASE {platform.database} SET chaos.dwell_s = {DWELL_S}")
        platform.close()
        stage = Stage(platform, Weather(), Tally(), threading.Event(), seed)
        operators = [Operator(stage, number) for number in range(OPERATORS)]
        for _ in range(_SPARE):
            builders.add_operator(platform)
        stage.ghosts += [builders.add_operator(platform, available=False) for _ in range(GHOSTS)]
        fleet = Fleet(platform, stage.tally, Path(folder))
        with fleet:
            people: list[Person] = [*operators, *(Users(stage, f"users {n}") for n in range(2))]
            refill = Refill(_calm(stage), "refill")
            people += [Troublemaker(stage, fleet), Director(stage, fleet, ordinary_s, rest_s)]
            for person in (*people, refill):
                person.thread.start()
            try:
                begun = time.monotonic()
                _wait(
                    lambda: _is_enough(stage, fleet, people, releases, begun + least_s),
                    most_s,
                )
                stage.stop.set()
                for person in people:
                    person.thread.join()
                due, left = _calm_down(stage, fleet)
            finally:
                stage.stop.set()
                refill.stage.stop.set()
                for person in (*people, refill):
                    person.thread.join()
        with platform.connect() as on:
            breaches = find_breaches(on, fleet.limits)
        for chat in left:
            breaches.setdefault("I10", []).extend(fleet.said_of(chat))
        failures = [repr(p.failure) for p in (*people, refill) if p.failure is not None]
        return Report(
            seed,
            time.monotonic() - started,
            _count_releases(stage),
            _count_releases(stage, "outcome = 'requeued'"),
            _count_releases(stage, _NAMED),
            due,
            stage.tally.items(),
            fleet.decisions(),
            breaches,
            fleet.faults() + failures,
        )


def _calm(stage: Stage) -> Stage:
    """The same stage for whoever goes on after the chaos."""
    return Stage(stage.platform, stage.weather, stage.tally, threading.Event(), stage.seed)


_NAMED = """
    EXISTS (SELECT FROM chat_assignments AS a
            WHERE a.chat_id = r.chat_id AND a.released_at IS NULL AND a.assigned_at < r.at
              AND a.operator_id <> r.operator_id)
"""


def _count_releases(stage: Stage, which: str = "true") -> int:
    """Releases so far, by the history."""
    return stage.platform.value(
        f"SELECT count(*) FROM chaos.release AS r WHERE outcome <> 'escalated' AND {which}"
    )


def _is_enough(
    stage: Stage, fleet: Fleet, people: list[Person], releases: int, not_before: float
) -> bool:
    """Whether it lasted long enough and everything happened, or somebody has a defect."""
    if any(person.failure is not None for person in people):
        return True
    return (
        time.monotonic() >= not_before
        and all(stage.tally[name] for name in NEEDED)
        and _count_releases(stage) >= releases
        and fleet.decisions().keys() >= set(HOLDS)
    )


def _wait(condition: Callable[[], bool], most_s: float) -> None:
    """Wait for something to come true, but not for ever."""
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline and not condition():
        time.sleep(0.2)


def _calm_down(stage: Stage, fleet: Fleet) -> tuple[int, list[UUID]]:
    """I10: end the chaos, and let every chat be released that is stuck then.

    Returns how many there were, and those that are left.
    """
    platform = stage.platform
    fleet.configure(LOOSE, CLOSINGS[0])
    fleet.wait_until_all_serve()
    fleet.reload()
    fleet.cut("")
    with platform.connect() as on:
        keepers = [builders.make_assigned_chat(platform) for _ in range(_KEEPERS)]
        found = "SELECT id, assigned_operator_id FROM chats WHERE id = ANY(%s)"
        staff = dict(on.execute(found, [keepers]).fetchall())
        due = [row[0] for row in on.execute(_HELPABLE, {"stuck_s": STUCK_S}).fetchall()]
        due += [
            builders.make_assigned_chat(platform, age_s=STUCK_S, heartbeat_s=STUCK_S)
            for _ in range(_FRESH)
        ]
        for chat in due:
            mark(on, "due", chat)

        left = list(due)

        def are_released() -> bool:
            for chat, operator in staff.items():
                application.beat(on, chat, operator)
            still = "SELECT id FROM chats WHERE id = ANY(%s) AND chat_state = 'assigned'"
            left[:] = [row[0] for row in on.execute(still, [due]).fetchall()]
            return not left

        _wait(are_released, DUE_S)
    return len(due), left
