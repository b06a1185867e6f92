"""The threshold that fits the history, and how certain that is. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from exporter.ops.tune.tally import Line, Tally, Z


class Verdict(StrEnum):
    """Whether there is a threshold to recommend."""

    RECOMMENDED = "recommended"
    NOT_ENOUGH = "not_enough_history"
    """A threshold looks good enough, but on too few releases to be sure."""
    NONE = "none_qualifies"
    UNUSED = "nothing_to_release"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to configure, and why.

    Attributes:
        verdict: Whether there is one.
        line: The recommended threshold, or the one that comes closest.
        why: One sentence.
    """

    verdict: Verdict
    line: Line | None
    why: str


def count_needed(max_wrong: float) -> int:
    """Return how many releases, none of them wrong, it takes to get below that share."""
    return math.ceil(Z * Z * (1 - max_wrong) / max_wrong)


def advise(tally: Tally, max_wrong: float) -> Advice:
    """Return the shortest threshold whose share of wrong releases is small enough with certainty.

    Args:
        tally: The counts.
        max_wrong: The share that the upper end of the interval may reach; above 0, below 1.
    """
    decided = [line for line in tally.lines if line.decided]
    if not decided:
        return Advice(Verdict.UNUSED, None, _explain_unused(tally))
    limit = f"{max_wrong:.1%}"
    for line in decided:
        if line.wrong_interval[1] <= max_wrong:
            is_first = line is tally.lines[0]
            why = "the shortest that was tried" if is_first else f"none shorter is within {limit}"
            return Advice(Verdict.RECOMMENDED, line, f"{_describe(line)}; {why}")
    hopeful = [line for line in decided if line.wrong <= max_wrong * line.decided]
    if hopeful:
        line = max(hopeful, key=lambda line: line.decided)
        why = (
            f"{_describe(line)}; to be within {limit} takes {count_needed(max_wrong)} "
            "without a wrong one, or more"
        )
        return Advice(Verdict.NOT_ENOUGH, line, why)
    line = min(decided, key=lambda line: line.wrong / line.decided)
    why = f"{_describe(line)}; the limit is {limit}"
    if len(decided) < len(tally.lines):
        why += ", and longer ones would have decided nothing"
    return Advice(Verdict.NONE, line, why)


def _explain_unused(tally: Tally) -> str:
    """Why no line has a decided release."""
    if not tally.episodes:
        return "there is no assignment in this time"
    if any(line.undecided for line in tally.lines):
        return "every chat that would have been released is still with its operator"
    return "no operator with a chat was silent for that long"


def _describe(line: Line) -> str:
    """A line's wrong releases and their interval."""
    high = line.wrong_interval[1]
    return f"{line.wrong:,} of {line.decided:,} releases wrong, at most {high:.1%}"
