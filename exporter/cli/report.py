"""`chatqueue report`: the verdict on a deployment, from what Prometheus stored."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from exporter.cli import options
from exporter.config import Config, load_config
from exporter.config.watch import TIME_FORM, parse_time
from exporter.errors import ChatqueueError
from exporter.ops.report.advice import advise
from exporter.ops.report.answers import Answers, read_answers
from exporter.ops.report.criteria import CRITERIA, Scope
from exporter.ops.report.document import Report, as_json
from exporter.ops.report.evaluation import judge
from exporter.ops.report.markdown import render_markdown
from exporter.ops.report.page import render_page
from exporter.ops.report.prometheus import Client

CODES = {"pass": 0, "fail": 1, "unknown": 3}
REFUSED = 2
FORMATS = ("markdown", "html", "json")
_POINTS = 240


def _read_time(_: click.Context, __: click.Parameter, value: str | None) -> datetime | None:
    """Read a time with its zone, or refuse it with the form that is expected."""
    try:
        return None if value is None else parse_time(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}, expected {TIME_FORM}") from None


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
    "--at", callback=_read_time, help="Judge that time of the watch.  [default: now, or its end]"
)
@click.option("--started-at", callback=_read_time, help="In place of watch.started_at.")
@click.option("--for", "length", type=options.Span(), help="In place of watch.for.")
@click.option(
    "--database", "databases", multiple=True, help="Only this one; may be given repeatedly."
)
@click.option(
    "--answers",
    "answers_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="What people answered; `chatqueue answers FILE` asks and writes it.",
)
def report(
    config_file: Path,
    form: str,
    output: Path | None,
    at: datetime | None,
    started_at: datetime | None,
    length: timedelta | None,
    databases: tuple[str, ...],
    answers_file: Path | None,
) -> None:
    """Judge each success criterion of the watch by what Prometheus stored, and say why.

    What people answered stands beside it and changes no exit code.

    Exit code 0: all pass. 1: one fails. 2: nothing could be judged. 3: one is unknown.
    """
    try:
        config = load_config(config_file)
        answers = Answers() if answers_file is None else read_answers(answers_file)
        started_at = started_at or config.watch.started_at
        if started_at is None:
            raise ChatqueueError("there is no watch, expected watch.started_at or --started-at")
        ends_at = started_at + (length or config.watch.for_)
        at = _choose(at, started_at, ends_at)
        made = _judge(config, _select(config, databases), started_at, ends_at, at)
        _write(replace(made, answers=answers), form, output)
    except (ChatqueueError, OSError, OverflowError) as error:
        # Not main's exit code 1: a script would take it for a criterion that fails.
        click.echo(f"chatqueue: {error}", err=True)
        sys.exit(REFUSED)
    sys.exit(CODES[made.verdict])


def _choose(at: datetime | None, started_at: datetime, ends_at: datetime) -> datetime:
    """The time to judge, within the watch and not in the future; whole seconds after it began."""
    now = datetime.now(UTC)
    time = min(now, ends_at) if at is None else at
    if at is not None and not started_at < at <= ends_at:
        raise ChatqueueError(
            f"--at {at.isoformat()} is not within the watch, expected a time after "
            f"{started_at.isoformat()}, at most {ends_at.isoformat()}"
        )
    if time > now:
        raise ChatqueueError(f"--at {time.isoformat()} is in the future")
    passed_s = int((time - started_at).total_seconds())
    if passed_s < 1:
        raise ChatqueueError(f"the watch begins at {started_at.isoformat()}: nothing to judge yet")
    return started_at + timedelta(seconds=passed_s)


def _select(config: Config, names: Sequence[str]) -> tuple[str, ...]:
    """The databases to judge: those named, or all."""
    for name in names:
        options.pick_database(config.databases, name)
    return tuple(names or config.databases)


def _judge(
    config: Config,
    databases: Sequence[str],
    started_at: datetime,
    ends_at: datetime,
    at: datetime,
) -> Report:
    """Query everything from Prometheus."""
    if config.prometheus.url is None:
        raise ChatqueueError("no Prometheus is configured, expected prometheus.url")
    # Escaped for a regular expression, and again for the string that holds it.
    names = "|".join(re.escape(name) for name in databases).replace("\\", "\\\\")
    window_s = int((at - started_at).total_seconds())
    # Whole minutes between two points of a plot.
    step_s = max(60, round(window_s / _POINTS / 60) * 60)
    scope = Scope(f'database=~"{names}"', started_at.timestamp(), window_s, step_s)
    with Client(config.prometheus) as client:
        judged = judge(CRITERIA, client, scope)
    until = started_at + config.watch.rollback_within
    advice = advise(judged, at, until)
    return Report(tuple(databases), started_at, ends_at, at, until, judged, advice, step_s)


def _write(made: Report, form: str, output: Path | None) -> None:
    """Render, and write in one go."""
    if form == "json":
        text = json.dumps(as_json(made), indent=2, ensure_ascii=False) + "\n"
    else:
        text = render_page(made) if form == "html" else render_markdown(made)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
