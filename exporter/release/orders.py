"""What is ordered of the engine, how far it came, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from exporter.database.session import ServerTrouble
from exporter.errors import DatabaseError, DatabaseUnavailable, Reason
from exporter.release.facts import Control, Decision, Evidence, Look
from exporter.release.policy import Finding


@dataclass(frozen=True, slots=True)
class Order:
    """One chat to release, if it may be.

    Attributes:
        observed: What was confirmed; anything else found under the locks ends it.
        mode: `observe` rolls back what `enforce` commits.
        tripped: Whether the daemon's own breaker stands.
        overrides: Limits that a person overrides by name.
        closes: Whether a person allows that the chat is closed.
        actor: `daemon`, or who asked.
    """

    observed: Evidence
    mode: str
    tripped: bool = False
    overrides: frozenset[str] = frozenset()
    closes: bool = False
    actor: str = "daemon"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of an order.

    Attributes:
        decision: In one word.
        reason: In a sentence, with the figures.
        order: What was asked.
        audit_id: Of the audit row that was written, or may have been.
        outcome: `released`, `requeued` or `closed`, where something was or would be done.
        findings: Every condition as judged under the locks; empty where it did not come to that.
        guard: The condition that refused, if one did.
    """

    decision: Decision
    reason: str
    order: Order
    audit_id: UUID | None = None
    outcome: str = ""
    findings: tuple[Finding, ...] = ()
    guard: str = ""


class Stop(Exception):
    """Ends the transaction without a release."""

    def __init__(self, decision: Decision, reason: str, guard: str = "") -> None:
        self.decision, self.reason, self.guard = decision, reason, guard
        super().__init__(reason)


@dataclass(slots=True)
class Attempt:
    """One run of the transaction, as far as it has come."""

    order: Order
    audit_id: UUID
    control: Control | None = None
    has_schema: bool = False
    now: Evidence | None = None
    look: Look | None = None
    open_assignments: tuple[UUID, ...] = ()
    outcome: str = "released"
    findings: tuple[Finding, ...] = ()
    trail: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """What the platform will show as the reason of the release."""
        return f"auto_release:{self.audit_id}"

    @property
    def values(self) -> dict[str, Any]:
        """Parameters of the statements."""
        observed = self.order.observed
        return {
            "chat": observed.chat_id,
            "operator": observed.operator_id,
            "assignment": observed.assignment_id,
            "reason": self.reason,
            "id": self.audit_id,
        }


def explain_failure(error: DatabaseError, trail: Sequence[str]) -> tuple[Decision, str]:
    """What a database error makes of an attempt; it was rolled back, or never began."""
    step = trail[-1] if trail else "begin"
    reason = f"{step}: {error}"
    if error.reason is Reason.LOCKED:
        return Decision.BUSY, reason
    trouble = isinstance(error, ServerTrouble | DatabaseUnavailable)
    if step == "release" and not trouble and error.reason is not Reason.TIMEOUT:
        return Decision.DEFECT, reason
    return Decision.ERROR, reason


def explain_release(attempt: Attempt) -> str:
    """Why it was released, in the words of its evidence."""
    silence = next((f.value for f in attempt.findings if f.guard == "silence"), "")
    closing = next((f.value for f in attempt.findings if f.guard == "closing"), "")
    return "; ".join(filter(None, (silence, closing)))


def as_json_value(value: object) -> object:
    """A value as JSON takes it; infinity is no JSON."""
    if isinstance(value, UUID) or (
        isinstance(value, float) and value in (float("inf"), -float("inf"))
    ):
        return str(value)
    return value


def describe(result: Result) -> dict[str, Any]:
    """Return a result's fields for the log: who, what, and on which evidence."""
    observed = result.order.observed
    return {
        "decision": str(result.decision),
        "reason": result.reason,
        "chat": str(observed.chat_id),
        "operator": str(observed.operator_id),
        "assignment": str(observed.assignment_id),
        "mode": result.order.mode,
        "outcome": result.outcome,
        "audit": str(result.audit_id or ""),
        "evidence": json.dumps({f.guard: f.value for f in result.findings}),
    }
