"""What people are shown of a releaser. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.release.facts import Control
from exporter.release.families import Gauges


@dataclass(frozen=True, slots=True)
class ReleaseEvent:
    """One decision that changed something, or would have.

    Attributes:
        at_s: Unix time.
        decision: `released`, `would_release`, `escalated` or `defect`.
        outcome: `released`, `requeued` or `closed`; empty where nothing was done.
    """

    at_s: float
    decision: str
    outcome: str


@dataclass(frozen=True, slots=True)
class ReleaseState:
    """A releaser after its latest cycle.

    Attributes:
        mode: In force.
        configured: As the configuration has it.
        gauges: What the latest cycle found; None while the database does not answer.
        paused_until_s: Unix time, on the database's clock; None where it is not paused.
        pause_reason: In the words of the person who paused it.
        paused_by: The database role of that person.
        events: The latest decisions of this process, oldest first.
    """

    mode: str = "off"
    configured: str = "off"
    gauges: Gauges | None = None
    paused_until_s: float | None = None
    pause_reason: str = ""
    paused_by: str = ""
    events: tuple[ReleaseEvent, ...] = ()


def build_state(
    mode: str,
    configured: str,
    gauges: Gauges | None,
    control: Control | None,
    events: Iterable[ReleaseEvent],
) -> ReleaseState:
    """Return the state after a cycle; the arguments are its attributes."""
    state = ReleaseState(mode, configured, gauges, events=tuple(events))
    if control is None or (control.paused_until_s or 0) <= control.now_s:
        return state
    return ReleaseState(
        mode,
        configured,
        gauges,
        control.paused_until_s,
        control.pause_reason or "",
        control.paused_by or "",
        state.events,
    )
