"""May this chat be released now? Pure: facts and limits in, a finding for every condition out.

Every condition is a named guard in `GUARDS`, so that `explain` shows each with its value, a person
can override a limit by its name, and a test can take one away and see what goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

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

POLICY = "1"
"""Version of these rules, for the audit."""

DEFAULT_MAX_REASSIGNMENTS = 3
"""What the platform takes where `max_reassignments` is not set."""

OBSERVED_HOLD_S = 600.0
"""In observe there is nothing in the database that a person could resume."""

NO_SCHEMA = "not known without the schema chatqueue"


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision about one chat rests on.

    Attributes:
        mode: `observe` or `enforce`.
        observed: The evidence that was confirmed, or that a person asked about.
        scan: Everything as seen now, after the locks.
        control: Our control row; None where our schema is absent (observe only).
        ledger: What our tables say of the chat; None likewise.
        tripped: Whether this daemon's own breaker stands.
        closes: Whether a person allowed the chat to be closed.
    """

    mode: str
    observed: Evidence
    scan: Scan
    control: Control | None
    ledger: Ledger | None
    tripped: bool = False
    closes: bool = False

    @property
    def now(self) -> Evidence | None:
        """The chat as it is now; None where it is no longer assigned."""
        return self.scan.find(self.observed.chat_id)

    @property
    def around(self) -> Surroundings:
        """What holds for all chats."""
        return self.scan.surroundings


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition's verdict.

    Attributes:
        guard: Its name.
        passed: Whether it allows the release.
        decision: What its refusal is counted as.
        value: What was found, and what was expected, in words.
    """

    guard: str
    passed: bool
    decision: Decision
    value: str


Check = Callable[[Situation, Limits], tuple[bool, str]]


@dataclass(frozen=True, slots=True)
class Guard:
    """One condition of a release.

    Attributes:
        decision: What its refusal is counted as.
        check: Whether it allows the release, and what it found.
        is_limit: Whether a person may override it by name.
    """

    decision: Decision
    check: Check
    is_limit: bool = False


def find_all(
    situation: Situation,
    limits: Limits,
    guards: Mapping[str, Guard],
) -> tuple[Finding, ...]:
    """Return every guard's finding, in the order of the table."""
    return tuple(
        Finding(name, passed, guard.decision, value)
        for name, guard in guards.items()
        for passed, value in (guard.check(situation, limits),)
    )


def judge(
    situation: Situation,
    limits: Limits,
    guards: Mapping[str, Guard],
    overrides: frozenset[str] = frozenset(),
) -> Finding | None:
    """Return the first refusal that is not overridden, or None: the chat may be released."""
    return next(
        (
            finding
            for finding in find_all(situation, limits, guards)
            if not finding.passed
            and not (finding.guard in overrides and guards[finding.guard].is_limit)
        ),
        None,
    )


def find_suspects(scan: Scan, limits: Limits) -> tuple[Evidence, ...]:
    """Return every chat that looks stuck, the longest silent first."""
    now_s = scan.surroundings.now_s
    stuck = [c for c in scan.chats if not c.bar and is_silent(c, now_s, limits)]
    return tuple(
        sorted(stuck, key=lambda c: (-c.as_seen(limits.life).silence_s(now_s), str(c.chat_id)))
    )


def is_silent(evidence: Evidence, now_s: float, limits: Limits) -> bool:
    """Return whether the operator showed no sign of life for `stuck_after`."""
    return evidence.as_seen(limits.life).silence_s(now_s) >= limits.stuck_after_s


def is_outage(suspects: int, assigned: int, limits: Limits) -> bool:
    """Return whether so many chats look stuck that something else must be broken."""
    return suspects >= limits.breaker_at_least and suspects > limits.breaker_share * assigned


def next_trip(trip: Trip, outage: bool, now_s: float, hold_s: float, gap_s: float) -> Trip:
    """Return the breaker's memory after one more scan.

    Args:
        trip: As it was.
        outage: Whether too many chats look stuck now.
        now_s: The database's clock.
        hold_s: How long things must be well before it lets go.
        gap_s: Scans further apart than this do not count as well in between.
    """
    if outage:
        return Trip(now_s if trip.tripped_at_s is None else trip.tripped_at_s)
    if trip.tripped_at_s is None:
        return Trip()
    since_s, at_s = trip.healthy_since_s, trip.healthy_at_s
    if since_s is None or at_s is None or not 0 <= now_s - at_s <= gap_s:
        since_s = now_s
    if now_s - since_s >= hold_s:
        return Trip()
    return Trip(trip.tripped_at_s, since_s, now_s)


