"""`chatqueue watch`: the queues and their changes, live in the terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from exporter.cli import options
from exporter.cli.output import build_console
from exporter.cli.page import fetch_families
from exporter.config import load_config
from exporter.config.watch import Watch
from exporter.digests.account import Account
from exporter.digests.digest import find_changes, find_figures, find_troubles, format_change
from exporter.digests.memory import read_memory
from exporter.errors import ChatqueueError
from exporter.metrics.figures import read_figures
from exporter.text import format_duration, format_time, format_value

CALM, LOOK, UNKNOWN = 0, 1, 2
_BARS = "▁▂▃▄▅▆▇█"
_SPARK_LENGTH = 24
_BAR_LENGTH = 48


@dataclass(slots=True)
class View:
    """What was seen of one database.

    Attributes:
        account: Its values.
        history: Of each value, the latest readings.
    """

    account: Account
    history: dict[str, deque[float]] = field(default_factory=dict)


@click.command()
@options.config_file
@click.option(
    "--url",
    default="http://localhost:10847/metrics",
    show_default=True,
    help="The daemon's page.",
)
@click.option(
    "--interval",
    type=click.FloatRange(1, 3600),
    default=5,
    show_default=True,
    help="Seconds between two readings.",
)
@click.option("--once", is_flag=True, help="Print once and exit, for scripts.")
def watch(config_file: Path, url: str, interval: float, once: bool) -> None:
    """Follow the deployment watch until Ctrl-C; without watch.started_at, the queues as they are.

    Changes are since the watch began where watch.digests.state_file can be read here, else since
    this command started. Exit code with --once 0: calm. 1: something needs a look. 2: unknown.
    """
    try:
        config = load_config(config_file)
        views = _read_state(config.watch)
        troubles = collect(views, url, interval)
    except ChatqueueError as error:
        click.echo(f"chatqueue: {error}", err=True)
        sys.exit(UNKNOWN)
    if once:
        build_console().print(render(views, config.watch, troubles))
        sys.exit(LOOK if troubles else CALM)
    with suppress(KeyboardInterrupt):
        _follow(views, config.watch, troubles, url, interval)


def _read_state(watch: Watch) -> dict[str, View]:
    """The daemon's own state of the watch, if it can be read here."""
    file, started_at = watch.digests.state_file, watch.started_at
    if file is None or started_at is None:
        return {}
    try:
        memory = read_memory(file, started_at)
    except ValueError as error:
        click.echo(f"chatqueue: {file} {error}; changes are since now", err=True)
        return {}
    return {name: View(account) for name, account in memory.accounts.items()} if memory else {}


def _follow(
    views: dict[str, View], watch: Watch, troubles: Sequence[str], url: str, interval_s: float
) -> None:
    """Draw until interrupted; while the page cannot be read, say so and try again."""
    with Live(
        render(views, watch, troubles), console=Console(highlight=False), auto_refresh=False
    ) as live:
        while True:
            time.sleep(interval_s)
            try:
                troubles = collect(views, url, interval_s)
            except ChatqueueError as error:
                troubles = [str(error)]
            live.update(render(views, watch, troubles), refresh=True)


def collect(views: dict[str, View], url: str, timeout_s: float) -> list[str]:
    """Read the page into the views; return what somebody should look at."""
    pages = fetch_families(url, max(timeout_s, 1.0))
    if not pages:
        raise ChatqueueError(f"{url} has no metrics of a database")
    troubles = []
    for database, families in pages.items():
        view = views.setdefault(database, View(Account()))
        view.account = view.account.update(read_figures(families))
        for key, value in view.account.now.items():
            view.history.setdefault(key, deque(maxlen=_SPARK_LENGTH)).append(value)
        troubles += [f"{database}: {trouble}" for trouble in find_troubles(view.account)]
    return troubles


def render(views: Mapping[str, View], watch: Watch, troubles: Sequence[str]) -> RenderableType:
    """Return everything as one screen."""
    verdict = (
        Text("look at " + ", ".join(troubles), style="bold red")
        if troubles
        else Text("calm", style="green")
    )
    tables = (_table(name, view, watch) for name, view in views.items())
    return Group(*_progress(watch), verdict, *tables)


def _progress(watch: Watch) -> Iterator[RenderableType]:
    """How far the watch is, and how long a rollback is possible."""
    begun, ends, until = watch.started_at, watch.ends_at, watch.rollback_until
    if begun is None or ends is None or until is None:
        yield Text("no deployment watch (watch.started_at)", style="dim")
        return
    now = datetime.now(UTC)
    passed = min(max(now - begun, timedelta(0)), watch.for_)
    if now < begun:
        words = f"begins at {format_time(begun)}"
    elif now < ends:
        length = format_duration(watch.for_, rounded=True)
        words = f"{format_duration(passed, rounded=True)} of {length} watched"
    else:
        words = f"over since {format_time(ends)}"
    rollback = "too late to roll back"
    if now < until:
        rollback = f"rollback possible for {format_duration(until - now, rounded=True)} more"
    yield Text(f"{words}; {rollback}", style="bold")
    done = round(passed / watch.for_ * _BAR_LENGTH)
    yield Text("█" * done + "░" * (_BAR_LENGTH - done), style="blue")


def _table(database: str, view: View, watch: Watch) -> RenderableType:
    """One database's values; those that are idle are left out, as in a digest."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(database, header_style="bold")
    columns = ("last digest", "beginning") if watch.started_at else ("since opened",)
    for heading in ("", "now", *columns):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    table.add_column("")
    for group, figures in find_figures(view.account):
        if not figures:
            table.add_row(group, "none", style="dim")
        for index, figure in enumerate(figures):
            changes = find_changes(figure, view.account)[: len(columns)]
            table.add_row(
                "" if index else group,
                figure.words,
                format_value(view.account.now.get(figure.key), figure.unit),
                *(format_change(figure, change) if change else "" for change in changes),
                draw_sparkline(view.history.get(figure.key, ())),
            )
    return table


def draw_sparkline(values: Iterable[float]) -> str:
    """Return a bar per value, from the smallest to the largest; a flat line where all are equal."""
    numbers = list(values)
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    if high == low:
        return _BARS[0] * len(numbers)
    top = len(_BARS) - 1
    return "".join(_BARS[round((number - low) / (high - low) * top)] for number in numbers)
