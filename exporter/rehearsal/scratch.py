"""The database that a rehearsal is played in: on a server of its own, or on one that is given."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exporter.database.programs import change_database
from exporter.database.session import Session
from exporter.demo.machine import end_guarded, start_guarded
from exporter.demo.postgres import LocalServer
from exporter.errors import ChatqueueError
from exporter.ops.rollback.definitions import Place, read_place
from exporter.rehearsal.programs import Installation, run_program

PREFIX = "chatqueue_rehearsal_"
_LEFT_OVER = """
    SELECT d.datname::text AS name
    FROM pg_catalog.pg_database AS d
    WHERE
        starts_with(d.datname::text, 'chatqueue_rehearsal_')
        AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_stat_activity AS a WHERE a.datid = d.oid
        )
"""


class ScratchRefused(ChatqueueError):
    """The server that was given must not be used; nothing was written there."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """An empty database, and a folder; both go with the rehearsal.

    Attributes:
        dsn: Of a superuser.
        version: The server's major version.
        folder: For logs and files.
    """

    dsn: str
    version: int
    folder: Path


@contextlib.contextmanager
def own_server(server: Installation, tools: Installation) -> Iterator[Scratch]:
    """Run a server of one's own, which ends and vanishes with this process, even if it is killed.

    Raises:
        LocalServerError: It does not start.
    """
    with LocalServer(server.bin_dir) as local:
        dsn = _create(local.dsn(), tools, local.directory)
        yield Scratch(dsn, local.version_num // 10_000, local.directory)


@contextlib.contextmanager
def given_server(dsn: str, production: Place, tools: Installation) -> Iterator[Scratch]:
    """Use a database of its own on a server that is given, and drop it afterwards.

    A database that an earlier rehearsal left there, because it was killed, is dropped as well.

    Raises:
        ScratchRefused: It is production, or that cannot be ruled out.
        DatabaseError: It cannot be reached.
    """
    with Session(dsn, program="chatqueue-rehearse") as session:
        place = read_place(session)
        if place.system is None or production.system is None:
            raise ScratchRefused(
                "--scratch-dsn: it cannot be ruled out that this is production: its role may not "
                "read the system identifier (pg_control_system)"
            )
        if place.system == production.system:
            raise ScratchRefused(
                f"--scratch-dsn: this is the production server (system identifier {place.system})"
            )
        with session.reading():
            left_over = [row["name"] for row in session.rows(_LEFT_OVER)]
    with _guarded_folder() as folder:
        for name in left_over:
            _execute(dsn, f'DROP DATABASE "{name}"', tools, folder)
        created = _create(dsn, tools, folder)
        try:
            yield Scratch(created, place.version_num // 10_000, folder)
        finally:
            _execute(dsn, f'DROP DATABASE "{_name()}" WITH (FORCE)', tools, folder)


def _name() -> str:
    return f"{PREFIX}{os.getpid()}"


def _create(dsn: str, tools: Installation, folder: Path) -> str:
    _execute(dsn, f'CREATE DATABASE "{_name()}" TEMPLATE template0', tools, folder)
    return change_database(dsn, _name())


def _execute(dsn: str, statement: str, tools: Installation, folder: Path) -> None:
    """Run a statement that no transaction can hold."""
    run_program(
        tools.bin_dir / "psql",
        *("-X", "-q", "--set=ON_ERROR_STOP=1", f"--command={statement}"),
        dsn=dsn,
        folder=folder,
    )


@contextlib.contextmanager
def _guarded_folder() -> Iterator[Path]:
    """A folder that vanishes with this process, even if it is killed."""
    with tempfile.TemporaryDirectory(prefix="chatqueue-rehearsal-") as name:
        folder = Path(name)
        with (folder / "guard.log").open("wb") as log:
            guard = start_guarded(["sleep", "infinity"], log, name, cwd=folder)
        try:
            yield folder
        finally:
            end_guarded(guard, signal.SIGTERM, 5)
