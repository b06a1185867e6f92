"""Whether a role may do more than its work needs: its rights against the list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Literal

import yaml

from exporter.database.session import Session
from exporter.database.statements import load_statements
from exporter.errors import DatabaseError
from exporter.ops.verify.checks import Check, check_rights

Part = Literal["reader", "releaser", "repairs"]
Rights = tuple[tuple[str, str, str], ...]
READING: tuple[Part, ...] = ("reader",)
WRITING: tuple[Part, ...] = ("releaser", "repairs")
_SQL = load_statements(__package__, "sql")


def load_rights(parts: Sequence[Part]) -> Rights:
    """Return privilege, relation and column (`*` for all) of everything that is needed.

    Source: exporter/ops/verify/rights.yaml.
    """
    lists: Mapping[Part, Mapping[str, Mapping[str, Sequence[str]]]] = yaml.safe_load(
        files(__package__).joinpath("rights.yaml").read_text("utf-8")
    )
    return tuple(
        (privilege, relation, column)
        for part in parts
        for privilege, relations in lists[part].items()
        for relation, columns in relations.items()
        for column in columns
    )


def inspect_rights(dsn: str, parts: Sequence[Part], connect_timeout_s: float) -> Iterator[Check]:
    """Yield the checks of what a role may do beyond its list; read-only."""
    privileges, relations, columns = map(list, zip(*load_rights(parts), strict=True))
    values = {
        "privileges": privileges,
        "relations": relations,
        "columns": columns,
        "is_writing": "releaser" in parts,
    }
    try:
        with Session(dsn, connect_timeout_s=connect_timeout_s) as session, session.reading():
            (row,) = session.rows(_SQL["rights"], values)
    except DatabaseError as error:
        found, todo = f"could not be determined: {error}", "see docs/troubleshooting.md"
        yield Check("rights", " and ".join(parts), False, found, "", todo)
    else:
        yield from check_rights(row)
