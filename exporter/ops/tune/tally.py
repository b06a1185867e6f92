"""What each threshold would have done to a stretch of history, counted up. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from exporter.ops.tune.episodes import (
    Episode,
    ReleaseKind,
    find_release,
    find_windows,
    judge_release,
)

Z = NormalDist().inv_cdf(0.975)
"""Of the normal distribution, for an interval of 95 %."""


@dataclass(slots=True)
class Line:
    """What one threshold would have done.

    Attributes:
        threshold_s: The silence after which a chat is released.
        right: Releases after which the operator did not write in the episode any more.
        wrong: Releases after which he did.
        undecided: Releases in episodes that are still open.
        closing: Of all these, chats the platform would have closed; None where that is unknown.
        saved_s: Waiting that the right ones would have saved.
    """

    threshold_s: float
    right: int = 0
    wrong: int = 0
    undecided: int = 0
    closing: int | None = 0
    saved_s: float = 0.0

    @property
    def releases(self) -> int:
        """All of them."""
        return self.decided + self.undecided

    @property
    def decided(self) -> int:
        """The right and the wrong ones."""
        return self.right + self.wrong

    @property
    def wrong_ratio(self) -> float | None:
        """Share of the decided ones that are wrong; None without any."""
        return self.wrong / self.decided if self.decided else None

    @property
    def wrong_interval(self) -> tuple[float, float]:
        """The interval of that share."""
        return wilson_interval(self.wrong, self.decided)


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """Return the Wilson score interval (95 %) of a share; 0 to 1 without trials."""
    if trials == 0:
        return 0.0, 1.0
    share, square = hits / trials, Z * Z / trials
    middle = share + square / 2
    reach = Z * math.sqrt(share * (1 - share) / trials + square / trials / 4)
    low, high = (middle - reach) / (1 + square), (middle + reach) / (1 + square)
    # Rounding must not move an end of the scale.
    return (0.0 if hits == 0 else low), (1.0 if hits == trials else high)


@dataclass(slots=True)
class Tally:
    """The counts of a stretch of history.

    Attributes:
        lines: One per threshold, the shortest first.
        episodes: Assignments that were counted.
    """

    lines: tuple[Line, ...]
    episodes: int = field(default=0)


def count_episodes(
    episodes: Iterable[Episode],
    thresholds_s: Sequence[float],
    now_s: float,
    max_reassignments: int | None,
) -> Tally:
    """Count what each threshold would have done, every episode by itself.

    Args:
        episodes: In any order; read once.
        thresholds_s: In any order, each once.
        now_s: When the history was read.
        max_reassignments: Past turns at which the platform closes a chat; None where unknown.
    """
    closing = None if max_reassignments is None else 0
    lines = tuple(Line(threshold_s, closing=closing) for threshold_s in sorted(thresholds_s))
    tally = Tally(lines)
    for episode in episodes:
        tally.episodes += 1
        windows = find_windows(episode, now_s)
        for line in lines:
            at_s = find_release(windows, line.threshold_s)
            if at_s is None:
                break  # nor does any longer one
            kind, saved_s = judge_release(episode, at_s, now_s)
            line.saved_s += saved_s
            line.right += kind is ReleaseKind.RIGHT
            line.wrong += kind is ReleaseKind.WRONG
            line.undecided += kind is ReleaseKind.UNDECIDED
            if max_reassignments is not None and line.closing is not None:
                line.closing += episode.past_turns >= max_reassignments
    return tally
