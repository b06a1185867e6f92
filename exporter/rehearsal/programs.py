"""PostgreSQL's own programs on this machine: which there are, and running them.

One that is started here ends with this process, even if that is killed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.database.programs import split_password
from exporter.demo.machine import end_guarded, start_guarded
from exporter.demo.postgres import DemoNotInstalledError, embedded_bin_dir
from exporter.errors import ChatqueueError

_PROGRAMS = ("postgres", "initdb", "psql", "pg_dump", "pg_restore")
_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
_TAIL_LINES = 5


class ProgramFailed(ChatqueueError):
    """A program is missing, or ended with an error; the message ends with its words."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One PostgreSQL with server and client programs.

    Attributes:
        version: Its major version.
        bin_dir: Where the programs are.
    """

    version: int
    bin_dir: Path


def find_installations() -> tuple[Installation, ...]:
    """Return every PostgreSQL of this machine, the embedded one of the extra `demo` among them.

    Raises:
        ProgramFailed: There is none.
    """
    folders = [path for pattern in _FOLDERS for path in sorted(Path("/").glob(pattern[1:]))]
    try:
        folders.append(embedded_bin_dir())
    except DemoNotInstalledError as error:
        if not folders:
            raise ProgramFailed(str(error)) from error
    installations = tuple(
        Installation(_read_version(folder), folder)
        for folder in folders
        if all((folder / program).exists() for program in _PROGRAMS)
    )
    if not installations:
        raise ProgramFailed(
            "no PostgreSQL is complete here: pip install 'chatqueue-exporter[demo]'"
        )
    return installations


def choose_server(installations: Iterable[Installation], version: int) -> Installation:
    """Return the version itself, else the next later one, else the latest."""
    by_version = sorted(installations, key=lambda one: one.version)
    return next((one for one in by_version if one.version >= version), by_version[-1])


def choose_tools(installations: Iterable[Installation]) -> Installation:
    """Return the latest: it reads what every earlier one wrote, and never the other way round."""
    return max(installations, key=lambda one: one.version)


def run_program(
    program: Path, *arguments: str, dsn: str, folder: Path, name: str = ""
) -> Sequence[str]:
    """Run a client program to its end; return the lines of its error output.

    Args:
        program: Which.
        arguments: Before the connection string.
        dsn: Given as `--dbname`, its password in the environment.
        folder: For its output.
        name: Of the log in that folder; by default the program's.

    Raises:
        ProgramFailed: It ended with an error.
    """
    log = folder / f"{name or program.name}.log"
    shown, secret = split_password(dsn)
    command = [str(program), *arguments, f"--dbname={shown}"]
    with log.open("wb") as output:
        process = start_guarded(command, output, "", cwd=folder, env=environment(secret))
    try:
        status = process.wait()
    finally:
        end_guarded(process, signal.SIGTERM, 5)
    lines = read_log(log)
    if status:
        raise ProgramFailed(f"{program.name} failed: {' '.join(lines[-_TAIL_LINES:])}")
    return lines


def environment(secret: Mapping[str, str]) -> Mapping[str, str]:
    """Return a plain environment for a client program."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **secret}


def read_log(log: Path) -> list[str]:
    """Return the lines of a program's output."""
    return log.read_text(encoding="utf-8", errors="replace").splitlines()


def _read_version(folder: Path) -> int:
    text = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=False
    ).stdout
    match = re.search(r"\) (\d+)", text)
    return int(match[1]) if match else 0
