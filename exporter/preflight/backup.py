"""Whether a backup is whole, recent, of this database, and holds what matters.

The file is read once, to its end, as SQL: a custom, directory or tar dump by way of `pg_restore`.
A dump does not hold the server's system identifier; so tables and rows are compared instead.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

from exporter.preflight.lines import Line, Verdict
from exporter.rehearsal.backup import BackupUnreadable, detect_format, open_backup, unpack
from exporter.rehearsal.programs import Installation, environment, read_log
from exporter.text import format_duration, format_time

TABLES = ("chats", "messages", "chat_assignments", "operators", "operator_activity", "real_users")
"""Without these there is no way back."""

_NAME = r'"?public"?\."?(\w+)"?'
_COPY = re.compile(rf"COPY {_NAME} .*FROM stdin;")
_CREATE = re.compile(rf"CREATE TABLE (?:IF NOT EXISTS )?{_NAME}")
_INSERT = re.compile(rf"INSERT INTO {_NAME}")
_IS_DUMP = re.compile(
    r"PostgreSQL database dump|^SET \w+ = |^CREATE |^COPY |^INSERT ", re.MULTILINE
)
# The hosted platform's command line takes pg_dump's comments out.
_END = re.compile(r"-- PostgreSQL database dump complete|^RESET ALL;", re.MULTILINE)
_CREATED = re.compile(r"Archive created at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_TOO_OLD = re.compile(r"unsupported version \(([\d.]+)\)")
_TAIL_LINES = 12
_FEW, _MANY = 0.5, 1.2
_ENOUGH_ROWS = 1000


@dataclass(slots=True)
class Contents:
    """What a backup holds.

    Attributes:
        tables: Of the schema public.
        rows: Table to rows, of those whose rows stand in COPY.
        inserted: Tables whose rows stand in INSERT and are not counted.
        is_dump: Whether it looks like a dump at all.
        is_whole: Whether its end is there.
    """

    tables: set[str] = field(default_factory=set)
    rows: dict[str, int] = field(default_factory=dict)
    inserted: set[str] = field(default_factory=set)
    is_dump: bool = False
    is_whole: bool = False


def check_backup(
    backup: Path,
    rows: Mapping[str, int],
    now: datetime,
    max_age: timedelta,
    tools: Installation,
    folder: Path,
) -> Iterator[Line]:
    """Yield what there is to say of a backup; a fault that hides the rest ends it.

    Args:
        backup: A file, or the folder of a directory dump.
        rows: Production's tables with their estimated rows.
        now: The time.
        max_age: An older one is a no-go.
        tools: With `pg_restore`.
        folder: For logs and an unpacked archive; removed by the caller.
    """
    try:
        is_archive = detect_format(backup) == "archive"
        contents, created_at = (
            _read_archive(unpack(backup, folder), tools, folder)
            if is_archive
            else (_read_sql(backup), None)
        )
    except _ToolTooOld as error:
        todo = "install the client programs of the version that wrote it, or a later one"
        yield Line("backup", "whole", "unknown", str(error), todo)
        return
    except (BackupUnreadable, OSError, EOFError) as error:
        todo = "make a new backup, and look at its exit code"
        found = str(error).removeprefix(f"{backup}: ")
        cut = isinstance(error, EOFError) or "unexpected end" in found
        found = f"it is cut off: {found}" if cut else found
        yield Line("backup", "whole", "no-go", found, todo)
        return
    yield from _judge(contents)
    if contents.is_whole:
        yield _check_age(backup, created_at, now, max_age)
        yield _check_origin(contents, rows)
        yield _check_rows(contents)


def read_statements(lines: Iterable[str]) -> Contents:
    """Return what a dump in SQL holds.

    Args:
        lines: Of all of it.
    """
    contents = Contents()
    head: list[str] = []
    tail: list[str] = []
    table = None
    for line in lines:
        if len(head) < 200:
            head.append(line)
        if table is not None:
            if line.startswith("\\."):
                table = None
            else:
                contents.rows[table] += 1
            continue
        if line.strip():
            tail = [*tail[1 - _TAIL_LINES :], line]
        if match := _COPY.match(line):
            table = match[1]
            contents.rows.setdefault(table, 0)
        elif match := _CREATE.match(line):
            contents.tables.add(match[1])
        elif match := _INSERT.match(line):
            contents.inserted.add(match[1])
    contents.tables |= contents.rows.keys() | contents.inserted
    contents.is_dump = _IS_DUMP.search("".join(head)) is not None
    contents.is_whole = table is None and _END.search("".join(tail)) is not None
    return contents


class _ToolTooOld(Exception):
    """pg_restore does not know the archive's version."""


