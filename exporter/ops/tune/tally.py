"""What each threshold would have done to a stretch of history, counted up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from exporter.ops.tune.episodes import Episode, Outcome, find_release, find_windows, judge_release


@dataclass(slots=True)
class Line:
    """What one threshold would have done.

    Attributes:
        threshold_s: The silence after which a chat is released.
        right: Releases after which the operator did not write in the episode any more.
        wrong: Releases after which he did.
        undecided: Releases of episodes that are still open.
        closing: Of all these, chats the platform would have closed; None where nobody can say.
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
        """Those that are known to be right or wrong."""
        return self.right + self.wrong


@dataclass(slots=True)
class Tally:
    """The counts of a stretch of history.

    Attributes:
        lines: One a threshold, the shortest first.
        episodes: Assignments that were looked at.
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
        now_s: The moment the history was read.
        max_reassignments: Past turns at which the platform closes a chat; None where it is not
            known.
    """
    lines = tuple(Line(threshold_s) for threshold_s in sorted(thresholds_s))
    tally = Tally(lines)
    for episode in episodes:
        tally.episodes += 1
        windows = find_windows(episode, now_s)
        for line in lines:
            at_s = find_release(windows, line.threshold_s)
            if at_s is None:
                break  # a longer one finds nothing either
            verdict = judge_release(episode, at_s, now_s)
            line.saved_s += verdict.saved_s
            line.right += verdict.outcome is Outcome.RIGHT
            line.wrong += verdict.outcome is Outcome.WRONG
            line.undecided += verdict.outcome is Outcome.UNDECIDED
            if max_reassignments is not None and line.closing is not None:
                line.closing += episode.past_turns >= max_reassignments
    if max_reassignments is None:
        for line in lines:
            line.closing = None
    return tally
