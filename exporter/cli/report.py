"""`chatqueue report`: the verdict on a deployment, from what Prometheus stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import click

from exporter.cli import options
from exporter.config import Config, load_config
from exporter.errors import ChatqueueError
from exporter.ops.report.answers import Answers, read_answers
from exporter.ops.report.document import Report, as_json
from exporter.ops.report.making import find_watch, make_report
from exporter.ops.report.markdown import render_markdown
from exporter.ops.report.page import render_page

CODES = {"pass": 0, "fail": 1, "unknown": 3}
REFUSED = 2
FORMATS = ("markdown", "html", "json")


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
    callback=options.read_time,
    help="Judge that time of the watch.  [default: now, or its end]",
)
@click.option("--started-at", callback=options.read_time, help="In place of the watch in force.")
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
        names = _select(config, databases)
        watch = find_watch(config) if started_at is None else config.watch
        watch = watch.model_copy(
            update={"started_at": started_at or watch.started_at, "for_": length or watch.for_}
        )
        made = make_report(config, names, watch, at)
        _write(replace(made, answers=answers), form, output)
    except (ChatqueueError, OSError, OverflowError) as error:
        # Not main's exit code 1: a script would take it for a criterion that fails.
        click.echo(f"chatqueue: {error}", err=True)
        sys.exit(REFUSED)
    sys.exit(CODES[made.verdict])


def _select(config: Config, names: Sequence[str]) -> tuple[str, ...]:
    """The databases to judge: those named, or all."""
    for name in names:
        options.pick_database(config.databases, name)
    return tuple(names or config.databases)


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
