"""A preflight from its first line to its last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from exporter.config import Config
from exporter.database.session import Session
from exporter.ops.rollback.definitions import read_place
from exporter.ops.verify.inspection import build_inspections, find_contract
from exporter.preflight.backup import check_backup
from exporter.preflight.danger import check_danger, check_rehearsal, read_rehearsal
from exporter.preflight.lines import Line
from exporter.preflight.now import check_now
from exporter.preflight.pending import SQL, check_migrations, check_objects
from exporter.rehearsal.migrations import find_migrations
from exporter.rehearsal.programs import ProgramFailed, choose_tools, find_installations

PROGRAM = "chatqueue-preflight"


@dataclass(frozen=True, slots=True)
class Request:
    """What to look at.

    Attributes:
        config: The configuration.
        database: Name in it.
        backup: A file or folder; None where there is none.
        max_age: How old that may be.
        migrations: Files, and folders with them.
        reviewed: A file of checksums, or None.
        rehearsal: A file with a rehearsal's JSON, or None.
        max_lock: How long a table of the queue may be locked.
    """

    config: Config
    database: str
    backup: Path | None
    max_age: timedelta
    migrations: tuple[Path, ...]
    reviewed: Path | None
    rehearsal: Path | None
    max_lock: timedelta


def run(request: Request, folder: Path) -> tuple[Line, ...]:
    """Return every line, in order.

    Args:
        request: What to look at.
        folder: For what is unpacked; removed by the caller.

    Raises:
        ChatqueueError: The database does not answer, or a file that was named cannot be read.
    """
    files = find_migrations(request.migrations) if request.migrations else ()
    rehearsal = None if request.rehearsal is None else read_rehearsal(request.rehearsal)
    section = request.config.databases[request.database]
    only = request.config.model_copy(update={"databases": {request.database: section}})
    (inspection,) = build_inspections(only)
    timeout_s = request.config.poll.connect_timeout.total_seconds()
    dsn = section.dsn.get_secret_value()
    with Session(dsn, connect_timeout_s=timeout_s, program=PROGRAM) as session:
        place = read_place(session)
        with session.reading():
            rows = {row["name"]: int(row["rows"]) for row in session.rows(SQL["estimates"])}
        lines = list(_check_backup(request, rows, place.now, place.version_num // 10_000, folder))
        lines.append(check_objects(session, find_contract(inspection)))
        if files:
            pending, told = check_migrations(session, files, request.reviewed)
            lines += [*told, check_rehearsal(rehearsal)]
            lines += check_danger(pending, rows, rehearsal, request.max_lock)
        else:
            todo = "name them: --migrations FOLDER"
            lines.append(Line("pending", "migrations", "unknown", "none were named", todo))
        lines += check_now(session)
    return tuple(lines)


def _check_backup(
    request: Request, rows: dict[str, int], now: datetime, version: int, folder: Path
) -> Iterator[Line]:
    if request.backup is None:
        yield Line("backup", "backup", "unknown", "none was named", "name it: --backup FILE")
        return
    try:
        tools = choose_tools(find_installations())
    except ProgramFailed as error:
        yield Line("backup", "backup", "unknown", str(error), "install PostgreSQL's programs")
        return
    if tools.version < version:
        found = f"the client programs here are of {tools.version}, the server of {version}"
        todo = f"install those of {version} or later, to restore what its pg_dump writes"
        yield Line("backup", "client programs", "no-go", found, todo)
    yield from check_backup(request.backup, rows, now, request.max_age, tools, folder)
