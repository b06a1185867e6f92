"""One assignment in the history, and what a release would have changed. Pure.

All times are Unix seconds on the database's clock. docs/tune.md explains the method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Writer(StrEnum):
    """The sender of a message, relative to one assignment."""

    USER = "user"
    HOLDER = "holder"
    """The operator who had the chat; also for a message whose operator is NULL."""
    OTHER = "other"
    """Another operator."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: when, and by whom."""

    at_s: float
    writer: Writer


@dataclass(frozen=True, slots=True)
class Episode:
    """One assignment of one chat to one operator.

    Attributes:
        assigned_s: When it began.
        ended_s: When it ended; None while it is open.
        owed: Whether the user waited for an answer when it began.
        messages: Those of the episode by time, its ends included; of consecutive messages of the
            user only the first is needed.
        beat_s: The latest heartbeat, set for an open episode only.
        past_turns: Ended assignments of the chat before this one.
    """

    assigned_s: float
    ended_s: float | None
    owed: bool = True
    messages: tuple[Message, ...] = ()
    beat_s: float | None = None
    past_turns: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """A time within an episode in which a release was possible once the operator was silent.

    Attributes:
        silent_s: The operator's last sign of life before it ends.
        from_s: Its beginning.
        until_s: Its end, exclusive.
    """

    silent_s: float
    from_s: float
    until_s: float


class ReleaseKind(StrEnum):
    """What a release would have been."""

    RIGHT = "right"
    WRONG = "wrong"
    UNDECIDED = "undecided"
    """The episode is still open: the operator may yet answer."""


def find_windows(episode: Episode, now_s: float) -> tuple[Window, ...]:
    """Return the times in which the chat was, or may have been, `assigned` and not answered.

    A chat is assigned from the assignment to an operator's next message, which makes it wait for
    its user, and may be again from the user's next message on.
    """
    end_s = _end_s(episode, now_s)
    silent_s = max(episode.assigned_s, -math.inf if episode.beat_s is None else episode.beat_s)
    from_s: float | None = episode.assigned_s
    windows = []
    for message in episode.messages:
        if message.writer is Writer.USER:
            from_s = message.at_s if from_s is None else from_s
            continue
        if from_s is not None:
            windows.append(Window(silent_s, from_s, min(message.at_s, end_s)))
            from_s = None
        if message.writer is Writer.HOLDER:
            silent_s = max(silent_s, message.at_s)
    if from_s is not None:
        windows.append(Window(silent_s, from_s, end_s))
    return tuple(windows)


def find_release(windows: Sequence[Window], threshold_s: float) -> float | None:
    """Return the time of the first release with that threshold; None for no release."""
    for window in windows:
        at_s = max(window.silent_s + threshold_s, window.from_s)
        if at_s < window.until_s:
            return at_s
    return None


def judge_release(episode: Episode, at_s: float, now_s: float) -> tuple[ReleaseKind, float]:
    """Return what a release at that time, one of `find_release`, would have been.

    Returns:
        Wrong where the same operator wrote later in the same episode; and by how many seconds a
        waiting user's chat would have been in the queue sooner, 0 unless the release was right.
    """
    if any(m.at_s > at_s and m.writer is Writer.HOLDER for m in episode.messages):
        return ReleaseKind.WRONG, 0.0
    if episode.ended_s is None:
        return ReleaseKind.UNDECIDED, 0.0
    return ReleaseKind.RIGHT, _saved_s(episode, at_s, now_s)


def _saved_s(episode: Episode, at_s: float, now_s: float) -> float:
    """The user's wait from a release until another operator wrote or the episode really ended."""
    owed_s = episode.assigned_s if episode.owed else None
    until_s = _end_s(episode, now_s)
    for message in episode.messages:
        if message.writer is Writer.USER:
            owed_s = message.at_s if owed_s is None else owed_s
        elif message.at_s <= at_s:
            owed_s = None
        else:
            until_s = min(message.at_s, until_s)
            break
    return 0.0 if owed_s is None else max(0.0, until_s - max(at_s, owed_s))


def _end_s(episode: Episode, now_s: float) -> float:
    """The end of an episode, or now."""
    return now_s if episode.ended_s is None else min(episode.ended_s, now_s)
