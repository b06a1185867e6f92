"""The demo as a whole: embedded PostgreSQL, the platform alive on it, and the daemon.

Everything lies in temporary folders and ends with the process.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self

import click
import psycopg
import yaml

from exporter.daemon import Daemon
from exporter.database.session import Session
from exporter.demo.history import compute_minutes
from exporter.demo.machine import find_free_port
from exporter.demo.platform import install_platform
from exporter.demo.postgres import LocalServer, LocalServerError, embedded_bin_dir
from exporter.demo.scenarios import SCENARIOS
from exporter.demo.simulation import Simulation
from exporter.demo.stack import Stack, find_programs, run_stack
from exporter.release import admin
from exporter.release.grants import READER, RELEASER, build_grants
from exporter.service import serve

HOST, PORT = "127.0.0.1", 10847
DATABASE = "demo"
HISTORY_HOURS = 2.0
# A newcomer looks for minutes, not hours: the demo polls more often than an installation.
_INTERVALS = {
    "5s": ("state_clock", "customer_wait", "operators", "operator_load", "idle_detector"),
    "15s": ("state_summary", "queue_status", "stuck_chats", "reply_clock"),
}
# A newcomer waits a minute, not a quarter of an hour; the server is as young as the demo; and three
# stuck chats among ten are the scenario here, not the outage that the breaker would assume.
_RELEASE = {
    "stuck_after": "2m",
    "confirm": {"polls": 3, "for": "25s"},
    "on_would_close": "requeue",
    "breaker": {"at_least": 6},
    "sensor": {"after_restart": "0s"},
}


def run_demo(
    *,
    scenario: str,
    seed: int,
    listen_addresses: Sequence[str],
    release_mode: str = "off",
    full: bool = False,
) -> None:
    """Run until SIGTERM or Ctrl-C, and leave nothing behind.

    Args:
        scenario: Name of the trouble to play.
        seed: Of every decision of the simulated people.
        listen_addresses: Where to serve; none for port 10847 or a free one, on loopback.
        release_mode: off, observe or enforce.
        full: Whether to run Prometheus and Alertmanager beside it.

    Raises:
        ChatqueueError: The embedded PostgreSQL, Prometheus or Alertmanager is missing or does not
            start, or the address is taken.
    """
    programs = find_programs() if full else None
    started = time.monotonic()
    click.echo("Starting PostgreSQL and a chat platform on it …")
    with (
        _Ending() as ending,
        LocalServer(embedded_bin_dir()) as server,
        ending.allowed(),
        tempfile.TemporaryDirectory(prefix="chatqueue-demo-") as folder,
        _living_platform(server, scenario, seed) as lived,
        contextlib.ExitStack() as beside,
    ):
        config_file = _write_config(Path(folder), server, release_mode)

        def announce(bound: Sequence[str]) -> None:
            stack = None
            if programs:
                stack = beside.enter_context(run_stack(programs, Path(folder), bound[:1]))
            _announce(scenario, bound[0], config_file, server, time.monotonic() - started, stack)
            _announce_releases(release_mode, config_file)

        daemon = Daemon(config_file)
        daemon.history.fill(DATABASE, lived)
        serve(
            daemon,
            listen_addresses or [_free_address()],
            enable_lifecycle=True,
            # A closed terminal ends the demo, unless it runs under nohup.
            reload_on_hangup=signal.getsignal(signal.SIGHUP) is signal.SIG_IGN,
            on_ready=announce,
        )
        ending.forbid()
    click.echo("The demo has ended; nothing is left behind.")


class _Ended(BaseException):
    """The demo is to end; raised by a signal."""


class _Ending:
    """Makes SIGTERM, SIGINT and SIGHUP unwind the demo, but only where that leaves nothing behind.

    A server that is being created is finished first (initdb's children would go on writing into a
    folder that is being removed), and a second Ctrl-C does not interrupt the clean-up.

    Attributes:
        wanted: Whether a signal came.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._is_allowed = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Under nohup SIGHUP is ignored, and stays so.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        # Ctrl-C reaches initdb as well, which then fails.
        return self.wanted and kind is not None and issubclass(kind, (_Ended, LocalServerError))

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Let a signal, or one that came before, raise in this block."""
        self._is_allowed = True
        if self.wanted:
            raise _Ended
        try:
            yield
        finally:
            self.forbid()

    def forbid(self) -> None:
        """Let signals have no effect from now on."""
        self._is_allowed = False

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        is_first, self.wanted = not self.wanted, True
        if is_first and self._is_allowed:
            raise _Ended


@contextlib.contextmanager
def _living_platform(
    server: LocalServer, scenario: str, seed: int
) -> Iterator[list[dict[str, float]]]:
    """The platform with two hours of history, its people going on in a thread; yields the hours'
    values, minute by minute.
    """

    def switch(on: bool) -> None:
        if on:
            server.start()
        else:
            server.stop()

    install_platform(server.dsn())
    with Session(server.dsn()) as session:
        admin.install(session)
    with psycopg.connect(server.dsn(), autocommit=True) as owner:
        owner.execute(build_grants().encode())
    simulation = Simulation(server.dsn(), seed=seed, scenario=scenario, database_switch=switch)
    rows = simulation.seed_history(HISTORY_HOURS)
    lived = compute_minutes(rows, simulation.world.now, int(HISTORY_HOURS * 60))
    stop = threading.Event()
    thread = threading.Thread(target=simulation.run, args=(stop,), name="simulation", daemon=True)
    thread.start()
    try:
        yield lived
    finally:
        stop.set()
        thread.join(5)


def _write_config(folder: Path, server: LocalServer, release_mode: str) -> Path:
    """The daemon's configuration, as an ops team would write it."""
    overrides = {
        name: {"interval": interval} for interval, names in _INTERVALS.items() for name in names
    }
    database = {"dsn": server.dsn(user=READER), "release_dsn": server.dsn(user=RELEASER)}
    config = {
        "databases": {DATABASE: database},
        "queries": {"overrides": overrides},
        "release": {"mode": release_mode, **_RELEASE},
    }
    file = folder / "chatqueue.yaml"
    file.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return file


