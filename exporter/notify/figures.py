"""The webhooks' state as metric families. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.metrics.snapshot import Family, Labels, Sample
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


def build_figures(states: Sequence[State]) -> tuple[Family, ...]:
    """Return the families `chatqueue_notifications_…`; none without a webhook."""
    if not states:
        return ()
    outcomes: list[tuple[Labels, float]] = [
        ((("webhook", state.name), ("outcome", str(outcome))), state.outcomes.get(outcome, 0))
        for state in states
        for outcome in Outcome
    ]
    failures: list[tuple[Labels, float]] = [
        ((("webhook", state.name), ("reason", reason)), state.failures.get(reason, 0))
        for state in states
        for reason in FAILURES
    ]
    queued: list[tuple[Labels, float]] = [((("webhook", s.name),), s.queued) for s in states]
    return (
        _family("total", "counter", "Notices by what became of them.", outcomes),
        _family(
            "failed_requests_total",
            "counter",
            "Requests to a webhook that did not deliver their notice, by reason.",
            failures,
        ),
        _family("queue_length", "gauge", "Notices that wait, the one being sent included.", queued),
    )


def _family(name: str, kind: str, text: str, samples: list[tuple[Labels, float]]) -> Family:
    return Family(
        f"chatqueue_notifications_{name}",
        kind,
        text,
        "",
        tuple(Sample(labels, float(value)) for labels, value in samples),
    )
