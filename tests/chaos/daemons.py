"""The daemons of a run: real processes, killed and started again, on a wire that can be cut."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from exporter.config import load_config
from exporter.release.facts import Limits
from exporter.release.grants import READER, build_grants
from exporter.release.plans import build_limits
from tests.chaos.judge import DAEMONS, OBSERVER
from tests.chaos.tally import Tally
from tests.postgres.test_cli_helpers import Command, assert_tidy
from tests.proxy import Proxy
from tests.servers import Platform
from tests.watch import BUILT_IN

COUNT = 4
WIRED = 1  # on the wire that can be cut; the others go straight to the server
CUTS = ("before COMMIT", "within COMMIT", "after COMMIT")
RULES: Mapping[str, Any] = {
    "stuck_after": "1m",
    "confirm": {"polls": 2, "for": "900ms"},
    "per_cycle": 3,
    "rate": {"per_hour": 1000, "burst": 10},
    "cooldown": "15s",
    "per_chat": {"releases": 2, "window": "1m"},
    "sensor": {"silence": "10s", "after_restart": "0s"},
}
LOOSE, STRICT = 0.95, 0.25
CLOSINGS = ("escalate", "requeue")


class CuttingProxy(Proxy):
    """A wire that breaks in COMMIT, when told to."""

    def __init__(self, target_port: int, tally: Tally) -> None:
        super().__init__(target_port)
        self._tally = tally
        self._wanted = ""

    def cut_next(self, how: str) -> None:
        """Break the next connection that commits, in one of the ways of `CUTS`."""
        self._wanted = how

    def _pass_on(self, end: socket.socket, other: socket.socket, data: bytes) -> None:
        wanted = self._wanted
        is_client = end.getsockname()[1] == self.port
        is_due = is_client == (wanted != "after COMMIT") and b"COMMIT\0" in data
        if not wanted or not is_due:
            super()._pass_on(end, other, data)
            return
        self._wanted = ""
        self._tally.add(f"cut {wanted}")
        if wanted == "within COMMIT":
            other.sendall(data[: len(data) // 2])
        self._cut(end)


class Fleet:
    """Every daemon of a run; as a context manager it starts and ends them.

    Attributes:
        limits: Every configuration there can be, by its hash.
    """

    def __init__(self, platform: Platform, tally: Tally, folder: Path) -> None:
        self._platform, self._tally, self._folder = platform, tally, folder
        self._proxy = CuttingProxy(platform.server.port, tally)
        self._lock = threading.Lock()
        self._running: dict[str, Command] = {}
        self._ended: list[str] = []
        self._names = [*(f"{DAEMONS}{number}" for number in range(COUNT)), OBSERVER]
        for name in self._names:
            platform.connection.execute(build_grants(releaser=name).encode())
        self.limits: dict[str, Limits] = {}
        for closing in CLOSINGS:
            for share in (STRICT, LOOSE):
                self.configure(share, closing)
                limits = build_limits(load_config(self._file(self._names[0]), os.environ))
                self.limits[limits.config_hash] = limits
        self.configure(LOOSE, CLOSINGS[0])

    def __enter__(self) -> Fleet:
        self._proxy.__enter__()
        try:
            for name in self._names:
                self._start(name)
            self.wait_until_all_serve()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *trouble: Any) -> None:
        for command in self._running.values():
            command.process.kill() if trouble[0] else command.process.terminate()
        for command in self._running.values():
            command.process.wait(30)
            self._ended.append(command.stderr)
        codes = [command.process.returncode for command in self._running.values()]
        self._running.clear()
        self._proxy.__exit__(*trouble)
        assert trouble[0] or codes == [0] * len(codes), codes

    def configure(self, share: float, closing: str) -> None:
        """Write every daemon's configuration, for its next start or reload."""
        overrides = {name: {"enabled": False} for name in BUILT_IN if name != "state_clock"}
        for name in self._names:
            wire = self._platform.dsn_as(name)
            if name in self._names[:WIRED]:
                wire = wire.replace(f":{self._platform.server.port}/", f":{self._proxy.port}/")
            mode, interval = ("observe", "3s") if name == OBSERVER else ("enforce", "1s")
            rules = {"breaker": {"share": share, "hold": "1s"}, "on_would_close": closing}
            config = {
                "databases": {"main": {"dsn": self._platform.dsn_as(READER), "release_dsn": wire}},
                "poll": {"interval": interval, "timeout": "1s", "connect_timeout": "2s"},
                "queries": {"overrides": {**overrides, "state_clock": {"interval": "1m"}}},
                "release": {**RULES, **rules, "mode": mode},
            }
            file = self._file(name)
            file.with_suffix(".new").write_text(yaml.safe_dump(config))
            file.with_suffix(".new").replace(file)  # a daemon that starts now reads all or nothing

    def reload(self) -> None:
        """Send SIGHUP to every daemon."""
        with self._lock:
            for command in self._running.values():
                # Before it serves, a daemon dies of SIGHUP as any process does.
                if "serving" in command.stderr:
                    command.process.send_signal(signal.SIGHUP)
                    self._tally.add("reload")

    def kill(self, rng: random.Random) -> None:
        """Kill one daemon outright and start it again."""
        name = rng.choice(self._names)
        with self._lock:
            command = self._running[name]
            command.process.kill()
            command.process.wait()
            self._tally.add("kill -9")
            self._ended.append(command.stderr)
            self._start(name)

    def cut(self, how: str) -> None:
        """Break the next connection of a daemon that commits."""
        self._proxy.cut_next(how)

    def wait_until_all_serve(self) -> None:
        """Wait until every daemon is there."""
        for command in self._running.values():
            command.wait_for_log("serving", 60)

    def decisions(self) -> Counter[str]:
        """What the daemons said they decided; for the report, never for the judge."""
        counts: Counter[str] = Counter()
        for event in self._events():
            if event["event"] == "release decided":
                counts[event["decision"]] += 1
            elif event["event"] == "chat needs a human":
                counts["escalated"] += 1
        return counts

    def faults(self) -> list[str]:
        """Defects that a daemon met in itself or in a release."""
        return [
            json.dumps(event)
            for event in self._events()
            if event.get("decision") == "defect" or event["event"] == "releaser failed"
        ]

    def said_of(self, chat: object) -> list[str]:
        """The last that daemons said of a chat."""
        said = [
            f"{event['ts']} {event['decision']}: {event['reason']}"
            for event in self._events()
            if event.get("chat") == str(chat) and "decision" in event
        ]
        return sorted(said)[-4:]

    def _events(self) -> Iterator[Mapping[str, Any]]:
        """Every line that any daemon logged; a killed one may have left half a line."""
        with self._lock:
            logs = [*self._ended, *(command.stderr for command in self._running.values())]
        for logged in logs:
            assert_tidy(logged)
            for line in logged.splitlines(keepends=True):
                if line.endswith("}\n"):
                    yield json.loads(line)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.yaml"

    def _start(self, name: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder))
        fixed = ("--config.file", str(self._file(name)), "--web.listen-address", "127.0.0.1:0")
        self._running[name] = Command("run", *fixed, "--log.format", "json", folder=folder)