def _read_sql(backup: Path) -> Contents:
    with closing(open_backup(backup)) as file:
        return read_statements(_text(file))


def _text(file: IO[bytes]) -> Iterator[str]:
    return (line.decode("utf-8", "replace") for line in file)


def _read_archive(
    archive: Path, tools: Installation, folder: Path
) -> tuple[Contents, datetime | None]:
    """Read every byte of an archive, as the SQL that restores it."""
    program = tools.bin_dir / "pg_restore"
    listing = subprocess.run(
        [program, "--list", archive],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**environment({}), "TZ": "UTC"},
    )
    if listing.returncode:
        _refuse(listing.stderr, tools)
    log = folder / "pg_restore.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [program, "--file=-", archive],
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            env=dict(environment({})),
        )
    assert process.stdout is not None  # noqa: S101
    try:
        contents = read_statements(_text(process.stdout))
        status = process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()
        process.stdout.close()
    if status:
        _refuse(" ".join(read_log(log)), tools)
    created = _CREATED.search(listing.stdout)
    at = created and datetime.strptime(created[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    return contents, at or None


def _refuse(words: str, tools: Installation) -> None:
    if match := _TOO_OLD.search(words):
        raise _ToolTooOld(f"pg_restore {tools.version} is older than its format {match[1]}")
    raise BackupUnreadable(" ".join(words.split()).replace("pg_restore: error: ", ""))


def _judge(contents: Contents) -> Iterator[Line]:
    if not contents.is_dump:
        found, todo = "is no backup of pg_dump: neither SQL nor an archive", "name another file"
        yield Line("backup", "whole", "no-go", found, todo)
    elif not contents.is_whole:
        todo = "make a new backup, and look at its exit code"
        yield Line("backup", "whole", "no-go", "it is cut off: its end is missing", todo)
    else:
        yield Line("backup", "whole", "go", "read to its end")


def _check_age(
    backup: Path, created_at: datetime | None, now: datetime, max_age: timedelta
) -> Line:
    where = "by its header"
    if created_at is None:
        file = backup / "toc.dat" if backup.is_dir() else backup
        created_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        where = "by the file's time, a copy's may be later"
    age = max(now - created_at, timedelta(0))
    found = f"{format_duration(age, rounded=True)} old, of {format_time(created_at)} ({where})"
    if age <= max_age:
        return Line("backup", "age", "go", found)
    limit = format_duration(max_age)
    return Line("backup", "age", "no-go", found, f"make a new one, at most {limit} old")


def _check_origin(contents: Contents, rows: Mapping[str, int]) -> Line:
    """Compare tables and rows with production's."""
    missing = sorted(rows.keys() - contents.tables)
    if missing:
        found = f"{len(missing)} of production's {len(rows)} tables are not in it"
        todo = "name a backup of this database"
        return Line("backup", "origin", "no-go", found, todo, tuple(missing[:20]))
    differing = [
        f"{table}: {contents.rows[table]:,} rows, production about {there:,}"
        for table, there in sorted(rows.items())
        if table in contents.rows
        and there >= _ENOUGH_ROWS
        and not _FEW <= contents.rows[table] / there <= _MANY
    ]
    if differing:
        found = "its tables have far other numbers of rows than production's"
        todo = "name a newer backup, of this database"
        return Line("backup", "origin", "no-go", found, todo, tuple(differing))
    if not contents.rows:
        found = "its tables are production's; its rows were not counted"
        todo = "restore it and count: chatqueue rehearse does"
        return Line("backup", "origin", "unknown", found, todo)
    found = f"its {len(contents.tables)} tables and their rows are about production's"
    return Line("backup", "origin", "go", found)


def _check_rows(contents: Contents) -> Line:
    """Whether the tables that matter are there with their rows."""
    there = contents.rows.keys() | contents.inserted
    missing = [table for table in TABLES if table not in there]
    if missing:
        kind = "only the schema" if not there else f"no rows of {', '.join(missing)}"
        todo = "back up the rows too, of every table"
        return Line("backup", "contents", "no-go", f"it holds {kind}", todo)
    counted = ", ".join(
        f"{table} {contents.rows[table]:,}" for table in TABLES if table in contents.rows
    )
    verdict: Verdict = "go" if counted else "unknown"
    found = counted or "rows as INSERT, which are not counted"
    todo = "" if counted else "restore it and count: chatqueue rehearse does"
    return Line("backup", "contents", verdict, found, todo)
