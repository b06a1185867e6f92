"""What a releaser is to do, and its words for the log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from exporter.release.facts import Limits
from exporter.release.orders import Result
from exporter.snapshot import Labels


@dataclass(frozen=True, slots=True)
class ReleasePlan:
    """What a releaser is to do; a reload replaces it whole.

    Attributes:
        database: Name in the configuration.
        dsn: Connection string of the releasing role; kept out of repr.
        labels: Extra labels of the database.
        connect_timeout_s: For each host of the connection string.
        interval_s: Time between polls.
        limits: With the mode.
    """

    database: str
    dsn: str
    labels: Labels
    connect_timeout_s: float
    interval_s: float
    limits: Limits

    def __repr__(self) -> str:
        return f"ReleasePlan(database={self.database!r}, mode={self.limits.mode!r})"

    @property
    def gap_s(self) -> float:
        """Polls further apart than this are not successive."""
        return max(2.5 * self.interval_s, self.interval_s + 10)


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
