"""What was found against what there should be: one check per item. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Row = Mapping[str, Any]
Group = Literal["contract", "states", "access", "rows", "rights", "server", "flow", "endpoint"]

OLDEST_VERSION = 140_000
LARGEST_SKEW_S = 5.0
# Fewer chats than this prove nothing about their distribution.
ENOUGH_CHATS = 20
STATES = ("waiting_assignment", "assigned", "waiting_real_user_reply")

# Privilege to what it allows, and to what a GRANT writes before the name.
_USES = {
    "SELECT": ("read", ""),
    "EXECUTE": ("executed", "FUNCTION "),
    "USAGE": ("used", "SCHEMA "),
}


_TODO_GRANTS = "run what chatqueue grants prints, as the owner of the tables, and use its roles"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the checklist.

    Attributes:
        group: Which part of the checklist.
        name: The item.
        ok: Whether it is as it should be.
        found: What is there.
        expected: What should be there; empty where `found` says it all.
        todo: What to do about it; empty where it is as it should be.
    """

    group: Group
    name: str
    ok: bool
    found: str
    expected: str = ""
    todo: str = ""


def _check(
    group: Group, name: str, ok: bool, found: str, expected: str = "", todo: str = ""
) -> Check:
    """A check whose `todo` is dropped where it is as it should be."""
    return Check(group, name, ok, found, expected, "" if ok else todo)


def check_contract(rows: Iterable[Row]) -> Iterator[Check]:
    """Yield one check per object of the fix.

    Source: queries/contract_objects.sql.
    """
    for row in rows:
        name = f"{row['kind']} {row['name']}"
        yield _check("contract", name, row["ok"], row["found"], row["expected"], row["remedy"])


def check_invalid(row: Row, checks: Mapping[str, str]) -> Iterator[Check]:
    """Yield one check per kind of invalid chat.

    Args:
        row: Counts by column.
        checks: Column to the name of the check, as in `chatqueue_invalid_chats`.
    """
    for column, name in checks.items():
        count = int(row[column])
        found = f"{count} chat{'' if count == 1 else 's'}"
        todo = f'chatqueue_invalid_chats{{check="{name}"}} in docs/metrics.md says what it means'
        yield _check("states", name, count == 0, found, "0 chats", todo)


def check_distribution(rows: Sequence[Row]) -> Check:
    """Judge the active chats of each state.

    Source: queries/state_summary.sql.
    """
    counts = {str(row["state"]): int(row["chats"]) for row in rows}
    found = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no chats"
    expected = "active chats in the three active states, and not all of them waiting"
    strange = {state for state, count in counts.items() if count and state not in STATES}
    total = sum(counts.values())
    todo = ""
    if strange:
        todo = f"find out who wrote {', '.join(sorted(strange))}, and set the state of those chats"
    elif total >= ENOUGH_CHATS and counts.get("waiting_assignment", 0) == total:
        todo = (
            "every chat waits: migration 014 gave them its default and did not set the state of "
            "chats that were answered before; run its backfill"
        )
    return Check("states", "distribution", not todo, found, expected, todo)


def check_access(rows: Iterable[Row]) -> Iterator[Check]:
    """Yield one check per relation, function and schema that the built-in queries use.

    Source: exporter/ops/verify/sql/access.sql.
    """
    for row in sorted(rows, key=lambda row: (row["privilege"] != "USAGE", row["object"])):
        name, privilege, barred = row["object"], row["privilege"], sorted(row["barred"])
        if not row["is_there"]:
            yield Check("access", name, False, "does not exist", "", "see the contract above")
            continue
        verb, kind = _USES[privilege]
        what, columns, allowed = "it", "", f"can be {verb}"
        if privilege == "SELECT":
            what = ", ".join(barred)
            columns, allowed = f" ({what})", f"{row['wanted']} columns can be read"
        found = f"{what} cannot be {verb}" if barred else allowed
        todo = f"GRANT {privilege}{columns} ON {kind}{name} TO {row['role']}"
        yield _check("access", name, not barred, found, "", todo)


def check_rows(hidden: Iterable[tuple[str, bool]]) -> Iterator[Check]:
    """Yield one check per relation of which row-level security may hide rows."""
    for relation, is_hidden in sorted(hidden):
        found = "row-level security hides rows" if is_hidden else "all rows are seen"
        todo = f"CREATE POLICY … ON {relation} FOR SELECT TO the role USING (true), or BYPASSRLS"
        yield _check("rows", relation, not is_hidden, found, "", todo)


def check_rights(row: Row) -> Iterator[Check]:
    """Yield whether a role may do more than it needs, and which functions PUBLIC may call.

    An owner that only watches passes with a warning: many installations begin that way.

    Source: exporter/ops/verify/sql/rights.sql.
    """
    role, is_writing = row["role"], row["is_writing"]
    if row["is_superuser"] or row["owned"]:
        what = "is a superuser" if row["is_superuser"] else f"owns {row['owned']}"
        found = f"{what} and may do far more than it needs: use the roles of chatqueue grants"
        yield _check("rights", role, not is_writing, found, "", _TODO_GRANTS)
        return
    faults = list(row["attributes"])
    if row["excess"]:
        faults.append(f"may do more than it needs: {'; '.join(row['excess'])}")
    if row["unbounded"]:
        faults.append(
            f"no restrictive policy bounds its {', '.join(row['unbounded'])}: what the platform's "
            "policies let PUBLIC do, it may do to every row"
        )
    found = "; ".join(faults) or "no more than it needs"
    expected = "what chatqueue grants gives" if faults else ""
    yield _check("rights", role, not faults, found, expected, _TODO_GRANTS)
    if row["functions"]:
        functions = ", ".join(row["functions"])
        found = f"{functions} with the rights of the function's owner, see docs/release.md"
        yield Check("rights", f"{role} may call", True, found)


def check_server(version_num: int, in_recovery: bool, clock_skew_s: float) -> Iterator[Check]:
    """Yield the version and the clock.

    Args:
        version_num: `server_version_num`.
        in_recovery: Whether it is a standby, which serves as well.
        clock_skew_s: Database clock minus this host's.
    """
    version = f"{version_num // 10000}.{version_num % 10000}"
    found = f"PostgreSQL {version}, {'standby' if in_recovery else 'primary'}"
    todo = "upgrade the server; until then switch the query stuck_chats off"
    yield _check("server", "version", version_num >= OLDEST_VERSION, found, "14 or later", todo)
    is_near = abs(clock_skew_s) <= LARGEST_SKEW_S
    found, expected = f"{clock_skew_s:+.1f} s from this host's", f"at most {LARGEST_SKEW_S:g} s"
    todo = "synchronise this host's clock (chrony, NTP); the server's is the truth"
    yield _check("server", "clock", is_near, found, expected, todo)