def _free_address() -> str:
    """The usual port, or a free one where that is taken."""
    try:
        socket.create_server((HOST, PORT)).close()
    except OSError:
        return f"{HOST}:{find_free_port()}"
    return f"{HOST}:{PORT}"


def _announce(
    scenario: str,
    address: str,
    config_file: Path,
    server: LocalServer,
    ready_s: float,
    stack: Stack | None,
) -> None:
    """Print the addresses to open."""
    story = SCENARIOS[scenario]
    click.echo(
        f"""
The demo is alive after {ready_s:.1f} s. Open:

  http://{address}/          the live page: is all well, what is wrong, what to do
  http://{address}/metrics   the metrics, for Prometheus
{_describe(stack) if stack else ""}
Scenario "{scenario}": {story.summary}
Look at: {story.look_at}

In another terminal:

  {_command()} status --config.file {config_file}
  psql '{server.dsn()}'

Ctrl-C ends the demo and leaves nothing behind.
"""
    )


def _describe(stack: Stack) -> str:
    """Where to see the scenario's alerts fire, be inhibited and resolve."""
    return f"""\
  {stack.prometheus_url}/alerts      which alerts are pending or firing; most need a minute or two
  {stack.alertmanager_url}/#/alerts    what is delivered; tick "Inhibited" for what is not
"""


def _announce_releases(mode: str, config_file: Path) -> None:
    """Print where releases can be seen, if there are to be any."""
    if mode == "off":
        return
    command, decision = _command(), "released" if mode == "enforce" else "would_release"
    click.echo(
        f"""Auto-release is in mode {mode}: about a minute from now the first stuck chat is due.

  chatqueue_release_decisions_total{{decision="{decision}"}}   on the page
  {command} audit --config.file {config_file}
  {command} pause --for 10m --reason 'looking around' --config.file {config_file}
"""
    )


def _command() -> str:
    """How this program was called, for calling it again."""
    called = Path(sys.argv[0])
    return f"{sys.executable} -m exporter" if called.name == "__main__.py" else str(called)
