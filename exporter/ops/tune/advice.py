"""Which threshold the history speaks for, and how surely. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from exporter.ops.tune.tally import Line, Tally

Z = 1.959963984540054
"""Of the normal distribution, for an interval of 95 %."""


class Verdict(StrEnum):
    """Whether there is a threshold to recommend."""

    RECOMMENDED = "recommended"
    NOT_ENOUGH = "not_enough_history"
    """A threshold looks good enough, but on too few releases to be sure."""
    NONE = "none_qualifies"
    UNUSED = "nothing_to_release"


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, and why in a sentence.

    Attributes:
        verdict: Whether there is one.
        line: The line that speaks for it: the recommended one, or the one that comes closest.
        why: For people.
    """

    verdict: Verdict
    line: Line | None
    why: str


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """Return the Wilson score interval (95 %) of a share; all of 0 to 1 without trials."""
    if trials == 0:
        return 0.0, 1.0
    share, square = hits / trials, Z * Z / trials
    middle = share + square / 2
    reach = Z * math.sqrt(share * (1 - share) / trials + square / trials / 4)
    low, high = (middle - reach) / (1 + square), (middle + reach) / (1 + square)
    # Rounding must not make an end of the scale a little more or less than it is.
    return (0.0 if hits == 0 else low), (1.0 if hits == trials else high)


def count_needed(max_wrong: float) -> int:
    """Return how many releases, none of them wrong, it takes to get below that share."""
    return math.ceil(Z * Z * (1 - max_wrong) / max_wrong)


def advise(tally: Tally, max_wrong: float) -> Advice:
    """Return the shortest threshold whose share of wrong releases is surely small enough.

    Args:
        tally: The counts.
        max_wrong: The share that the upper end of the interval may reach; above 0, below 1.
    """
    decided = [line for line in tally.lines if line.decided]
    if not decided:
        return Advice(Verdict.UNUSED, None, _explain_unused(tally))
    limit = f"{max_wrong:.1%}"
    for line in decided:
        if wilson_interval(line.wrong, line.decided)[1] <= max_wrong:
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
    """Why no line decides anything."""
    if not tally.episodes:
        return "there is no assignment in this time"
    if any(line.undecided for line in tally.lines):
        return "every chat that would have been released is still with its operator"
    return "no operator was silent for so long with a chat in hand"


def _describe(line: Line) -> str:
    """A line's wrong releases and their interval."""
    high = wilson_interval(line.wrong, line.decided)[1]
    return f"{line.wrong:,} of {line.decided:,} releases wrong, at most {high:.1%}"
