"""Rows of the flow's own, with whatever columns this database's tables demand. Pure.

Source: exporter/ops/verify/sql/flow/columns.sql.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID, uuid4

NAME = "chatqueue verify"
# By this the policies of `chatqueue grants` know the flow's rows, and let nothing else be added.
_MARK = "c4a7c4a7-c4a7-4"
# What the platform's tables are known to want; of these, whatever columns a table has.
_PROFILE = {
    "display_name": NAME,
    "location": NAME,
    "gender": "male",
    "looking_for": "female",
    "age": "30",
    "is_active": "true",
}
# By the category of a column's type, for one that is demanded and not known.
_FILLERS = {
    "S": NAME,
    "N": "0",
    "B": "false",
    "D": "now",
    "T": "0",
    "A": "{}",
    "I": "192.0.2.1",
    "R": "empty",
    "V": "0",
}
_OTHER_FILLERS = {"json": "{}", "jsonb": "{}", "bytea": "", "xml": "<x/>"}

Column = Mapping[str, Any]
Insert = tuple[str, Mapping[str, str | None]]
"""A statement and its parameters."""


class UnknownColumn(Exception):
    """A column that is demanded, of a type that nothing is known for."""


def make_id() -> UUID:
    """Return an id that marks a row as the flow's."""
    return UUID(_MARK + str(uuid4())[len(_MARK) :])


def describe_person(person: UUID) -> Mapping[str, str]:
    """Return the columns of an account, a user, a persona or an operator."""
    unique = f"{NAME} {person}"
    email = f"verify-{person}@chatqueue.invalid"
    return {**_PROFILE, "id": str(person), "name": unique, "email": email, "is_available": "true"}


def build_insert(columns: Iterable[Column], known: Mapping[str, str | None]) -> Insert:
    """Return the INSERT of one row.

    Args:
        columns: Of one table.
        known: Column to value, as text; what the table does not have is left out.

    Raises:
        UnknownColumn: With its name and type.
    """
    table = tuple(columns)
    values = dict(_fill(table, known))
    quoted = {column["name"]: column for column in table}
    names = ", ".join(quoted[name]["quoted"] for name in values)
    casts = ", ".join(
        f"CAST(%(c{number})s AS {quoted[name]['type']})" for number, name in enumerate(values)
    )
    parameters = {f"c{number}": value for number, value in enumerate(values.values())}
    relation = table[0]["relation"]
    return f"INSERT INTO {relation} ({names}) VALUES ({casts})", parameters  # noqa: S608 - quoted


def _fill(
    columns: Iterable[Column], known: Mapping[str, str | None]
) -> Iterator[tuple[str, str | None]]:
    """Each column that is known or demanded, with its value."""
    for column in columns:
        name = column["name"]
        if name in known:
            yield name, known[name]
        elif column["is_required"]:
            yield name, _filler(column)


def _filler(column: Column) -> str:
    """Something that a type takes."""
    kind = column["type"].partition("(")[0]
    if kind == "uuid":
        return str(uuid4())
    filler = column["label"] or _OTHER_FILLERS.get(kind, _FILLERS.get(column["category"]))
    if filler is None:
        raise UnknownColumn(
            f"{column['relation']}.{column['name']} must be given, and nothing is known that a "
            f"{column['type']} takes"
        )
    return str(filler)
