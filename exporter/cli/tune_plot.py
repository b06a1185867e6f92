"""The report of `chatqueue tune` as a picture. Importing this needs matplotlib."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from exporter.ops.tune.advice import Verdict
from exporter.ops.tune.report import Report


def write_plot(report: Report, file: Path) -> None:
    """Draw releases per day, and the share of wrong ones with its interval, over the thresholds.

    Raises:
        OSError: The file cannot be written.
    """
    lines, days = report.tally.lines, report.extent.days
    minutes = [line.threshold_s / 60 for line in lines]
    figure = Figure(figsize=(9, 7), layout="constrained")
    counts, shares = figure.subplots(2, 1, sharex=True)
    counts.plot(minutes, [line.releases / days for line in lines], "o-", label="all")
    counts.plot(minutes, [line.wrong / days for line in lines], "s-", label="wrong")
    counts.set_ylabel("releases per day")
    decided = [line for line in lines if line.decided]
    if decided:
        at = [line.threshold_s / 60 for line in decided]
        ratios = [line.wrong_ratio or 0.0 for line in decided]
        ends = [line.wrong_interval for line in decided]
        reaches = (
            [ratio - low for ratio, (low, _) in zip(ratios, ends, strict=True)],
            [high - ratio for ratio, (_, high) in zip(ratios, ends, strict=True)],
        )
        shares.errorbar(at, ratios, yerr=reaches, fmt="o", capsize=3, label="wrong, 95 %")
    shares.axhline(report.max_wrong, linestyle="--", label="allowed")
    shares.set_ylabel("share of wrong releases")
    shares.yaxis.set_major_formatter(PercentFormatter(xmax=1))
    shares.set_ylim(0, 1)
    shares.set_xlabel("stuck_after, minutes")
    advice = report.advice
    for axes in (counts, shares):
        if advice.verdict is Verdict.RECOMMENDED and advice.line is not None:
            axes.axvline(advice.line.threshold_s / 60, linestyle=":", label="recommended")
        axes.legend()
        axes.grid(alpha=0.3)
    figure.suptitle(f"{report.database}: releases that would have happened")
    figure.savefig(file, format="png", dpi=120)
