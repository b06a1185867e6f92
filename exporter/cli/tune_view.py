"""The report of `chatqueue tune` for people: a table, bars, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from exporter.cli.output import build_console, one_line
from exporter.ops.tune.advice import Verdict
from exporter.ops.tune.report import Report
from exporter.ops.tune.tally import Line
from exporter.text import format_duration, format_number, format_value

_HEADLINES = {
    Verdict.RECOMMENDED: "[green]recommended[/]",
    Verdict.NOT_ENOUGH: "[yellow]not enough history[/]",
    Verdict.NONE: "[yellow]no threshold qualifies[/]",
    Verdict.UNUSED: "[yellow]nothing would have been released[/]",
}
_MOST_BAR = 56


def print_report(report: Report) -> None:
    """Print everything, in at most 80 columns where the terminal has no more."""
    console = build_console()
    extent = report.extent
    console.print(
        f"[bold]{one_line(report.database)}[/]: {report.tally.episodes:,} assignments in "
        f"{_days(extent.days)}, read at {extent.now_at:%Y-%m-%d %H:%M %Z}\n",
        soft_wrap=True,
    )
    console.print(_table(report))
    if any(line.releases for line in report.tally.lines):
        console.print()
        _print_bars(console, report.tally.lines)
    console.print()
    for note in _notes(report):
        console.print(one_line(note), soft_wrap=True)
    headline = f"{_HEADLINES[report.advice.verdict]}: {one_line(_advise(report))}"
    console.print(f"\n{headline}", soft_wrap=True)


def _table(report: Report) -> Table:
    """A line for each threshold."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("stuck_after", no_wrap=True)
    for heading in ("a day", "wrong", "of", "share", "at most", "closes", "open", "saved/day"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in report.tally.lines:
        mark = " *" if line.threshold_s == report.configured_s else ""
        table.add_row(
            _span(line.threshold_s) + mark,
            format_number(line.releases / report.extent.days),
            f"{line.wrong:,}",
            f"{line.decided:,}",
            "-" if line.wrong_ratio is None else f"{line.wrong_ratio:.1%}",
            f"{line.wrong_interval[1]:.1%}" if line.decided else "-",
            "?" if line.closing is None else f"{line.closing:,}",
            f"{line.undecided:,}",
            format_value(line.saved_s / report.extent.days, "seconds"),
        )
    return table


def _print_bars(console: Console, lines: tuple[Line, ...]) -> None:
    """A bar for each threshold: right, wrong and undecided releases."""
    most = max(line.releases for line in lines)
    width = _MOST_BAR
    console.print("[green]█[/] right  [red]▒[/] wrong  [dim]░[/] still open")
    for line in lines:
        bar = Text(f"{_span(line.threshold_s):>8}  ")
        # Ends rather than lengths are rounded, so that no bar is longer than its sum.
        ends = [0, line.right, line.decided, line.releases]
        cells = [round(width * end / most) for end in ends]
        for glyph, style, before, after in zip(
            "█▒░", ("green", "red", "dim"), cells, cells[1:], strict=False
        ):
            bar.append(glyph * (after - before), style)
        console.print(bar)


def _notes(report: Report) -> Iterator[str]:
    """What must be known to read the table."""
    extent, left_out = report.extent, report.left_out
    yield f"* is the configured value. At most: upper end of the 95 % interval. {_METHOD}"
    if extent.max_reassignments is None:
        yield (
            f"max_reassignments is {extent.limit_text}, expected a whole number: it is unknown "
            "which chats the platform would close, and its release fails on it."
        )
    counts = (
        (left_out.end_unknown, "whose end is unknown"),
        (left_out.names_nobody, "without a chat or an operator"),
        (extent.without_time, "without a time"),
    )
    found = [f"{count:,} {what}" for count, what in counts if count]
    if found:
        yield f"Left out are assignments: {', '.join(found)}."


_METHOD = (
    "Past heartbeats are not kept, so an operator who was there and only wrote late counts as "
    "silent: releases and wrong ones are upper bounds."
)


def _advise(report: Report) -> str:
    """The advice in words."""
    advice = report.advice
    if advice.line is None:
        return f"{advice.why}. Stay in observe."
    if advice.verdict is Verdict.RECOMMENDED:
        return f"{_span(advice.line.threshold_s)}, {advice.why}."
    return f"the best is {_span(advice.line.threshold_s)}, {advice.why}. Stay in observe."


def _span(seconds: float) -> str:
    """A threshold as the configuration writes it."""
    return format_duration(timedelta(seconds=seconds))


def _days(days: float) -> str:
    """How much history there is."""
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.1f} hours"
