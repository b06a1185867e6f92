"""Lives through a story with the daemon's own code, and writes down each minute's page."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from exporter.config import Config
from exporter.database.session import Session
from exporter.demo.platform import install_platform
from exporter.demo.postgres import LocalServer, embedded_bin_dir
from exporter.demo.simulation import Simulation
from exporter.demo.world.live import PlatformDown
from exporter.logs.watch import LogWatch
from exporter.metrics.exposition import Exposition, Source, own_families
from exporter.polling.plan import build_plans
from exporter.polling.worker import Worker
from exporter.release import admin
from exporter.release.plans import ReleasePlan, build_release_plans
from exporter.release.releaser import Releaser
from tools.preview.clock import Clock
from tools.preview.story import (
    DAY_S,
    DAYS,
    HOUR_S,
    START_S,
    WATCH_BEGINS_S,
    Day,
    episodes_at,
    rhythm_at,
)

# A compromise: a day is recorded in a minute or two, and five minutes are the longest gap that
# Prometheus bridges.
STEP_S = 240
# Blocks of Prometheus are two hours long, from even hours on.
BLOCK_S = 2 * HOUR_S
TARGET = 'job="chatqueue",instance="chatqueue.example.com:10847"'
_HISTORY_H = 0.1
_SETTINGS = {
    "poll": {"interval": f"{STEP_S}s"},
    "thresholds": {"data_age": "10m"},
    "release": {"mode": "enforce", "breaker": {"at_least": 20}},
}


def record(folder: Path, days: tuple[Day, ...] = DAYS) -> list[Path]:
    """Return the recorded samples as OpenMetrics files, one a block of Prometheus.

    Args:
        folder: An empty folder, readable by everybody.
        days: To live through, one after the other.

    Raises:
        ChatqueueError: libfaketime or the embedded PostgreSQL is missing or does not work.
    """
    clock = Clock(folder, embedded_bin_dir())
    clock.set(START_S)
    with LocalServer(clock.bin_dir) as server:
        install_platform(server.dsn())
        with Session(server.dsn()) as session:
            admin.install(session)
        return list(_Recorder(folder, server, clock).live(days))


class _Recorder:
    """The simulated people and the daemon's parts, all on one clock."""

    def __init__(self, folder: Path, server: LocalServer, clock: Clock) -> None:
        self._folder, self._server, self._clock = folder, server, clock
        self._simulation = Simulation(server.dsn(), seed=3, operators=4)
        self._simulation.seed_history(_HISTORY_H)
        databases = {"main": {"dsn": server.dsn()}}
        self._log = folder / "platform.log"
        self._log.touch()
        logs = {"files": {"platform": str(self._log)}}
        config = Config.model_validate({"databases": databases, "logs": logs, **_SETTINGS})
        plan = build_plans(config)["main"]
        self._release_plan = build_release_plans(config)["main"]
        self._worker = Worker(plan, lambda: None, monotonic=self._now_s, wall=self._now_s)
        self._logs = LogWatch(config.logs, lambda: None, self._now_s)
        self._releaser = Releaser(self._with_mode("off"), daemon="preview")
        self._exposition = Exposition(self._source, self._now_s)
        self._watch_began_s = START_S

    def live(self, days: tuple[Day, ...]) -> Iterator[Path]:
        """Live minute by minute; return a file whenever a block is full."""
        # What reads the clock by `time.time` reads the server's.
        real, time.time = time.time, self._now_s
        lines: list[str] = []
        self._logs.start()
        try:
            for number, day in enumerate(days):
                for minute in range(int(DAY_S / STEP_S)):
                    now_s = START_S + number * DAY_S + minute * STEP_S
                    if lines and now_s % BLOCK_S == 0:
                        yield self._write(lines, now_s)
                    if minute * STEP_S == WATCH_BEGINS_S:
                        self._watch_began_s = now_s
                    lines += self._live_until(now_s, day, minute * STEP_S / HOUR_S)
            yield self._write(lines, now_s + STEP_S)
        finally:
            time.time = real
            self._logs.stop(5)
            self._simulation.close()
            self._worker._connection.close()

    def _write(self, lines: list[str], until_s: float) -> Path:
        file = self._folder / f"{int(until_s)}.om"
        file.write_text("".join(lines) + "# EOF\n")
        lines.clear()
        return file

    def _live_until(self, now_s: float, day: Day, hour: float) -> list[str]:
        """Let a minute pass, poll, and return the page as timestamped samples."""
        world = self._simulation.world
        world.rhythm = rhythm_at(day, hour)
        self._turn(day, hour)
        origin_s = START_S - _HISTORY_H * HOUR_S
        while world.next_at <= now_s - origin_s:
            # Two events of one second would look simultaneous, which people's never are.
            self._clock.set(max(origin_s + world.next_at, self._clock.now_s + 1))
            try:
                world.step()
            except PlatformDown:
                break
        self._clock.set(max(now_s, self._clock.now_s))
        self._write_log()
        self._worker._poll(frozenset(query.name for query in self._worker._plan.queries))
        self._releaser.poll()
        self._exposition.publish()
        page = self._exposition.page("").body.decode()
        up = (
            f"up{{{TARGET}}} 1 {now_s:.0f}\nscrape_duration_seconds{{{TARGET}}} 0.004 {now_s:.0f}\n"
        )
        return [up, *_stamp(page, now_s)]

    def _write_log(self) -> None:
        """Let the platform write a line, and errors while its database is away."""
        is_well = self._server.running
        level, message = ("info", "ok") if is_well else ("error", "assignment failed: no database")
        with self._log.open("a") as stream:
            stream.write(json.dumps({"level": level, "message": message}) + "\n")

    def _turn(self, day: Day, hour: float) -> None:
        """Do what begins or ends at this minute."""
        going_on = tuple(episodes_at(day, hour))
        is_down = any(episode.is_down for episode in going_on)
        if is_down == self._server.running:
            if is_down:
                self._server.stop()
            else:
                self._server.start()
        began = [e for e in going_on if e not in episodes_at(day, hour - STEP_S / HOUR_S)]
        for episode in began:
            self._simulation.world.vanish(episode.vanishing)
            if episode.release is not None:
                self._releaser.apply(self._with_mode(episode.release))

    def _source(self) -> Source:
        """What a page is made of, as in the daemon."""
        own = own_families(
            reload_success=True,
            reload_success_time_s=START_S,
            watch=(
                self._watch_began_s,
                self._watch_began_s + DAY_S,
                self._watch_began_s + 4 * 3600,
            ),
        )
        own = (*own, *self._logs.families())
        releases = ((self._releaser.labels, self._releaser.families),)
        return Source((self._worker.snapshot,), own, releases)

    def _with_mode(self, mode: str) -> ReleasePlan:
        plan = self._release_plan
        return replace(plan, limits=replace(plan.limits, mode=mode))

    def _now_s(self) -> float:
        return float(self._clock.now_s)


def _stamp(page: str, now_s: float) -> Iterator[str]:
    """Each sample of a page with Prometheus's target labels and a timestamp."""
    for line in page.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            labels = f"{name[:-1]},{TARGET}}}" if name.endswith("}") else f"{name}{{{TARGET}}}"
            yield f"{labels} {value} {now_s:.0f}\n"
