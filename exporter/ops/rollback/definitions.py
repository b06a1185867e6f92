"""What stands in the schema public, object by object, and how two such lists differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from exporter.database.session import Session
from exporter.database.statements import load_statements

SQL = load_statements(__package__, "sql")
_STATEMENT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Definition:
    """One object, with all that makes it what it is.

    Attributes:
        kind: function, view, table, trigger, constraint, index, column or policy.
        object: Its name as the contract of the fix has it: a column's is `table.column`.
        name: As statements write it, qualified; of a function with its arguments.
        text: The definition, as the server prints it.
        detail: Of a function what CREATE OR REPLACE cannot change; of a trigger the function that
            it calls; of a column its default.
        owner: Quoted; None for what has none.
        grants: `PRIVILEGE TO role`, sorted; None for what has none.
        comment: Its comment, if there is one.
    """

    kind: str
    object: str
    name: str
    text: str
    detail: str = ""
    owner: str | None = None
    grants: tuple[str, ...] | None = None
    comment: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other."""
        return self.kind, self.name

    @property
    def fingerprint(self) -> str:
        """The same for two objects that are the same in everything."""
        parts = (self.text, self.detail, self.owner, self.grants, self.comment)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Place:
    """Which database this is.

    Attributes:
        database: Its name on the server.
        system: The server's system identifier; None where this role may not read it.
        version_num: As the server numbers it.
        now: By the server's clock.
    """

    database: str
    system: str | None
    version_num: int
    now: datetime


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that is not the same in two databases, or in one at two times.

    Attributes:
        kind: Of what.
        name: As `Definition.name`.
        change: added, removed or changed.
    """

    kind: str
    name: str
    change: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name} {self.change}"


def read_definitions(session: Session) -> tuple[Definition, ...]:
    """Return every object of the schema public, read-only.

    Raises:
        DatabaseError: They cannot be read.
    """
    with session.reading(_STATEMENT_TIMEOUT_S):
        session.rows("SET LOCAL search_path = pg_catalog")
        return tuple(_definition(row) for row in session.rows(SQL["definitions"]))


def read_place(session: Session) -> Place:
    """Return which database a session is in.

    Raises:
        DatabaseError: It cannot be read.
    """
    with session.reading():
        (row,) = session.rows(SQL["place"])
    return Place(row["database"], row["system"], row["version_num"], row["now"])


def compare(before: Iterable[Definition], after: Iterable[Definition]) -> tuple[Difference, ...]:
    """Return what is not the same, by kind and name."""
    return tuple(_differences({d.key: d for d in before}, {d.key: d for d in after}))


def _differences(
    before: Mapping[tuple[str, str], Definition], after: Mapping[tuple[str, str], Definition]
) -> Iterator[Difference]:
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None:
            yield Difference(*key, "added")
        elif new is None:
            yield Difference(*key, "removed")
        elif old.fingerprint != new.fingerprint:
            yield Difference(*key, "changed")


def _definition(row: Mapping[str, Any]) -> Definition:
    grants = None if row["grants"] is None else tuple(row["grants"])
    return Definition(**{**row, "grants": grants})
