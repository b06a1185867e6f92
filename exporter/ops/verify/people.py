"""The flow's temporary rows, with the columns that this database's tables demand. Pure.

Source: exporter/ops/verify/sql/flow/columns.sql.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID, uuid4

NAME = "chatqueue verify"
# The policies of `chatqueue grants` recognise the flow's rows by this, and allow no others.
_MARK = "c4a7c4a7-c4a7-4"
# Columns that the platform's tables are known to have; those that a table lacks are left out.
_PROFILE = {
    "display_name": NAME,
    "location": NAME,
    "gender": "male",
    "looking_for": "female",
    "age": "30",
    "is_active": "true",
}
# By the category of a column's type, for one that is demanded and not in the profile.
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
    """A column that is demanded, of a type without a known value."""


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
    table = [column for column in columns if column["name"] in known or column["is_required"]]
    names = ", ".join(column["quoted"] for column in table)
    casts = ", ".join(
        f"CAST(%(c{number})s AS {column['type']})" for number, column in enumerate(table)
    )
    values = {
        f"c{number}": known[column["name"]] if column["name"] in known else _fill(column)
        for number, column in enumerate(table)
    }
    relation = table[0]["relation"]
    return f"INSERT INTO {relation} ({names}) VALUES ({casts})", values  # noqa: S608 - quoted


def _fill(column: Column) -> str:
    """A value that the column's type takes."""
    kind = column["type"].partition("(")[0]
    if kind == "uuid":
        return str(uuid4())
    filler = column["label"] or _OTHER_FILLERS.get(kind, _FILLERS.get(column["category"]))
    if filler is None:
        raise UnknownColumn(
            f"{column['relation']}.{column['name']} must be given, and no value is known that "
            f"a {column['type']} takes"
        )
    return str(filler)