def count_tokens(control: Control, now_s: float, limits: Limits) -> float:
    """Return how many releases the rate allows now; a bucket never used is full."""
    if control.tokens is None or control.tokens_at_s is None:
        return limits.burst
    elapsed_s = max(0.0, now_s - control.tokens_at_s)
    return min(limits.burst, control.tokens + elapsed_s * limits.rate_per_hour / 3600)


def read_max_reassignments(surroundings: Surroundings) -> int | None:
    """Return the platform's limit of turns; None where the platform itself cannot read it."""
    return parse_max_reassignments(surroundings.limit_type, surroundings.limit_text)


def parse_max_reassignments(limit_type: str | None, limit_text: str | None) -> int | None:
    """Return the same of the setting's JSON type, None where it is not set, and its text."""
    if limit_type is None:
        return DEFAULT_MAX_REASSIGNMENTS
    try:
        return int(limit_text or "") if limit_type == "number" else None
    except ValueError:
        return None


def would_close(situation: Situation) -> bool | None:
    """Return whether the platform's release would close the chat; None where that is unknown."""
    most = read_max_reassignments(situation.around)
    now = situation.now
    return None if most is None or now is None else now.past_turns >= most


def effective_mode(limits: Limits, mode_cap: str, idle_releases: int) -> str:
    """Return the mode in force: the configured one, lowered by the cap and by another releaser."""
    modes = ("off", "observe", "enforce")
    mode = min(limits.mode, mode_cap, key=modes.index)
    if mode == "enforce" and idle_releases and not limits.alongside_idle_detector:
        return "observe"
    return mode


@dataclass(frozen=True, slots=True)
class CyclePlan:
    """What one scan calls for, before any chat is tried.

    Attributes:
        scan: What was seen.
        control: Our control row as it was seen; None where our schema is absent.
        mode: In force: the configured one, lowered by the control row and by another releaser.
        suspects: Chats that look stuck, the longest silent first.
        would_close: How many of them the platform's own release would close.
        is_outage: Whether there are so many that something else must be broken.
        trip: This daemon's own memory of the breaker, after this scan.
        hold_s: How long all must be well before a trip ends.
    """

    scan: Scan
    control: Control | None
    mode: str
    suspects: tuple[Evidence, ...]
    would_close: int
    is_outage: bool
    trip: Trip
    hold_s: float


def plan_cycle(
    scan: Scan, control: Control | None, limits: Limits, trip: Trip, gap_s: float
) -> CyclePlan:
    """Return what one scan calls for; `trip` and `gap_s` are those of `next_trip`."""
    around = scan.surroundings
    cap = control.mode_cap if control is not None else "enforce"
    mode = effective_mode(limits, cap, around.idle_releases)
    hold_s = limits.breaker_hold_s
    if mode != "enforce":
        hold_s = min(hold_s, OBSERVED_HOLD_S)
    suspects = find_suspects(scan, limits)
    outage = is_outage(len(suspects), len(scan.chats), limits)
    most = read_max_reassignments(around)
    closing = sum(most is not None and chat.past_turns >= most for chat in suspects)
    after = next_trip(trip, outage, around.now_s, hold_s, gap_s)
    return CyclePlan(scan, control, mode, suspects, closing, outage, after, hold_s)


def choose(
    confirmed: Sequence[Evidence], limits: Limits, attempted: Mapping[str, int], done: int
) -> Evidence | None:
    """Return the next chat of a cycle, or None where its caps are reached.

    Args:
        confirmed: What is left to try.
        limits: With the caps of a cycle.
        attempted: Releases of this cycle by operator.
        done: Releases of this cycle.
    """
    if done >= limits.per_cycle:
        return None
    return next(
        (c for c in confirmed if attempted.get(str(c.operator_id), 0) < limits.per_operator), None
    )
