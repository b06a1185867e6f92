"""Migrations applied one by one: how long each takes, what it locks and what it rewrites."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.catalogue.statement import split_statements, statement_text
from exporter.database.session import Session
from exporter.database.statements import load_statements
from exporter.errors import ChatqueueError, DatabaseError
from exporter.rehearsal.programs import ProgramFailed, run_program

SQL = load_statements(__package__, "sql")
PROGRAM = "chatqueue-rehearse"
_LIMIT_S = 6 * 3600.0
_SAMPLE_S = 0.02
_MAX_WORDS = 80
# From the weakest; the first does not appear.
_MODES = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
_BLOCKS = {
    "ShareLock": "writes",
    "ShareRowExclusiveLock": "writes",
    "ExclusiveLock": "writes",
    "AccessExclusiveLock": "reads and writes",
}
# What cannot run inside a transaction of ours, or has its own.
_OWN_TRANSACTION = re.compile(
    r"(?:^|;|\*/)\s*(?:BEGIN|COMMIT|START\s+TRANSACTION)(?:\s+(?:WORK|TRANSACTION))?\s*;"
    r"|\bCONCURRENTLY\b",
    re.IGNORECASE | re.MULTILINE,
)


class MigrationFailed(ChatqueueError):
    """A migration failed; the message names the file."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The strongest lock that a migration held on a table.

    Attributes:
        relation: With its schema.
        mode: As PostgreSQL names it.
        held_s: Seconds it was held, to within some 20 ms.
        blocks: Whom it keeps waiting: nobody, writes, or reads and writes.
        line: Of the statement that took it; 0 where that is unknown.
        statement: Its first words.
    """

    relation: str
    mode: str
    held_s: float
    blocks: str
    line: int = 0
    statement: str = ""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A lock and the statement that took it."""

    mode: str
    line: int = 0
    statement: str = ""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a migration wrote to a table.

    Attributes:
        relation: With its schema.
        is_whole: Whether the table was written anew as a whole.
        rows: Rows inserted, updated and deleted.
    """

    relation: str
    is_whole: bool
    rows: int


@dataclass(frozen=True, slots=True)
class Applied:
    """One migration and what it did.

    Attributes:
        name: Of the file.
        duration_s: To its end, COMMIT included.
        locks: Strongest first.
        rewrites: Of tables that it wrote to.
        in_one_transaction: False for a file with its own transactions or CONCURRENTLY.
    """

    name: str
    duration_s: float
    locks: tuple[Lock, ...]
    rewrites: tuple[Rewrite, ...]
    in_one_transaction: bool


def find_migrations(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the files to apply, in their order: those given, and the `.sql` of those folders.

    Raises:
        MigrationFailed: One is missing, or there is none.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise MigrationFailed(f"--migrations {path}: does not exist")
        files += sorted(path.glob("*.sql")) if path.is_dir() else [path]
    if not files:
        raise MigrationFailed(f"--migrations {paths[0]}: holds no .sql file")
    return tuple(files)


def has_own_transaction(sql: str) -> bool:
    """Return whether a file cannot be run inside one transaction."""
    return _OWN_TRANSACTION.search(statement_text("", sql)) is not None


def apply_migration(file: Path, dsn: str, bin_dir: Path, folder: Path) -> Applied:
    """Apply one file, as one transaction where it can be.

    Raises:
        MigrationFailed: It failed; in one transaction nothing of it is left.
    """
    try:
        sql = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise MigrationFailed(f"{file}: {error}") from error
    is_whole = not has_own_transaction(sql)
    before = _read_tables(dsn)
    sampler = _Sampler(dsn)
    sampler.start()
    started = time.monotonic()
    try:
        locks, here = _run_whole(sql, dsn) if is_whole else ({}, {})
        if not is_whole:
            run_program(
                bin_dir / "psql",
                *("-X", "-q", "--set=ON_ERROR_STOP=1", f"--file={file.resolve()}"),
                dsn=dsn,
                folder=folder,
            )
    except (DatabaseError, ProgramFailed) as error:
        raise MigrationFailed(f"{file.name}: {error}") from error
    finally:
        ended = time.monotonic()
        seen = sampler.finish()
    return Applied(
        name=file.name,
        duration_s=ended - started,
        locks=_list_locks(locks, seen, ended, before.keys()),
        rewrites=_list_rewrites(before, _read_tables(dsn), here if is_whole else None),
        in_one_transaction=is_whole,
    )


def _run_whole(sql: str, dsn: str) -> tuple[dict[str, _Taken], dict[str, int]]:
    """Run it and commit; return its locks and the rows it wrote, as they were before COMMIT."""
    with Session(dsn, program=PROGRAM) as session:
        session.begin(statement_timeout_s=_LIMIT_S, lock_timeout_s=_LIMIT_S)
        locks: dict[str, _Taken] = {}
        for line, statement in split_statements(sql):
            session.rows(statement)
            words = " ".join(statement.split())[:_MAX_WORDS]
            for row in session.rows(SQL["locks"], {"own": True}):
                _keep_strongest(locks, row["relation"], _Taken(row["mode"], line, words))
        written = {r["relation"]: int(r["written_here"]) for r in session.rows(SQL["tables"])}
        session.commit()
    return locks, written


def _keep_strongest(locks: dict[str, _Taken], relation: str, taken: _Taken) -> None:
    before = locks.get(relation)
    if before is None or _MODES.index(taken.mode) > _MODES.index(before.mode):
        locks[relation] = taken


def _list_locks(
    locks: Mapping[str, _Taken],
    seen: Mapping[tuple[str, str], float],
    ended: float,
    tables: Collection[str],
) -> tuple[Lock, ...]:
    """The strongest per table that was there before; one too short to be seen took no time."""
    strongest = dict(locks)
    for relation, mode in seen:
        _keep_strongest(strongest, relation, _Taken(mode))
    found = (
        Lock(
            relation,
            taken.mode,
            ended - seen.get((relation, taken.mode), ended),
            _BLOCKS.get(taken.mode, "nobody"),
            taken.line,
            taken.statement,
        )
        for relation, taken in strongest.items()
        if relation in tables
    )
    return tuple(sorted(found, key=lambda lock: (-_MODES.index(lock.mode), lock.relation)))


def _read_tables(dsn: str) -> dict[str, Mapping[str, Any]]:
    with Session(dsn, program=PROGRAM) as session, session.reading():
        return {row["relation"]: row for row in session.rows(SQL["tables"])}


def _list_rewrites(
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
    here: Mapping[str, int] | None,
) -> tuple[Rewrite, ...]:
    """What changed; rows as the transaction counted them, else by the statistics."""
    rewrites = []
    for relation, row in after.items():
        old = before.get(relation)
        if old is None:
            continue
        rows = here.get(relation, 0) if here is not None else int(row["written"] - old["written"])
        is_whole = row["file"] != old["file"]
        if rows or is_whole:
            rewrites.append(Rewrite(relation, is_whole, rows))
    return tuple(rewrites)


class _Sampler(threading.Thread):
    """Notes when each lock of others was first seen."""

    def __init__(self, dsn: str) -> None:
        super().__init__(name="locks", daemon=True)
        self._session = Session(dsn, program=PROGRAM)
        self._ending = threading.Event()
        self._seen: dict[tuple[str, str], float] = {}

    def run(self) -> None:
        """Look again and again."""
        try:
            while not self._ending.wait(_SAMPLE_S):
                with self._session.reading():
                    rows = self._session.rows(SQL["locks"], {"own": False})
                now = time.monotonic()
                for row in rows:
                    self._seen.setdefault((row["relation"], row["mode"]), now)
        except DatabaseError:
            pass  # what was seen until then is what there is
        finally:
            self._session.close()

    def finish(self) -> Mapping[tuple[str, str], float]:
        """End it; return relation and mode to when that was first seen."""
        self._ending.set()
        self.join(5)
        return dict(self._seen)
