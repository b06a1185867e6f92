"""Notices of releases: texts that are understood in five seconds. Pure.

Ids and figures only: no name, no message, nothing a user has written. What a database says of a
failure might hold some, so it stays in the log.
"""

from __future__ import annotations

import math

from exporter.notify.notices import Notice
from exporter.release.attempt import Result
from exporter.release.facts import Decision

_TITLES = {
    "released": "a stuck chat was handed back to the queue",
    "would_release": "a stuck chat would be handed back to the queue",
    "escalated": "a stuck chat needs a human",
    "defect": "a release went wrong and was undone",
}
_TO_DO = {
    "released": "Nothing to do: the next free operator gets it.",
    "would_release": "Nothing was changed (observe). Compare with what really happens to it.",
    "escalated": (
        "To do: reassign or close it by hand. `chatqueue explain {chat}` shows more; "
        "`chatqueue chats --reason stuck` lists all such chats."
    ),
    "defect": (
        "To do: `chatqueue pause --for 1d --reason defect`, then look for `release decided` in the "
        "log. The chat is as it was."
    ),
}


def build_notice(event: str, database: str, result: Result) -> Notice:
    """Return the notice of one chat.

    Args:
        event: `released`, `would_release`, `escalated` or `defect`.
        database: Its name in the configuration.
        result: What came of the request.
    """
    observed = result.request.observed
    is_quotable = result.decision is not Decision.DEFECT
    reason = result.reason if is_quotable else "the release did not do what it should"
    silence = next((f.value for f in result.findings if f.guard == "silence"), "")
    if silence not in reason:
        reason = f"{silence}; {reason}"
    return Notice(
        event,
        f"{database}: {_TITLES[event]}",
        (
            f"Chat {observed.chat_id}, operator {observed.operator_id}",
            f"Why: {reason}",
            _TO_DO[event].format(chat=observed.chat_id),
        ),
        {
            "database": database,
            "chat": str(observed.chat_id),
            "operator": str(observed.operator_id),
            "assignment": str(observed.assignment_id),
            "mode": result.request.mode,
            "outcome": result.outcome,
            "reason": reason,
            "audit": str(result.audit_id or ""),
            "evidence": {finding.guard: finding.value for finding in result.findings},
        },
    )


def build_trip_notice(database: str, suspects: int, assigned: int, hold_s: float) -> Notice:
    """Return the notice that the breaker has tripped.

    Args:
        database: Its name in the configuration.
        suspects: Chats that look stuck.
        assigned: Chats that are assigned.
        hold_s: How long all must be well before it lets go; infinite where a person lets it go.
    """
    reason = f"{suspects} of {assigned} assigned chats look stuck at once"
    return Notice(
        "tripped",
        f"{database}: auto-release has stopped itself",
        (
            f"Why: {reason}. That is an outage, a wrong clock or a bad deploy, not stuck chats.",
            "To do: find out why operators show no sign of life; `chatqueue chats --reason stuck` "
            "lists the chats. Releases go on "
            + (
                "only after `chatqueue resume`."
                if math.isinf(hold_s)
                else "by themselves once all has been well for a while."
            ),
        ),
        {"database": database, "reason": reason, "suspects": suspects, "assigned": assigned},
    )
