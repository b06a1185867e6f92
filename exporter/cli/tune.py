"""`chatqueue tune`: the `stuck_after` that fits the platform's history. Read-only."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import click

from exporter.cli import options
from exporter.cli.output import print_json
from exporter.config import load_config
from exporter.database import check_dsn
from exporter.database.session import Session
from exporter.errors import ChatqueueError

# What release.stuck_after accepts.
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=7)
DEFAULT_MINUTES = (2, 3, 4, 5, 7, 10, 12, 15, 20, 25, 30, 45, 60)


@click.command()
@options.config_file
@options.database
@click.option(
    "--days",
    default=14,
    show_default=True,
    type=click.IntRange(1, 366),
    help="How far to look back.",
)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    type=options.Span(),
    help="A value of stuck_after to try; may be given more than once.  [default: 2m to 60m]",
)
@click.option(
    "--max-wrong",
    default=0.05,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="The share of wrong releases to stay below, with 95 % confidence.",
)
@click.option(
    "--png",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Draw the table into this file; needs matplotlib.",
)
@options.as_json
def tune(
    config_file: Path,
    name: str | None,
    days: int,
    thresholds: Sequence[timedelta],
    max_wrong: float,
    png: Path | None,
    as_json: bool,
) -> None:
    """Find the right release.stuck_after in the history. Read-only.

    For each value: how many chats per day would have been released, how many of their operators
    answered later (wrong releases), how many chats the platform would have closed, and how much
    shorter users would have waited. docs/tune.md explains the method.
    """
    if any(not SHORTEST <= span <= LONGEST for span in thresholds):
        raise click.BadParameter("expected 1m to 7d", param_hint="--threshold")
    write_plot = None if png is None else _find_plotter(png)
    config = load_config(config_file, check_dsn=check_dsn)
    database, section = options.pick_database(config.databases, name)
    stuck_after = config.release.stuck_after
    spans = thresholds or [timedelta(minutes=minutes) for minutes in DEFAULT_MINUTES]
    from exporter.ops.tune.report import build_report

    session = Session(
        section.dsn.get_secret_value(),
        connect_timeout_s=config.poll.connect_timeout.total_seconds(),
        program="chatqueue-tune",
    )
    try:
        with session, _show_progress() as on_progress:
            report = build_report(
                session,
                database,
                days=days,
                thresholds_s=sorted({span.total_seconds() for span in (*spans, stuck_after)}),
                configured_s=stuck_after.total_seconds(),
                max_wrong=max_wrong,
                on_progress=on_progress,
            )
    except ChatqueueError as error:
        raise ChatqueueError(f"{database}: {error}") from error
    if as_json:
        print_json(report.as_json())
    else:
        from exporter.cli.tune_view import print_report

        print_report(report)
    if png is not None and write_plot is not None:
        try:
            write_plot(report, png)
        except OSError as error:
            raise ChatqueueError(f"--png {png}: {error.strerror or error}") from error


def _find_plotter(png: Path) -> Callable[..., None]:
    """The function that draws, imported before anything is read."""
    try:
        from exporter.cli.tune_plot import write_plot
    except ModuleNotFoundError as error:
        raise ChatqueueError(
            "--png needs matplotlib, which is not installed, "
            "expected pip install 'chatqueue-exporter[plot]'"
        ) from error
    if not png.parent.is_dir():
        raise ChatqueueError(f"--png {png}: there is no folder {png.parent}")
    return write_plot


@contextlib.contextmanager
def _show_progress() -> Iterator[Callable[[float], None]]:
    """A progress bar on a terminal; nothing anywhere else."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Reading the history", total=1.0)
        yield lambda part: progress.update(task, completed=part)
