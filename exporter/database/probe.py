"""Why a query cannot be trusted: relations that are missing, forbidden, hidden or locked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.catalogue import Need
from exporter.config.watch import WatchTimes
from exporter.database.rights import missing_grant
from exporter.database.statements import load_statements
from exporter.errors import QueryFailed, Reason

Row = Mapping[str, Any]
Ask = Callable[[str, Mapping[str, Any] | None], Sequence[Row]]
"""Runs a statement with its values in the open transaction."""

STATEMENTS = load_statements(__package__, "sql")
_UNPROVED = {
    "v": "a view whose rows depend on the session",
    "m": "a materialized view",
    "f": "a foreign table",
}


# What the fingerprint does not show is noticed by then.
MAX_AGE_S = 50.0


@dataclass(frozen=True, slots=True)
class Proof:
    """What the probe found, and what it holds for.

    Attributes:
        needs: What was looked at.
        faults: What is wrong with each need that cannot be trusted.
        hidden: Relation and whether it hides rows.
        reached: Object ids of all relations that are read in the end.
        fingerprint: Of the system catalogues in the same snapshot.
        proved_at_s: Monotonic time.
    """

    needs: tuple[Need, ...]
    faults: Mapping[Need, QueryFailed]
    hidden: tuple[tuple[str, bool], ...]
    reached: tuple[int, ...]
    fingerprint: str
    proved_at_s: float

    def holds(self, needs: Sequence[Need], fingerprint: str, now_s: float) -> bool:
        """Return whether it still stands; where something is wrong, never: it may be mended."""
        return (
            not self.faults
            and self.needs == tuple(needs)
            and self.fingerprint == fingerprint
            and now_s - self.proved_at_s < MAX_AGE_S
        )


def read_opening(ask: Ask, needs: Sequence[Need], reached: Sequence[int]) -> Row:
    """Return the clock, the server and the fingerprint of what the needs depend on.

    Source: exporter/database/sql/opening.sql.
    """
    objects = [name for need in needs for name in (need.name, need.through) if name]
    functions = [name.partition("(")[0] for name in objects if "(" in name]
    values = {
        "schemas": sorted({name.partition(".")[0] for name in objects}),
        "functions": sorted({name.partition(".")[2] for name in functions}),
        "reached": list(reached),
    }
    (row,) = ask(STATEMENTS["opening"], values)
    return row


def read_watch(ask: Ask) -> WatchTimes | None:
    """Return the watch that was started by command, None where none was.

    Source: exporter/database/sql/watch.sql.
    """
    return next((WatchTimes(**row) for row in ask(STATEMENTS["watch"], None)), None)


def probe_needs(
    ask: Ask, needs: Sequence[Need], reached: Sequence[int], fingerprint: str, now_s: float
) -> Proof:
    """Look at every need: what is wrong with it, and whether each relation hides rows.

    `fingerprint` was taken in this transaction over the relations `reached`.

    Source: exporter/database/sql/probe.sql.
    """
    rows = _probe(ask, [(need.name, need.through) for need in needs])
    faults: dict[Need, QueryFailed] = {}
    hidden: dict[str, bool] = {}
    found: set[int] = set()
    for need in needs:
        row = rows[need.name, need.through]
        fault = _need_fault(need, row)
        if fault is not None:
            faults[need] = fault
        if need.kind == "relation":
            hidden[need.name] = hidden.get(need.name, False) or row["is_hidden"]
        found.update(row["reached"] or ())
    if found != set(reached):
        fingerprint = read_opening(ask, needs, sorted(found))["fingerprint"]
    proved = (tuple(sorted(found)), fingerprint, now_s)
    return Proof(tuple(needs), faults, tuple(hidden.items()), *proved)


def find_blindness(ask: Ask, relations: Sequence[str]) -> str | None:
    """Return what keeps this role from seeing every row of the relations, or None."""
    rows = _probe(ask, [(name, None) for name in relations])
    for name in relations:
        row = rows[name, None]
        if not row["is_there"]:
            return f"{name} does not exist"
        if not row["is_permitted"]:
            return f"role {row['reader']} may not use {name}"
        if row["is_hidden"]:
            return _explain_hiding(row)
    return None


def find_locked(
    ask: Ask, faults: Mapping[Need, QueryFailed], needs: Sequence[Need]
) -> dict[Need, QueryFailed]:
    """Return what is wrong with the other needs whose relation is locked against reading.

    Source: exporter/database/sql/locked.sql.
    """
    locked = {row["relation"] for row in ask(STATEMENTS["locked"], None)}
    return {
        need: QueryFailed(Reason.LOCKED, f"{need.name} is locked, perhaps by a migration")
        for need in needs
        if need.name in locked and need not in faults
    }


def _probe(
    ask: Ask, objects: Sequence[tuple[str, str | None]]
) -> dict[tuple[str, str | None], Row]:
    """The probe's row of each object, by its name and what leads to it."""
    values = {"objects": [name for name, _ in objects], "throughs": [by for _, by in objects]}
    return {(row["object"], row["through"]): row for row in ask(STATEMENTS["probe"], values)}


def _need_fault(need: Need, row: Row) -> QueryFailed | None:
    """What keeps a query from the truth, as seen by the probe."""
    behind = f", which {need.through} reads," if need.through else ""
    if not row["is_there"]:
        return QueryFailed(
            Reason.MISSING, f"needs {need.kind} {need.name}{behind} which does not exist"
        )
    if not row["is_permitted"]:
        verb = "read" if need.kind == "relation" else "execute"
        return QueryFailed(
            Reason.PERMISSION,
            f"role {row['reader']} may not {verb} {need.name}{behind or ','} "
            f"expected {missing_grant(need.kind, need.name, row['reader'])}",
        )
    if row["is_hidden"]:
        return QueryFailed(Reason.ROW_SECURITY, _explain_hiding(row))
    return None


def _explain_hiding(row: Row) -> str:
    """What keeps a role from all rows of a relation, from its row of the probe."""
    culprit, reader = row["culprit"], row["culprit_reader"]
    behind = row["through"] if culprit == row["object"] else row["object"]
    shown = f"{culprit}, which {behind} reads," if behind else culprit
    if kind := _UNPROVED.get(row["culprit_kind"]):
        return (
            f"{shown} is {kind}, so nothing proves that it shows every row, "
            "expected a table or a plain view of one"
        )
    return (
        f"row-level security hides rows of {shown} from role {reader}, "
        "expected a policy FOR SELECT USING (true) for that role, or BYPASSRLS"
    )
