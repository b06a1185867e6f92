"""The daemon under a service manager: what it says, the port it is handed, and the units."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.postgres.test_cli_helpers import Command
from tests.servers import Platform, require_tool
from tests.unit.test_manager import Listener
from tests.watch import write_config

on_the_newest = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)
UNITS = Path(__file__).parents[2] / "deploy" / "systemd"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(str(tmp_path / "notify"))
    yield listener
    listener.close()


class Heard:
    """All messages so far."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.messages: list[str] = []

    def has(self, *messages: str) -> bool:
        self.messages += self._listener.heard()
        return all(message in self.messages for message in messages)


@on_the_newest
def test_ready_reloading_and_stopping_are_told(
    platform: Platform, tmp_path: Path, listener: Listener
) -> None:
    config = write_config(tmp_path, {"main": platform.dsn, "gone": "host=127.0.0.1 port=1"})
    heard = Heard(listener)
    daemon = Command(
        *("run", "--config.file", str(config), "--web.listen-address", "127.0.0.1:0"),
        folder=tmp_path,
        env={**listener.environ, "WATCHDOG_USEC": "600000"},
    )
    try:
        daemon.wait_until(
            lambda: heard.has("READY=1", "STATUS=1 of 2 databases answer", "WATCHDOG=1")
        )
        config.write_text("databases: {}\n")
        daemon.process.send_signal(signal.SIGHUP)
        refused = "STATUS=1 of 2 databases answer; the configuration was refused"
        daemon.wait_until(lambda: heard.has(refused))
        assert sum(message == "READY=1" for message in heard.messages) == 2
        assert any(message.startswith("RELOADING=1\n") for message in heard.messages)
    finally:
        daemon.end()
    assert heard.has("STOPPING=1")
    assert daemon.process.returncode == 0


@on_the_newest
def test_it_serves_on_the_socket_that_it_is_handed(platform: Platform, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"main": platform.dsn})
    with socket.create_server(("127.0.0.1", 0)) as port:
        address = "{}:{}".format(*port.getsockname())
        run = (
            f"exec 3<&{port.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$;"
            f" exec {sys.executable} -m exporter run --config.file {config} --web.systemd-socket"
        )
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", run], pass_fds=[port.fileno()], stdout=log, stderr=log
            )
        try:
            # The port is open before the daemon is: the request waits for it.
            started = time.monotonic()
            while requests.get(f"http://{address}/-/ready", timeout=20).status_code != 200:
                assert time.monotonic() - started < 20, (tmp_path / "log").read_text()
                time.sleep(0.05)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


@on_the_newest
def test_without_a_socket_it_says_what_is_missing(platform: Platform, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"main": platform.dsn})
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "run", "--config.file", config, "--web.systemd-socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no socket was handed over by systemd" in done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the units, and a program where they expect it."""
    require_tool("systemd-analyze", "systemd")
    root = tmp_path_factory.mktemp("root")
    units = root / "etc/systemd/system"
    units.mkdir(parents=True)
    for unit in UNITS.glob("chatqueue-exporter.*"):
        shutil.copy(unit, units)
    for target in ("sysinit", "basic", "shutdown", "network-online", "multi-user", "sockets"):
        (units / f"{target}.target").write_text("[Unit]\n")
    program = root / "opt/chatqueue/bin/chatqueue"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (root / "bin").mkdir()
    shutil.copy("/bin/true", root / "bin/kill")
    return root


@pytest.mark.parametrize("unit", ["chatqueue-exporter.service", "chatqueue-exporter.socket"])
def test_a_unit_is_clean(root: Path, unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", f"--root={root}", "verify", unit],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "notice"},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_may_do_next_to_nothing(root: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", "--no-pager",
         UNITS / "chatqueue-exporter.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
