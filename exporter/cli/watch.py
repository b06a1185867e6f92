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
from exporter.config import Config, load_config
from exporter.config.watch import Watch, WatchTimes
from exporter.database.session import Session
from exporter.digests.account import Account
from exporter.digests.digest import find_changes, find_figures, find_troubles, format_change
from exporter.digests.memory import read_memory
from exporter.errors import ChatqueueError
from exporter.metrics.figures import read_figures
from exporter.metrics.snapshot import Family
from exporter.release import admin
from exporter.text import format_duration, format_time, format_value

CALM, LOOK, UNKNOWN = 0, 1, 2
_BARS = "▁▂▃▄▅▆▇█"
_SPARK_LENGTH = 24
_BAR_LENGTH = 48
_TIMES = ("started", "ends", "rollback_until")


@dataclass(slots=True)
class View:
    """What was seen of one database.

    Attributes:
        account: Its values.
        history: Of each value, the latest readings.
    """

    account: Account
    history: dict[str, deque[float]] = field(default_factory=dict)


@click.group(invoke_without_command=True)
@options.config_file_if_any
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
@click.pass_context
def watch(context: click.Context, config_file: Path, url: str, interval: float, once: bool) -> None:
    """Follow the deployment watch until Ctrl-C; without one, the queues as they are.

    Changes are since the watch began where watch.digests.state_file can be read here, else since
    this command started. Exit code with --once 0: calm. 1: something needs a look. 2: unknown.
    """
    if context.invoked_subcommand is not None:
        given = {"config_file": str(config_file)} if config_file.exists() else {}
        context.default_map = {context.invoked_subcommand: given}
        return
    options.require_config_file(context, config_file)
    try:
        configured = load_config(config_file).watch
        pages = _fetch(url, interval)
        in_force = _find_watch(configured, pages)
        views = _read_state(in_force)
        troubles = collect(views, pages)
    except ChatqueueError as error:
        click.echo(f"chatqueue: {error}", err=True)
        sys.exit(UNKNOWN)
    if once:
        build_console().print(render(views, in_force, troubles))
        sys.exit(LOOK if troubles else CALM)
    with suppress(KeyboardInterrupt):
        _follow(views, configured, troubles, url, interval)


@watch.command()
@options.config_file
@options.database
@click.option("--at", callback=options.read_time, help="When it begins or began.  [default: now]")
@click.option("--for", "length", type=options.Span(), help="In place of watch.for.")
@click.option("--rollback-within", type=options.Span(), help="In place of watch.rollback_within.")
@options.by
@options.dsn_from
def start(
    config_file: Path,
    name: str | None,
    at: datetime | None,
    length: timedelta | None,
    rollback_within: timedelta | None,
    by: str,
    dsn_from: str | None,
) -> None:
    """Begin the watch without editing the configuration; every daemon sees it at its next poll.

    It is kept in the schema chatqueue of the database, by a role that may write there:
    release_dsn, or --dsn-from. The 24 hours before are what the report compares with.
    """
    config = load_config(config_file)
    span, within = length or config.watch.for_, rollback_within or config.watch.rollback_within
    database, session = _open(config, name, dsn_from)
    with session:
        times = admin.start_watch(session, at, span, within, by)
    click.echo(f"{database}: the watch is from {format_time(times.started_at)}", nl=False)
    click.echo(f" to {format_time(times.ends_at)}")
    click.echo(f"rollback possible until {format_time(times.rollback_until)}")


@watch.command()
@options.config_file
@options.database
@options.by
@options.dsn_from
def stop(config_file: Path, name: str | None, by: str, dsn_from: str | None) -> None:
    """End the watch that `start` began; what it saw can still be judged by `report`."""
    database, session = _open(load_config(config_file), name, dsn_from)
    with session:
        stopped = admin.stop_watch(session, by)
    if stopped is None:
        raise ChatqueueError(
            f"{database}: no watch is running that was started by chatqueue watch start"
        )
    begun, ended = map(format_time, stopped)
    click.echo(f"{database}: the watch since {begun} ended at {ended}")


def _open(config: Config, name: str | None, variable: str | None) -> tuple[str, Session]:
    """The database that is meant and a session of a role that may write there."""
    database, _ = options.pick_database(config.databases, name)
    timeout_s = config.poll.connect_timeout.total_seconds()
    dsn = options.read_writing_dsn(config, database, variable)
    return database, Session(dsn, connect_timeout_s=timeout_s)


def _fetch(url: str, timeout_s: float) -> Mapping[str, tuple[Family, ...]]:
    """The families of each database on the page."""
    pages = fetch_families(url, max(timeout_s, 1.0))
    if not pages:
        raise ChatqueueError(f"{url} has no metrics of a database")
    return pages


def _find_watch(configured: Watch, pages: Mapping[str, tuple[Family, ...]]) -> Watch:
    """The watch that the daemon has in force, which a command may have started."""
    names = (f"chatqueue_watch_{name}_timestamp_seconds" for name in _TIMES)
    shown = {family.name: family for family in next(iter(pages.values()))}
    times = [shown[name].samples[0].value for name in names if name in shown]
    if len(times) < len(_TIMES):
        return configured
    return configured.at_times(WatchTimes(*(datetime.fromtimestamp(s, UTC) for s in times)))


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
    views: dict[str, View], configured: Watch, troubles: Sequence[str], url: str, interval_s: float
) -> None:
    """Draw until interrupted; while the page cannot be read, say so and try again."""
    watch = configured
    with Live(
        render(views, watch, troubles), console=Console(highlight=False), auto_refresh=False
    ) as live:
        while True:
            time.sleep(interval_s)
            try:
                pages = _fetch(url, interval_s)
                watch = _find_watch(configured, pages)
                troubles = collect(views, pages)
            except ChatqueueError as error:
                troubles = [str(error)]
            live.update(render(views, watch, troubles), refresh=True)


def collect(views: dict[str, View], pages: Mapping[str, tuple[Family, ...]]) -> list[str]:
    """Take the page into the views; return what somebody should look at."""
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
        yield Text("no deployment watch (chatqueue watch start)", style="dim")
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
