"""What a rehearsal reads from production: its place, its definitions, its schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.database.session import Session
from exporter.errors import ChatqueueError
from exporter.ops.rollback.definitions import Definition, Place, read_definitions, read_place
from exporter.rehearsal.migrations import PROGRAM, SQL
from exporter.rehearsal.programs import Installation, run_program


@dataclass(frozen=True, slots=True)
class Production:
    """What is read from production, once and read-only.

    Attributes:
        place: Which server and database.
        rows: Table to estimated rows.
        definitions: What stands in the schema public.
    """

    place: Place
    rows: dict[str, int]
    definitions: tuple[Definition, ...]


def read_production(dsn: str, connect_timeout_s: float) -> Production:
    """Read what the rehearsal compares with.

    Raises:
        DatabaseError: It cannot be read.
    """
    with Session(dsn, connect_timeout_s=connect_timeout_s, program=PROGRAM) as session:
        place = read_place(session)
        with session.reading():
            rows = {row["name"]: int(row["rows"]) for row in session.rows(SQL["estimates"])}
        return Production(place, rows, read_definitions(session))


def dump_schema(dsn: str, tools: Installation, version: int, folder: Path) -> Path:
    """Dump production's schema without rows, read-only.

    Raises:
        ProgramFailed: pg_dump is too old, or may not read it.
    """
    if tools.version < version:
        raise ChatqueueError(
            f"pg_dump {tools.version} cannot dump PostgreSQL {version}: install the client "
            f"programs of version {version} or later"
        )
    dump = folder / "schema.dump"
    run_program(
        tools.bin_dir / "pg_dump",
        *("--schema-only", "--format=custom", f"--file={dump}", "--lock-wait-timeout=5s"),
        dsn=dsn,
        folder=folder,
    )
    return dump
