"""The guarded transaction: lock, judge, record, release, verify, commit; one chat at a time.

Nothing is released on what was seen before the locks. Any doubt ends in ROLLBACK with a reason.
What must hold, and which test shows it, is in docs/release.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from uuid import uuid4

from exporter.database.session import CommitUnknown, Session
from exporter.errors import DatabaseError, QueryFailed, Reason
from exporter.release.attempt import (
    Attempt,
    Refused,
    ReleaseRequest,
    Result,
)
from exporter.release.facts import (
    Control,
    Decision,
    Evidence,
    Ledger,
    Limits,
    Scan,
    Surroundings,
    Trip,
)
from exporter.release.guards import GUARDS, describe_signs
from exporter.release.policy import (
    Finding,
    Guard,
    Situation,
    count_tokens,
    find_all,
    judge,
    next_trip,
)
from exporter.release.policy import would_close as would_close_now
from exporter.release.statements import OWN_RELATIONS, RELATIONS, STATEMENTS

STEPS = (
    "control",
    "lock_chat",
    "lock_assignment",
    "lock_heartbeat",
    "judge",
    "audit",
    "release",
    "verify",
    "spend",
    "commit",
)
"""The transaction, in order; `begin` comes before."""


class Engine:
    """Runs the guarded transaction on one session.

    Args:
        session: Its own connection.
        limits: What to hold a release against.
        daemon: Who this is, for the audit.
        on_step: Called with the name of each step before it runs; tests stop there.
        guards: The conditions; tests take one out.
        statements: The SQL; tests take a lock out.
        steps: The order of the transaction; tests change it.
    """

    def __init__(
        self,
        session: Session,
        limits: Limits,
        *,
        daemon: str,
        on_step: Callable[[str], None] = lambda _: None,
        guards: Mapping[str, Guard] = GUARDS,
        statements: Mapping[str, str] = STATEMENTS,
        steps: Sequence[str] = STEPS,
    ) -> None:
        self.session = session
        self.limits = limits
        self._daemon = daemon
        self._on_step = on_step
        self._guards = guards
        self._sql = statements
        self._steps = tuple((name, getattr(self, f"_step_{name}")) for name in steps)

    def scan(self) -> tuple[Scan, Control | None]:
        """Return every assigned chat, read-only, and our control row where there is one.

        Raises:
            DatabaseError: The scan failed, or this role does not see everything.
        """
        self.session.begin(read_only=True)
        try:
            blind = self.session.find_blindness(RELATIONS)
            if blind is not None:
                raise QueryFailed(Reason.ROW_SECURITY, blind)
            scan = self._read_scan()
            (server,) = self._rows("server")
            control = None
            if server["has_schema"]:
                text = self._sql["control"].replace("FOR UPDATE", "")
                control = _one_control(self.session.rows(text))
            return scan, control
        finally:
            self.session.rollback()

    def release(self, request: ReleaseRequest) -> Result:
        """Release one chat, if under its locks everything still speaks for it.

        Never raises for the database's sake: whatever goes wrong is a decision with its reason.
        """
        attempt = Attempt(request, uuid4())
        try:
            self._on_step("begin")
            self.session.begin()
            for name, step in self._steps:
                attempt.trail.append(name)
                self._on_step(name)
                step(attempt)
        except Refused as refused:
            self.session.rollback()
            return attempt.end(refused.decision, refused.reason, refused.guard)
        except CommitUnknown as error:
            return attempt.end(Decision.UNKNOWN, f"the commit went unanswered: {error}")
        except DatabaseError as error:
            self.session.rollback()
            return attempt.end_failed(error)
        except BaseException:
            self.session.close()
            raise
        return attempt.end_done()

    def settle(self, unknown: Result) -> Result:
        """Find out what became of a commit that went unanswered; never try it again.

        The control row is locked first: while the lost transaction still runs it holds that row,
        and the audit would not yet show what it is about to commit.

        Raises:
            DatabaseError: It could not be determined yet.
        """
        self.session.begin()
        try:
            _one_control(self._rows("control"))
            found = self._rows("find_audit", {"id": unknown.audit_id})
        finally:
            self.session.rollback()
        if found:
            return replace(unknown, decision=Decision.RELEASED, reason="found in the audit")
        return replace(unknown, decision=Decision.ERROR, reason="the commit did not happen")

    def explain(self, request: ReleaseRequest) -> tuple[Finding, ...]:
        """Return every condition's finding for a chat, read-only and without any lock.

        The last finding is no condition: it names each sign of life and who gives it.

        Raises:
            DatabaseError: It could not be determined.
        """
        scan, control = self.scan()
        ledger = None
        if control is not None:
            self.session.begin(read_only=True)
            try:
                ledger = self._ledger(request.observed)
            finally:
                self.session.rollback()
        situation = Situation(
            request.mode, request.observed, scan, control, ledger, request.tripped, request.closes
        )
        findings = find_all(situation, self.limits, self._guards)
        return (*findings, describe_signs(situation, self.limits))

    def escalate(self, result: Result) -> bool:
        """Note that a human must look at this assignment; whether this is the first time.

        Raises:
            DatabaseError: It could not be noted; it will be tried again.
        """
        self.session.begin()
        try:
            attempt = Attempt(result.request, uuid4(), findings=result.findings)
            values = attempt.audit_values(self._daemon, self.limits)
            inserted = self._rows("insert_escalation", values)
            self.session.commit()
        finally:
            self.session.rollback()
        return bool(inserted)

    def note_breaker(self, outage: bool, gap_s: float) -> Trip:
        """Add one scan to the breaker's memory in the database, which all replicas share.

        Raises:
            DatabaseError: It could not be noted.
        """
        self.session.begin()
        try:
            control = _one_control(self._rows("control"))
            hold_s = self.limits.breaker_hold_s
            trip = next_trip(control.trip, outage, control.now_s, hold_s, gap_s)
            if trip != control.trip:
                self._rows("write_trip", asdict(trip))
                self.session.commit()
        finally:
            self.session.rollback()
        return trip

    # The steps, each named as in STEPS.

    def _step_control(self, attempt: Attempt) -> None:
        """Refuse where nothing can be written; then take the row that all replicas take first."""
        (server,) = self._rows("server")
        if server["in_recovery"] or server["is_read_only"]:
            what = "a standby in recovery" if server["in_recovery"] else "read-only"
            raise Refused(Decision.REFUSED, f"the server is {what}")
        attempt.has_schema = server["has_schema"]
        if attempt.has_schema:
            attempt.control = _one_control(self._rows("control"))
        elif attempt.request.mode != "observe":
            reason = "the schema chatqueue is missing, see chatqueue install"
            raise Refused(Decision.REFUSED, reason)
        relations = (*RELATIONS, *OWN_RELATIONS) if attempt.has_schema else RELATIONS
        blind = self.session.find_blindness(relations)
        if blind is not None:
            raise Refused(Decision.REFUSED, blind)
        for barred in self._rows("barred"):
            raise Refused(Decision.REFUSED, barred["reason"])

    def _step_lock_chat(self, attempt: Attempt) -> None:
        if not self._rows("lock_chat", attempt.values):
            raise Refused(Decision.BUSY, "somebody is writing to the chat")

    def _step_lock_assignment(self, attempt: Attempt) -> None:
        (row,) = self._rows("lock_assignment", attempt.values)
        locked, visible = row["locked"] or [], row["visible"] or []
        if set(locked) != set(visible):
            raise Refused(Decision.BUSY, "somebody is writing to the assignment")
        if attempt.request.observed.assignment_id not in locked:
            raise Refused(Decision.CHANGED, "the open assignment is not the one observed")
        attempt.open_assignments = tuple(locked)

    def _step_lock_heartbeat(self, attempt: Attempt) -> None:
        (row,) = self._rows("lock_heartbeat", attempt.values)
        if set(row["locked"] or []) != set(row["visible"] or []):
            raise Refused(Decision.BUSY, "a heartbeat is being written")

    def _step_judge(self, attempt: Attempt) -> None:
        """Judge by new statements: what was read before the locks is an old snapshot."""
        request = attempt.request
        scan = self._read_scan()
        ledger = self._ledger(request.observed) if attempt.has_schema else None
        situation = Situation(
            request.mode,
            request.observed,
            scan,
            attempt.control,
            ledger,
            request.tripped,
            request.closes,
        )
        attempt.scan, attempt.now = scan, situation.now
        attempt.findings = find_all(situation, self.limits, self._guards)
        refusal = judge(situation, self.limits, self._guards, request.overrides)
        if refusal is not None:
            reason = f"{refusal.guard}: {refusal.value}"
            raise Refused(refusal.decision, reason, refusal.guard)
        if would_close_now(situation):
            attempt.outcome = "closed" if request.closes else "requeued"

    def _step_audit(self, attempt: Attempt) -> None:
        if attempt.has_schema:
            self._rows("insert_audit", attempt.audit_values(self._daemon, self.limits))

    def _step_release(self, attempt: Attempt) -> None:
        """Call the platform's function, or do what its manual unassign does."""
        if attempt.outcome == "requeued":
            for name in ("requeue_chat", "requeue_assignment", "requeue_heartbeat"):
                rows = self._rows(name, attempt.values)
                if name != "requeue_heartbeat" and len(rows) != 1:
                    raise Refused(Decision.DEFECT, f"{name} touched {len(rows)} rows, expected 1")
            return
        (row,) = self._rows("call_platform", attempt.values)
        if row["requeued"] is not (attempt.outcome == "released"):
            raise Refused(
                Decision.DEFECT, f"release_and_reassign_chat returned {row['requeued']}, undone"
            )

    def _step_verify(self, attempt: Attempt) -> None:
        """See that exactly the release happened, and nothing else."""
        rows = self._rows("verify", attempt.values)
        if not rows or dict(rows[0]) != attempt.expected:
            raise Refused(Decision.DEFECT, f"the release left {[dict(r) for r in rows]}, undone")

    def _step_spend(self, attempt: Attempt) -> None:
        if attempt.control is None or attempt.scan is None:
            return
        now_s = attempt.scan.surroundings.now_s
        left = count_tokens(attempt.control, now_s, self.limits) - 1
        spent = self._rows("spend_token", {"tokens": max(0.0, left), "now_s": now_s})
        if len(spent) != 1:
            raise Refused(Decision.DEFECT, f"{len(spent)} control rows, expected 1")

    def _step_commit(self, attempt: Attempt) -> None:
        if attempt.request.mode == "enforce":
            self.session.commit()
        else:
            self.session.rollback()

    # What the steps share.

    def _rows(self, name: str, values: Mapping[str, Any] | None = None) -> list[Mapping[str, Any]]:
        """Run one of our statements."""
        return self.session.rows(self._sql[name], values)

    def _read_scan(self) -> Scan:
        """Everything as it is now, by new statements."""
        chats = tuple(Evidence(**row) for row in self._rows("evidence", {}))
        (around,) = self._rows("surroundings", {})
        return Scan(chats, Surroundings(**around))

    def _ledger(self, observed: Evidence) -> Ledger:
        """What our tables say of the chat."""
        values = {
            "chat": observed.chat_id,
            "operator": observed.operator_id,
            "assignment": observed.assignment_id,
            "window_s": self.limits.chat_window_s,
        }
        (row,) = self._rows("ledger", values)
        return Ledger(**row)


def _one_control(rows: Sequence[Mapping[str, Any]]) -> Control:
    """The control row; its absence is no permission."""
    if len(rows) != 1:
        raise QueryFailed(
            Reason.MISMATCH, f"chatqueue.release_control has {len(rows)} rows, expected 1"
        )
    return Control.of(rows[0])
