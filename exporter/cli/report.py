"""`chatqueue report`: the verdict on a deployment, from what Prometheus stored."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from exporter.cli import options
from exporter.config import Config, load_config, parse_duration
from exporter.errors import ChatqueueError

if TYPE_CHECKING:
    from exporter.ops.report.document import Report

CODES = {"pass": 0, "fail": 1, "unknown": 3}
REFUSED = 2
FORMATS = ("markdown", "html", "json")
_MOMENT_FORM = "a time with its zone such as 2026-11-23T08:00:00Z"
_POINTS = 240


def _read_moment(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Read a time with its zone, or refuse it with the form that is expected."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise click.BadParameter(f"{value!r} is not {_MOMENT_FORM}")


def _read_length(_: click.Context, __: click.Parameter, value: str | None) -> timedelta | None:
    """Read a duration above 0, or refuse it with the form that is expected."""
    if value is None:
        return None
    try:
        length = parse_duration(value)
    except ValueError:
        length = timedelta(0)
    if length <= timedelta(0):
        raise click.BadParameter(f"{value!r} is not a duration such as 24h or 1h30m")
    return length


@click.command()
@options.config_file
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="markdown",
    show_default=True,
    help="HTML is one file with plots, which needs nothing else.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Write to this file.  [default: standard output]",
)
@click.option(
    "--at",
    callback=_read_moment,
    help="Judge that moment of the watch.  [default: now, or its end]",
)
@click.option("--started-at", callback=_read_moment, help="In place of watch.started_at.")
@click.option("--for", "length", callback=_read_length, help="In place of watch.for.")
@click.option(
    "--database", "databases", multiple=True, help="Only this one; may be given repeatedly."
)
def report(
    config_file: Path,
    form: str,
    output: Path | None,
    at: datetime | None,
    started_at: datetime | None,
    length: timedelta | None,
    databases: tuple[str, ...],
) -> None:
    """Judge each success criterion of the watch by what Prometheus stored, and say why.

    Exit code 0: all pass. 1: one fails. 2: nothing could be judged. 3: one is not known.
    """
    try:
        config = load_config(config_file)
        started_at = started_at or config.watch.started_at
        if started_at is None:
            raise ChatqueueError("there is no watch, expected watch.started_at or --started-at")
        ends_at = started_at + (length or config.watch.for_)
        at = _choose(at, started_at, ends_at)
        chosen = _select(config, databases)
        made = _judge(config, chosen, started_at, ends_at, at)
        _write(made, form, output)
    except (ChatqueueError, OSError, OverflowError) as error:
        # Not main's exit code 1: a script would take it for a criterion that fails.
        _refuse(error)
    sys.exit(CODES[made.verdict])


def _refuse(error: Exception) -> NoReturn:
    click.echo(f"chatqueue: {error}", err=True)
    sys.exit(REFUSED)


def _choose(at: datetime | None, started_at: datetime, ends_at: datetime) -> datetime:
    """The moment to judge, within the watch and not in the future; whole seconds after it began."""
    now = datetime.now(UTC)
    moment = min(now, ends_at) if at is None else at
    if at is not None and not started_at < at <= ends_at:
        raise ChatqueueError(
            f"--at {at.isoformat()} is not within the watch, expected a time after "
            f"{started_at.isoformat()}, at most {ends_at.isoformat()}"
        )
    if moment > now:
        raise ChatqueueError(f"--at {moment.isoformat()} is in the future")
    passed_s = int((moment - started_at).total_seconds())
    if passed_s < 1:
        raise ChatqueueError(f"the watch begins at {started_at.isoformat()}: nothing to judge yet")
    return started_at + timedelta(seconds=passed_s)


def _select(config: Config, names: Sequence[str]) -> tuple[str, ...]:
    """The databases to judge: those named, or all."""
    unknown = [name for name in names if name not in config.databases]
    if unknown:
        listed = ", ".join(config.databases)
        raise ChatqueueError(f"--database {unknown[0]} is not configured, expected one of {listed}")
    return tuple(names or config.databases)


def _judge(
    config: Config,
    databases: Sequence[str],
    started_at: datetime,
    ends_at: datetime,
    at: datetime,
) -> Report:
    """Ask Prometheus everything."""
    from exporter.ops.report.advice import advise
    from exporter.ops.report.criteria import CRITERIA, Scope
    from exporter.ops.report.document import Report
    from exporter.ops.report.evaluation import judge
    from exporter.ops.report.prometheus import Client

    if config.prometheus.url is None:
        raise ChatqueueError("no Prometheus is configured, expected prometheus.url")
    # Escaped for a regular expression, and again for the string that holds it.
    names = "|".join(re.escape(name) for name in databases).replace("\\", "\\\\")
    window_s = int((at - started_at).total_seconds())
    scope = Scope(f'database=~"{names}"', started_at.timestamp(), window_s, _step_s(window_s))
    with Client(config.prometheus) as client:
        judged = judge(CRITERIA, client, scope)
    until = started_at + config.watch.rollback_within
    return Report(
        tuple(databases), started_at, ends_at, at, until, judged, advise(judged, at, until)
    )


def _step_s(window_s: int) -> int:
    """Between two points of a plot: whole minutes."""
    return max(60, round(window_s / _POINTS / 60) * 60)


def _write(made: Report, form: str, output: Path | None) -> None:
    """Render, and write in one go."""
    from exporter.ops.report.document import as_json
    from exporter.ops.report.markdown import render_markdown
    from exporter.ops.report.page import render_page

    if form == "json":
        text = json.dumps(as_json(made), indent=2, ensure_ascii=False) + "\n"
    elif form == "html":
        text = render_page(made, _step_s(int((made.at - made.started_at).total_seconds())))
    else:
        text = render_markdown(made)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
