"""The releaser's state as metric families. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.config.release import MODES
from exporter.metrics.snapshot import Family, make_family
from exporter.release.facts import BARS, Decision, Limits
from exporter.release.policy import CyclePlan, count_tokens


@dataclass(frozen=True, slots=True)
class Gauges:
    """What the latest cycle found; there is none while the database does not answer.

    Attributes:
        suspects: Chats that look stuck.
        would_close: Those among them that the platform's release would close.
        tripped: Whether the breaker stands.
        paused: Whether a person paused releases; None without our schema.
        tokens: Releases that the rate allows now; None without our schema.
        barred: Assigned chats that no release may be made of, by reason.
    """

    suspects: int
    would_close: int
    tripped: bool
    paused: bool | None
    tokens: float | None
    barred: Mapping[str, int]


def read_gauges(plan: CyclePlan, limits: Limits, *, tripped: bool) -> Gauges:
    """Return what a cycle's scan found; `tripped` is this daemon's own breaker after it."""
    control, paused, tokens = plan.control, None, None
    if control is not None:
        paused = (control.paused_until_s or 0) > control.now_s
        tokens = count_tokens(control, plan.scan.surroundings.now_s, limits)
        tripped = tripped or control.trip.tripped_at_s is not None
    barred = Counter(chat.bar for chat in plan.scan.chats if chat.bar)
    return Gauges(len(plan.suspects), plan.would_close, tripped, paused, tokens, barred)


def build_mode_family(mode: str) -> Family:
    """Return the family that says which mode is in force; the only one where it is off."""
    return make_family(
        "chatqueue_release_mode",
        "Mode of the releaser in force: 1 for one of off, observe and enforce.",
        [((("mode", name),), name == mode) for name in MODES],
    )


def build_release_families(
    mode: str,
    decisions: Mapping[Decision, int],
    times_s: tuple[float, float],
    gauges: Gauges | None,
) -> tuple[Family, ...]:
    """Return the families `chatqueue_release_…` of one database.

    Args:
        mode: In force now.
        decisions: Since the daemon started.
        times_s: Unix time of the last release, and of the end of the last cycle that saw the
            database; 0 before the first.
        gauges: Of the latest cycle.
    """
    families = [
        build_mode_family(mode),
        make_family(
            "chatqueue_release_decisions_total",
            "Decisions on confirmed stuck chats; one that stays the same counts once a chat.",
            [((("decision", str(d)),), decisions.get(d, 0)) for d in Decision],
        ),
        make_family(
            "chatqueue_release_last_timestamp_seconds",
            "Unix time of the last release by this daemon; 0 before the first.",
            [((), times_s[0])],
        ),
        make_family(
            "chatqueue_release_last_cycle_timestamp_seconds",
            "Unix time when the releaser last finished a cycle; 0 before the first.",
            [((), times_s[1])],
        ),
    ]
    if gauges is not None:
        families += _gauge_families(gauges)
    return tuple(families)


def _gauge_families(gauges: Gauges) -> list[Family]:
    """What the latest cycle found."""
    values = (
        ("suspect_chats", "Assigned chats whose operator shows no sign of life.", gauges.suspects),
        (
            "would_close_chats",
            "Suspect chats that the platform's own release would close for ever.",
            gauges.would_close,
        ),
        (
            "breaker_tripped",
            "Whether so many chats look stuck that nothing is released.",
            gauges.tripped,
        ),
        ("paused", "Whether a person paused releases.", gauges.paused),
        ("tokens", "Releases that the rate allows now.", gauges.tokens),
    )
    families = [
        make_family(f"chatqueue_release_{name}", text, [((), value)])
        for name, text, value in values
        if value is not None
    ]
    barred = make_family(
        "chatqueue_release_barred_chats",
        "Assigned chats whose assignment rows allow no release, whatever their operator does.",
        [((("reason", name),), gauges.barred.get(name, 0)) for name in BARS],
    )
    return [*families, barred]
