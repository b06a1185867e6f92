"""The report of one database: what was read, what was counted, and the advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from exporter.database.session import Session
from exporter.ops.tune.advice import Advice, advise
from exporter.ops.tune.history import Extent, LeftOut, read_episodes, read_extent
from exporter.ops.tune.tally import Line, Tally, count_episodes


@dataclass(frozen=True, slots=True)
class Report:
    """The result of reading one database's history.

    Attributes:
        database: Its name in the configuration.
        configured_s: `release.stuck_after` as configured.
        max_wrong: The share of wrong releases that was allowed.
        extent: What was read.
        left_out: What was not counted.
        tally: What was counted.
        advice: Which threshold to choose.
    """

    database: str
    configured_s: float
    max_wrong: float
    extent: Extent
    left_out: LeftOut
    tally: Tally
    advice: Advice

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data; seconds, days and ratios."""
        line = self.advice.line
        return {
            "database": self.database,
            "now": self.extent.now_at.isoformat(),
            "since": self.extent.since_at.isoformat(),
            "history_days": self.extent.days,
            "assignments": self.tally.episodes,
            "left_out": {**asdict(self.left_out), "without_time": self.extent.without_time},
            "max_reassignments": self.extent.max_reassignments,
            "configured_seconds": self.configured_s,
            "max_wrong_ratio": self.max_wrong,
            "thresholds": [_line_as_json(line, self.extent.days) for line in self.tally.lines],
            "advice": {
                "verdict": str(self.advice.verdict),
                "threshold_seconds": None if line is None else line.threshold_s,
                "why": self.advice.why,
            },
        }


def build_report(
    session: Session,
    database: str,
    *,
    days: int,
    thresholds_s: Sequence[float],
    configured_s: float,
    max_wrong: float,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Report:
    """Read the history and judge it.

    Args:
        session: A role that may read the platform's tables.
        database: Its name in the configuration.
        days: How far back.
        thresholds_s: What to try, in any order; at least one, above 0.
        configured_s: `release.stuck_after` as configured.
        max_wrong: The share of wrong releases that is allowed; above 0, below 1.
        on_progress: Called after each page with the part that is read, from 0 to 1.

    Raises:
        HistoryHidden: The role may not see all rows, or a relation is missing.
        DatabaseError: It cannot be read.
    """
    extent = read_extent(session, days)
    left_out = LeftOut()
    episodes = read_episodes(
        session, extent, left_out, shortest_s=min(thresholds_s), on_progress=on_progress
    )
    tally = count_episodes(episodes, thresholds_s, extent.now_s, extent.max_reassignments)
    advice = advise(tally, max_wrong)
    return Report(database, configured_s, max_wrong, extent, left_out, tally, advice)


def _line_as_json(line: Line, days: float) -> dict[str, Any]:
    """A line of the table."""
    low, high = line.wrong_interval
    return {
        "threshold_seconds": line.threshold_s,
        "releases": line.releases,
        "releases_per_day": line.releases / days,
        "right": line.right,
        "wrong": line.wrong,
        "undecided": line.undecided,
        "would_close": line.closing,
        "wrong_ratio": line.wrong_ratio,
        "wrong_ratio_low": low,
        "wrong_ratio_high": high,
        "saved_seconds": line.saved_s,
        "saved_seconds_per_day": line.saved_s / days,
    }
