"""One attempt at a release: what is requested, how far it comes, and what it comes to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from exporter.database.session import ServerTrouble
from exporter.errors import DatabaseError, DatabaseUnavailable, Reason
from exporter.release.facts import Control, Decision, Evidence, Limits, Scan
from exporter.release.policy import POLICY, Finding


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
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
    """What came of a request.

    Attributes:
        decision: In one word.
        reason: In a sentence, with the figures.
        request: What was asked.
        audit_id: Of the audit row that was written, or may have been.
        outcome: `released`, `requeued` or `closed`, where something was or would be done.
        findings: Every condition as judged under the locks; empty where it did not come to that.
        guard: The condition that refused, if one did.
    """

    decision: Decision
    reason: str
    request: ReleaseRequest
    audit_id: UUID | None = None
    outcome: str = ""
    findings: tuple[Finding, ...] = ()
    guard: str = ""


class Refused(Exception):
    """Ends the transaction without a release."""

    def __init__(self, decision: Decision, reason: str, guard: str = "") -> None:
        self.decision, self.reason, self.guard = decision, reason, guard
        super().__init__(reason)


@dataclass(slots=True)
class Attempt:
    """One run of the transaction, as far as it has come."""

    request: ReleaseRequest
    audit_id: UUID
    control: Control | None = None
    has_schema: bool = False
    now: Evidence | None = None
    scan: Scan | None = None
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
        observed = self.request.observed
        return {
            "chat": observed.chat_id,
            "operator": observed.operator_id,
            "assignment": observed.assignment_id,
            "reason": self.reason,
            "id": self.audit_id,
        }

    @property
    def expected(self) -> dict[str, Any]:
        """What verify.sql must see after the release, and nothing else."""
        observed, closed = self.request.observed, self.outcome == "closed"
        return {
            "chat_state": "completed" if closed else "waiting_assignment",
            "is_active": not closed,
            "is_free": True,
            "is_unclocked": True,
            "open_assignments": sorted(set(self.open_assignments) - {observed.assignment_id}),
            "past_turns": observed.past_turns + 1,
            "release_reason": self.reason + (" - max reassignments reached" if closed else ""),
        }

    def audit_values(self, daemon: str, limits: Limits) -> dict[str, Any]:
        """Parameters of an audit row."""
        observed = asdict(self.request.observed)
        evidence = {
            "observed": {key: _as_json_value(value) for key, value in observed.items()},
            "findings": {finding.guard: finding.value for finding in self.findings},
        }
        return {
            **self.values,
            "outcome": self.outcome,
            "actor": self.request.actor,
            "daemon": daemon,
            "policy": POLICY,
            "config_hash": limits.config_hash,
            "overrides": sorted(self.request.overrides),
            "evidence": json.dumps(evidence),
        }

    def end(self, decision: Decision, reason: str, guard: str = "") -> Result:
        """Return what the attempt has come to; the words are those of `Result`."""
        may_be_audited = decision in (Decision.RELEASED, Decision.UNKNOWN)
        is_done = may_be_audited or decision is Decision.WOULD_RELEASE
        return Result(
            decision,
            reason,
            self.request,
            self.audit_id if may_be_audited else None,
            self.outcome if is_done else "",
            self.findings,
            guard,
        )

    def end_done(self) -> Result:
        """Return that the chat is released, or would be, in the words of its evidence."""
        is_enforced = self.request.mode == "enforce"
        values = {finding.guard: finding.value for finding in self.findings}
        reason = "; ".join(values[name] for name in ("silence", "closing") if values.get(name))
        return self.end(Decision.RELEASED if is_enforced else Decision.WOULD_RELEASE, reason)

    def end_failed(self, error: DatabaseError) -> Result:
        """Return what a database error makes of it; it was rolled back, or never began."""
        step = self.trail[-1] if self.trail else "begin"
        trouble = isinstance(error, ServerTrouble | DatabaseUnavailable)
        decision = Decision.ERROR
        if error.reason is Reason.LOCKED:
            decision = Decision.BUSY
        elif step == "release" and not trouble and error.reason is not Reason.TIMEOUT:
            decision = Decision.DEFECT
        return self.end(decision, f"{step}: {error}")


def _as_json_value(value: object) -> object:
    """A value as JSON takes it; infinity is no JSON."""
    if isinstance(value, UUID) or (
        isinstance(value, float) and value in (float("inf"), -float("inf"))
    ):
        return str(value)
    return value


def describe(result: Result) -> dict[str, Any]:
    """Return a result's fields for the log: who, what, and on which evidence."""
    observed = result.request.observed
    return {
        "decision": str(result.decision),
        "reason": result.reason,
        "chat": str(observed.chat_id),
        "operator": str(observed.operator_id),
        "assignment": str(observed.assignment_id),
        "mode": result.request.mode,
        "outcome": result.outcome,
        "audit": str(result.audit_id or ""),
        "evidence": json.dumps({f.guard: f.value for f in result.findings}),
    }
