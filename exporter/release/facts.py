"""What a release is decided on, as read from the database, and the limits it is held against."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any
from uuid import UUID

Row = Mapping[str, Any]

BARS = (
    "no_open_assignment",
    "several_open_assignments",
    "another_operator",
    "no_assignment_time",
)
"""Why the assignment rows of a chat leave it to a person; a label of `…_barred_chats`."""


class Decision(StrEnum):
    """What came of one attempt at one chat; a label of `chatqueue_release_decisions_total`."""

    RELEASED = "released"
    WOULD_RELEASE = "would_release"
    ESCALATED = "escalated"
    BUSY = "busy"
    CHANGED = "changed"
    COOLING_DOWN = "cooling_down"
    EXEMPT = "exempt"
    OVER_LIMIT = "over_limit"
    PAUSED = "paused"
    BREAKER = "breaker"
    SENSOR = "sensor"
    IDLE_DETECTOR = "idle_detector"
    NO_OPERATOR = "no_operator"
    WOULD_CLOSE = "would_close"
    REFUSED = "refused"
    """The server or the role cannot do it: standby, read-only, row-level security, no schema."""
    UNCLEAR = "unclear"
    """A setting of the platform cannot be read, so what a release would do is unknown."""
    DEFECT = "defect"
    ERROR = "error"
    UNKNOWN = "unknown"
    """The connection broke in COMMIT; the audit shows what became of it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One assigned chat and its operator's signs of life; times are Unix seconds.

    Attributes:
        chat_id: Which chat.
        operator_id: Who has it.
        open_assignments: Assignment rows without an end; exactly one that is not superseded is
            sound.
        assignment_id: The open row that is not superseded, where there is exactly one.
        assignment_operator_id: Whom that row names.
        assignment_time_s: The chat's own time of assignment.
        assigned_at_s: The assignment row's.
        beat_s: Heartbeat by the database's clock; None without a heartbeat row.
        browser_beat_s: Heartbeat by the browser's clock.
        message_s: The operator's last message since the assignment.
        past_turns: Ended assignment rows; the platform closes a chat by their number.
        superseded_assignments: Open rows of earlier operators that an admin's reassignment left.
    """

    chat_id: UUID
    operator_id: UUID | None
    open_assignments: int
    assignment_id: UUID | None
    assignment_operator_id: UUID | None
    assignment_time_s: float | None
    assigned_at_s: float | None
    beat_s: float | None
    browser_beat_s: float | None
    message_s: float | None
    past_turns: int
    superseded_assignments: int = 0

    @property
    def bar(self) -> str:
        """Why no release may be made of this chat's rows, one of `BARS`; empty where one may.

        Exactly one open assignment must name the chat's operator, and since when.
        """
        current = self.open_assignments - self.superseded_assignments
        if current != 1:
            return "several_open_assignments" if current > 1 else "no_open_assignment"
        if self.operator_id is None or self.assignment_operator_id != self.operator_id:
            return "another_operator"
        if self.assignment_time_s is None or self.assigned_at_s is None:
            return "no_assignment_time"
        return ""

    @property
    def person_signs(self) -> tuple[tuple[str, float | None], ...]:
        """The signs of life that only a person gives, by name."""
        assigned = [s for s in (self.assignment_time_s, self.assigned_at_s) if s is not None]
        return (
            ("assignment", max(assigned, default=None)),
            ("input", self.browser_beat_s),
            ("message", self.message_s),
        )

    @property
    def signs(self) -> tuple[float | None, ...]:
        """Every sign of life."""
        return (
            self.assignment_time_s,
            self.assigned_at_s,
            self.beat_s,
            self.browser_beat_s,
            self.message_s,
        )

    def as_seen(self, life: str) -> Evidence:
        """Return it with the signs that count: with `life: input` an open tab is none."""
        return replace(self, beat_s=None) if life == "input" else self

    def silence_s(self, now_s: float) -> float:
        """Return the seconds since the latest sign of life; negative for one in the future."""
        return now_s - max((sign for sign in self.signs if sign is not None), default=now_s)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What holds for all chats of a database; times are Unix seconds on its clock.

    Attributes:
        now_s: The database's clock.
        server_started_s: When the server started.
        latest_beat_s: The latest heartbeat of anybody; None without any.
        free_operators: Who could take a chat now.
        idle_releases: Releases by the platform's idle detector in the last 10 minutes.
        limit_type: JSON type of `max_reassignments`; None where it is not set.
        limit_text: Its text.
    """

    now_s: float
    server_started_s: float
    latest_beat_s: float | None
    free_operators: int
    idle_releases: int
    limit_type: str | None
    limit_text: str | None


@dataclass(frozen=True, slots=True)
class Scan:
    """Everything one scan saw: every assigned chat, and what surrounds them."""

    chats: tuple[Evidence, ...]
    surroundings: Surroundings

    def find(self, chat_id: UUID) -> Evidence | None:
        """Return the chat's evidence; None where it is not active and assigned."""
        return next((chat for chat in self.chats if chat.chat_id == chat_id), None)


@dataclass(frozen=True, slots=True)
class Trip:
    """The breaker's memory; all None while it never tripped. Unix seconds."""

    tripped_at_s: float | None = None
    healthy_since_s: float | None = None
    healthy_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Control:
    """The row of `release_control`; times are Unix seconds."""

    mode_cap: str
    now_s: float
    paused_until_s: float | None
    pause_reason: str | None
    paused_by: str | None
    trip: Trip
    tokens: float | None
    tokens_at_s: float | None

    @classmethod
    def of(cls, row: Row) -> Control:
        """Read a row of control.sql."""
        trip = Trip(row["tripped_at_s"], row["healthy_since_s"], row["healthy_at_s"])
        names = (
            *("mode_cap", "now_s", "paused_until_s", "pause_reason", "paused_by"),
            *("tokens", "tokens_at_s"),
        )
        return cls(trip=trip, **{name: row[name] for name in names})


@dataclass(frozen=True, slots=True)
class Ledger:
    """What our tables say of one chat, its operator and its assignment."""

    exemption: str | None
    assignment_releases: int
    last_release_s: float | None
    releases_in_window: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The section `release` in plain numbers; `…_s` are seconds."""

    mode: str
    life: str
    stuck_after_s: float
    confirm_polls: int
    confirm_for_s: float
    on_would_close: str
    per_cycle: int
    per_operator: int
    rate_per_hour: float
    burst: float
    cooldown_s: float
    chat_releases: int
    chat_window_s: float
    breaker_share: float
    breaker_at_least: int
    breaker_hold_s: float
    sensor_silence_s: float
    after_restart_s: float
    alongside_idle_detector: bool
    require_free_operator: bool

    @property
    def config_hash(self) -> str:
        """A short mark by which the audit distinguishes configurations."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
