"""The webhooks' state as metric families. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.metrics.snapshot import Family, make_family
from exporter.notify.answers import FAILURES, Outcome


@dataclass(frozen=True, slots=True)
class State:
    """One webhook as it is now.

    Attributes:
        name: In the configuration.
        queued: Notices not yet delivered or given up.
        outcomes: Of notices, since the daemon started.
        failures: Of requests, since the daemon started.
    """

    name: str
    queued: int
    outcomes: Mapping[Outcome, int]
    failures: Mapping[str, int]


def build_notification_families(states: Sequence[State]) -> tuple[Family, ...]:
    """Return the families `chatqueue_notifications_…`; none without a webhook."""
    if not states:
        return ()
    return (
        make_family(
            "chatqueue_notifications_total",
            "Notices by what became of them.",
            [
                (
                    (("webhook", state.name), ("outcome", str(outcome))),
                    state.outcomes.get(outcome, 0),
                )
                for state in states
                for outcome in Outcome
            ],
        ),
        make_family(
            "chatqueue_notifications_failed_requests_total",
            "Requests to a webhook that did not deliver their notice, by reason.",
            [
                ((("webhook", state.name), ("reason", reason)), state.failures.get(reason, 0))
                for state in states
                for reason in FAILURES
            ],
        ),
        make_family(
            "chatqueue_notifications_queue_length",
            "Notices that wait, the one being sent included.",
            [((("webhook", state.name),), state.queued) for state in states],
        ),
    )
