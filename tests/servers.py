"""Real servers for the tests: which PostgreSQL there are, one platform database a test, PgBouncer.

The fixtures in `conftest.py` hand these out. A missing tool fails where CI is set and skips,
saying what to install, elsewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import psutil
import psycopg
import pytest
from psycopg import sql

from exporter.demo.machine import find_free_port
from exporter.demo.platform import add_old_chats, install_platform
from exporter.demo.postgres import DemoNotInstalledError, LocalServer, embedded_bin_dir

TEMPLATE = "platform_template"
_DEBIAN_ROOT = Path("/usr/lib/postgresql")
_database_numbers = itertools.count(1)


def require_tool(name: str, package: str) -> Path:
    """Return the path of a program; where it is missing, fail in CI and skip elsewhere.

    Args:
        name: Program name, looked up on PATH and in /usr/sbin, or an absolute path.
        package: What to install to get it, for the message.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
    found = shutil.which(name, path=path)
    if found is None:
        missing(name, package)
    return Path(found)


def missing(name: str, package: str) -> NoReturn:
    """Fail in CI, skip elsewhere, because `name` is not there."""
    message = f"{name} is missing, install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def find_bin_dir(server_id: str) -> Path:
    """Return the `bin` directory for `pg15` (Debian's) or `pg18` (the embedded wheel)."""
    if server_id == "pg18":
        try:
            return embedded_bin_dir()
        except DemoNotInstalledError as error:
            missing("the embedded PostgreSQL", f"the demo extra ({error})")
    if given := os.environ.get("CHATQUEUE_OLDER_POSTGRES"):  # `make matrix`
        return Path(given)
    version = server_id.removeprefix("pg")
    postgres = _DEBIAN_ROOT / version / "bin" / "postgres"
    return require_tool(str(postgres), f"postgresql-{version}").parent


@contextlib.contextmanager
def run_server(server_id: str, **settings: str) -> Iterator[LocalServer]:
    """Run a server with the platform's template database in it."""
    parent = memory_directory()
    with LocalServer(find_bin_dir(server_id), settings=settings, parent=parent) as server:
        create_template(server)
        yield server


def memory_directory() -> Path | None:
    """Return a file system in memory with room for servers; None where there is none."""
    directory = Path("/dev/shm")
    with contextlib.suppress(OSError):
        if shutil.disk_usage(directory).free > 4 << 30 and os.access(directory, os.W_OK):
            return directory
    return None


def crash(server: LocalServer) -> None:
    """Kill the postmaster and every backend with SIGKILL, as a failing machine would."""
    assert server.pid is not None
    postmaster = psutil.Process(server.pid)
    backends = postmaster.children()
    for process in (postmaster, *backends):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    server.stop()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(map(_holds_memory, backends)):
        time.sleep(0.005)


def _holds_memory(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def create_template(server: LocalServer) -> None:
    """Create the database that `clone_platform` clones."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    install_platform(server.dsn(TEMPLATE))


@dataclass(eq=False)
class Platform:
    """One test's own database with the platform installed and no chat in it.

    Attributes:
        server: The server it is on; other tests share it, so do not stop it.
        database: Name of the database.
    """

    server: LocalServer
    database: str
    _connection: psycopg.Connection[Any] | None = field(default=None, repr=False)

    @property
    def dsn(self) -> str:
        """Connection string of the superuser, who bypasses row-level security."""
        return self.server.dsn(self.database)

    def dsn_as(self, user: str) -> str:
        """Connection string of another role; see `builders.make_role`."""
        return self.server.dsn(self.database, user)

    def connect(self, user: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        """Open a new autocommit connection; close it, e.g. by `with`."""
        return psycopg.connect(
            self.server.dsn(self.database, user), **{"autocommit": True, **options}
        )

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """One shared autocommit connection, reopened where it broke."""
        if self._connection is not None and self._connection.broken:
            self.close()
        if self._connection is None or self._connection.closed:
            self._connection = self.connect()
        return self._connection

    def execute(self, statement: str, params: Any = None) -> int:
        """Run one statement that commits at once; returns how many rows it touched."""
        return self.connection.execute(statement, params).rowcount

    def fetch(self, query: str, params: Any = None) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self.connection.execute(query, params).fetchall()

    def value(self, query: str, params: Any = None) -> Any:
        """Return the one value of a query that gives one row and one column."""
        ((value,),) = self.fetch(query, params)
        return value

    def close(self) -> None:
        """Close the shared connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def clone_platform(server: LocalServer) -> Iterator[Platform]:
    """Create a platform database of the template and drop it afterwards, with its sessions."""
    name = f"platform_{os.getpid()}_{next(_database_numbers)}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        # Copying files takes half the time of the default, which goes through the WAL. Version 14
        # knows no other way.
        strategy = sql.SQL("STRATEGY file_copy" if server.version_num >= 150_000 else "")
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} {}").format(
                sql.Identifier(name), sql.Identifier(TEMPLATE), strategy
            )
        )
    platform = Platform(server, name)
    try:
        yield platform
    finally:
        platform.close()
        if server.running:
            _drop_platform(server, name)


