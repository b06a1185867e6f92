"""Whether a plan fits the database as it is now, and running it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from exporter.database.session import CommitUnknown, Session
from exporter.errors import ChatqueueError, QueryFailed, Reason
from exporter.ops.rollback.definitions import SQL, compare, read_definitions, read_place
from exporter.ops.rollback.plan import MISSING, Plan, read_contract, select_definitions

State = Literal["before", "after", "between", "neither", "elsewhere"]
# The script sets its own limits; this one only bounds a script whose limits do not work.
_SCRIPT_TIMEOUT_S = 3600.0


class RollbackFailed(ChatqueueError):
    """The rollback was not done; the database is unchanged."""


class RollbackUnknown(ChatqueueError):
    """The connection broke in COMMIT: it was done or it was not."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a plan fits.

    Attributes:
        state: before and after the fix fit, and between (a deployment that is not complete);
            neither is a database changed otherwise, elsewhere another database.
        reasons: What was found, one line each.
    """

    state: State
    reasons: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the plan can be used, now or after the deployment."""
        return self.state in ("before", "after", "between")


def check_plan(session: Session, plan: Plan, contract: str) -> Fit:
    """Return whether the plan fits, read-only.

    Args:
        session: Of any role that may connect.
        plan: To check.
        contract: The query of the fix's objects.

    Raises:
        DatabaseError: The database cannot be read.
    """
    place = read_place(session)
    if place.database != plan.place.database:
        found = f"the plan was made for database {plan.place.database}, this is {place.database}"
        return Fit("elsewhere", (found,))
    if place.system and plan.place.system and place.system != plan.place.system:
        systems = f"{plan.place.system}, here {place.system}"
        return Fit("elsewhere", (f"the plan was made on another server: {systems}",))
    before = {(item.kind, item.name): item.found for item in plan.items}
    rows = read_contract(session, contract)
    strange = tuple(
        f"{row['kind']} {row['name']} is {row['found']}, expected {row['expected']}"
        for row in rows
        if not row["ok"] and row["found"] != before.get((row["kind"], row["name"]), MISSING)
    )
    if strange:
        return Fit("neither", strange)
    present = sum(row["found"] != before.get((row["kind"], row["name"])) for row in rows)
    if present == 0:
        return _check_before(session, plan)
    if all(row["ok"] for row in rows):
        return Fit("after", (f"all {len(rows)} objects of the fix are here",))
    left = ", ".join(f"{row['kind']} {row['name']}" for row in rows if not row["ok"])
    return Fit("between", (f"the deployment is not complete, it lacks {left}",))


def _check_before(session: Session, plan: Plan) -> Fit:
    """Whether what the plan would restore is still what is there."""
    now = select_definitions(read_definitions(session), plan.items)
    changed = compare(plan.definitions, now)
    if changed:
        made = "since the plan was made"
        return Fit("neither", tuple(f"{difference} {made}" for difference in changed))
    return Fit("before", ("nothing of the fix is here, and the plan is what is",))


def apply_script(
    session: Session,
    body: str,
    actor: str,
    *,
    on_step: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the statements of a script as one transaction.

    Args:
        session: Of the owner of the tables.
        body: As `read_script` returns it.
        actor: For the audit.
        on_step: Called with `run` and `commit` before each; tests stop there.

    Raises:
        RollbackFailed: Nothing was changed.
        RollbackUnknown: It was done or it was not; `check_plan` says which.
        DatabaseUnavailable: There is no connection; nothing was changed.
    """
    session.begin(statement_timeout_s=_SCRIPT_TIMEOUT_S)
    try:
        session.rows("SELECT set_config('chatqueue.actor', %(actor)s, true)", {"actor": actor})
        on_step("run")
        session.rows(body)
        on_step("commit")
        session.commit()
    except CommitUnknown as error:
        raise RollbackUnknown(
            f"the commit went unanswered ({error}): rollback --check shows whether it was done"
        ) from error
    except QueryFailed as error:
        session.rollback()
        raise RollbackFailed(_explain(session, error)) from error
    finally:
        session.rollback()


def _explain(session: Session, error: QueryFailed) -> str:
    """The failure in words, with what to do about it."""
    text = str(error).partition("; chatqueue grants")[0]
    if error.reason is Reason.PERMISSION:
        return f"{text}: it needs the owner of the tables, see --dsn-from; nothing was changed"
    if error.reason is not Reason.LOCKED:
        return text if text.endswith(("changed", "undone")) else f"{text}; nothing was changed"
    with session.reading():
        holders = "; ".join(
            f"process {row['pid']} ({row['program']}, {row['state']}, for {row['age_s']:.0f} s)"
            for row in session.rows(SQL["holders"])
        )
    others = f", which is locked by {holders}" if holders else ""
    return (
        f"public.chats could not be locked in time{others}; nothing was changed: "
        "end that transaction, or try again"
    )
