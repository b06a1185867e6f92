"""What to restore: the definitions that the fix will replace, as they are before it. Pure but for
`make_plan`, which reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from exporter.database.session import Session
from exporter.errors import ChatqueueError
from exporter.ops.rollback.definitions import (
    Definition,
    Place,
    read_definitions,
    read_place,
)

MISSING = "missing"
"""What the contract finds where there is nothing."""

Action = tuple[str, str, str]
"""Kind, name, and what the rollback does with it."""


class PlanRefused(ChatqueueError):
    """A plan cannot be made here, or is none; the database is unchanged."""


@dataclass(frozen=True, slots=True)
class Item:
    """One object of the fix.

    Attributes:
        kind: column, index, constraint, function or view.
        name: As the contract has it.
        found: What the contract found before the fix.
    """

    kind: str
    name: str
    found: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollback restores, and in which database.

    Attributes:
        place: Where it was made, and when.
        items: Every object of the fix, as it was.
        definitions: Of the items that were there, and of triggers that call one of them.
        drop_columns: Whether the fix's columns are dropped, their contents saved before.
        lock_timeout_s: How long a statement of the script may wait for a lock.
        statement_timeout_s: How long it may take.
    """

    place: Place
    items: tuple[Item, ...]
    definitions: tuple[Definition, ...]
    drop_columns: bool
    lock_timeout_s: float
    statement_timeout_s: float

    @property
    def saved_as(self) -> str:
        """The table that takes the contents of dropped columns."""
        return f"chatqueue_rollback.chats_{self.place.now:%Y%m%d%H%M%S}"

    def names(self, kind: str) -> list[str]:
        """Return the names of the fix's objects of a kind."""
        return [item.name for item in self.items if item.kind == kind]

    def new_names(self, kind: str) -> list[str]:
        """Return the names of those that were not there before."""
        return [i.name for i in self.items if i.kind == kind and i.found == MISSING]

    def of_kind(self, kind: str) -> list[Definition]:
        """Return the definitions of a kind."""
        return [definition for definition in self.definitions if definition.kind == kind]

    def actions(self) -> tuple[Action, ...]:
        """Return what becomes of each object, in the contract's order."""
        new = "dropped, its contents saved" if self.drop_columns else "kept"
        for_missing = {"column": new}
        return tuple(
            (
                item.kind,
                item.name,
                for_missing.get(item.kind, "dropped") if item.found == MISSING else "restored",
            )
            for item in self.items
        ) + tuple((d.kind, d.name, "restored") for d in self.of_kind("trigger"))


def make_plan(
    session: Session,
    contract: str,
    *,
    drop_columns: bool = False,
    lock_timeout_s: float = 3.0,
    statement_timeout_s: float = 60.0,
) -> Plan:
    """Read the definitions that the fix will replace; read-only.

    Args:
        session: Of any role that may connect.
        contract: The query of the fix's objects, queries/contract_objects.sql.
        drop_columns: Whether the fix's columns are to be dropped.
        lock_timeout_s: For the script.
        statement_timeout_s: For the script.

    Raises:
        PlanRefused: The fix is already there.
        DatabaseError: The definitions cannot be read.
    """
    rows = read_contract(session, contract)
    if all(row["ok"] for row in rows):
        raise PlanRefused(
            "the fix is already here: a plan must be made before the deployment, now it would "
            "restore the fix itself"
        )
    items = tuple(Item(row["kind"], row["name"], row["found"]) for row in rows)
    return Plan(
        place=read_place(session),
        items=items,
        definitions=select_definitions(read_definitions(session), items),
        drop_columns=drop_columns,
        lock_timeout_s=lock_timeout_s,
        statement_timeout_s=statement_timeout_s,
    )


def read_contract(session: Session, contract: str) -> list[Mapping[str, Any]]:
    """Return the fix's objects, read-only: kind, name, expected, found, ok and remedy.

    Raises:
        DatabaseError: They cannot be read.
    """
    with session.reading():
        return session.rows(contract)


def select_definitions(
    definitions: Iterable[Definition], items: Sequence[Item]
) -> tuple[Definition, ...]:
    """Return the definitions of the fix's objects, and of triggers that call its functions."""
    wanted = {(item.kind, item.name) for item in items}
    return tuple(
        definition
        for definition in definitions
        if (definition.kind, definition.object) in wanted
        or (definition.kind == "trigger" and ("function", definition.detail) in wanted)
    )


def to_json(plan: Plan) -> str:
    """Write a plan as text that `from_json` reads back."""
    document = asdict(plan)
    document["place"]["now"] = plan.place.now.isoformat()
    return json.dumps(document)


def from_json(text: str) -> Plan:
    """Read a plan.

    Raises:
        PlanRefused: It is none.
    """
    try:
        document = json.loads(text)
        place = document.pop("place")
        place["now"] = datetime.fromisoformat(place["now"])
        items = tuple(Item(**item) for item in document.pop("items"))
        definitions = tuple(
            Definition(**{**d, "grants": None if d["grants"] is None else tuple(d["grants"])})
            for d in document.pop("definitions")
        )
        return Plan(place=Place(**place), items=items, definitions=definitions, **document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PlanRefused(f"its plan cannot be read: {error}") from error