@contextlib.contextmanager
def old_platform(server: LocalServer, chats: int = 0) -> Iterator[Platform]:
    """Create a platform database from before the fix, with chats in it, and drop it afterwards."""
    name = f"platform_{os.getpid()}_{next(_database_numbers)}"
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    platform = Platform(server, name)
    try:
        install_platform(platform.dsn, is_fixed=False)
        if chats:
            add_old_chats(platform.dsn, chats)
        yield platform
    finally:
        platform.close()
        if server.running:
            _drop_platform(server, name)


def _drop_platform(server: LocalServer, name: str) -> None:
    """Drop a platform database with its sessions and the roles that are named after it."""
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute(drop)
        for (role,) in admin.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE %s", (f"{name}\\_%",)
        ).fetchall():
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@dataclass(frozen=True)
class PgBouncer:
    """A running PgBouncer in transaction mode in front of one server.

    Attributes:
        port: Where it listens on 127.0.0.1.
    """

    port: int

    def dsn(self, database: str, user: str = "postgres") -> str:
        """Connection string of a database through the pooler."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def run_pgbouncer(server: LocalServer, extra: Sequence[str] = ()) -> Iterator[PgBouncer]:
    """Run PgBouncer in transaction mode in front of a server; `extra` are lines of its ini."""
    program = require_tool("pgbouncer", "pgbouncer")
    port = find_free_port()
    with tempfile.TemporaryDirectory(prefix="chatqueue-pgbouncer-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        ini = directory / "pgbouncer.ini"
        ini.write_text(
            "\n".join(
                (
                    "[databases]",
                    # `auth_type = any` takes any client for granted and needs the role named here.
                    f"* = host=127.0.0.1 port={server.port} user=postgres",
                    "[pgbouncer]",
                    "listen_addr = 127.0.0.1",
                    f"listen_port = {port}",
                    "unix_socket_dir =",
                    "auth_type = any",
                    "pool_mode = transaction",
                    "max_client_conn = 200",
                    "default_pool_size = 10",
                    "server_idle_timeout = 5",
                    *extra,
                    "",
                )
            )
        )
        with (directory / "log").open("wb") as log:
            account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
            process = subprocess.Popen(
                [program, ini],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=() if account else None,
            )
        try:
            _wait_for_port(process, port, directory / "log")
            yield PgBouncer(port)
        finally:
            process.terminate()
            process.wait(10)


@dataclass(frozen=True)
class Disk:
    """A file system of a few megabytes.

    Attributes:
        directory: A folder on it that belongs to the server.
    """

    directory: Path

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.directory.parent / "ballast").open("wb", buffering=0) as ballast:
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(1 << 12))
            assert shutil.disk_usage(self.directory).free < 1 << 12

    def empty(self) -> None:
        """Give the room back."""
        (self.directory.parent / "ballast").unlink(missing_ok=True)


@contextlib.contextmanager
def mount_disk(server: LocalServer) -> Iterator[Disk]:
    """Mount a small file system that a server may use; skip where the kernel refuses it."""
    mount = require_tool("mount", "mount")
    owner = server.data_dir.stat()
    with tempfile.TemporaryDirectory(prefix="chatqueue-disk-") as name:
        top = Path(name)
        top.chmod(0o755)
        options = ["-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs"]
        done = subprocess.run([mount, *options, top], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        try:
            directory = top / "space"
            directory.mkdir()
            os.chown(directory, owner.st_uid, owner.st_gid)
            yield Disk(directory)
        finally:
            subprocess.run([require_tool("umount", "mount"), "-l", top], check=True)


def _wait_for_port(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once something listens; fail with the log where the process has ended."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    pytest.fail(f"pgbouncer does not listen:\n{log.read_text(errors='replace')}", pytrace=False)
