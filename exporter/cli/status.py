"""`chatqueue status`: one look at the queue, as tables or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from exporter.cli import options
from exporter.cli.output import build_console, one_line
from exporter.config import Config, load_config
from exporter.database import Connection, check_dsn
from exporter.errors import ChatqueueError, DatabaseUnavailable
from exporter.ops.status import Status, as_json, build_status, unknown_status
from exporter.polling.plan import Plan, build_plans
from exporter.text import say_duration

CALM, CROSSED, CANNOT_TELL = 0, 1, 2

_COLOURS = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "magenta"}


@click.command()
@options.config_file
@options.as_json
def status(config_file: Path, as_json: bool) -> None:
    """Look at every queue once: states, waits, stuck chats, against the thresholds.

    Exit code 0: calm. 1: a threshold is crossed. 2: could not tell.
    """
    try:
        config = load_config(config_file, check_dsn=check_dsn)
        plans = build_plans(config)
    except ChatqueueError as error:
        # Not main's exit code 1: a script would take it for a crossed threshold.
        click.echo(f"chatqueue: {error}", err=True)
        sys.exit(CANNOT_TELL)
    statuses = [_look(plan, config) for plan in plans.values()]
    (_print_json if as_json else _print_tables)(statuses)
    sys.exit(_exit_code(statuses))


def _look(plan: Plan, config: Config) -> Status:
    """Ask one database everything, once."""
    connection = Connection(plan.dsn, connect_timeout_s=plan.connect_timeout_s)
    try:
        poll = connection.poll(plan.first_requests, plan.needs, plan.parameters)
    except DatabaseUnavailable as error:
        return unknown_status(plan.database, f"the database is unavailable: {error}")
    finally:
        connection.close()
    return build_status(plan.database, poll, config.thresholds)


def _exit_code(statuses: Sequence[Status]) -> int:
    """The worst of all; a crossed threshold outweighs what is not known."""
    verdicts = {status.verdict for status in statuses}
    if verdicts & {"warning", "critical"}:
        return CROSSED
    return CANNOT_TELL if "unknown" in verdicts else CALM


def _print_json(statuses: Sequence[Status]) -> None:
    """One document for all databases."""
    click.echo(json.dumps([as_json(status) for status in statuses], indent=2))


def _print_tables(statuses: Sequence[Status]) -> None:
    """Tables for people, thresholds coloured."""
    from rich.table import Table

    console = build_console()
    for status in statuses:
        colour = _COLOURS[status.verdict]
        console.print(f"[bold]{status.database}[/]: [{colour}]{status.verdict}[/]")
        if status.states:
            table = Table(box=None, pad_edge=False)
            for heading in ("state", "chats", "oldest", "overdue", "platform: stuck", ""):
                table.add_column(heading, justify="left" if heading in ("state", "") else "right")
            for line in status.states:
                table.add_row(
                    line.state,
                    _number(line.chats),
                    _age(line.oldest_age_s) if line.state != "completed" else "",
                    _number(line.overdue) if line.state != "completed" else "",
                    _number(line.platform_stuck),
                    _coloured(line.verdict),
                )
            console.print(table)
            console.print()
            table = Table("queue", box=None, pad_edge=False)
            table.add_column("", justify="right")
            table.add_column("")
            for figure in status.figures:
                show = {"seconds": _age, "ratio": _share}.get(figure.unit, _number)
                table.add_row(figure.name, show(figure.value), _coloured(figure.verdict))
            console.print(table)
        for problem in status.problems:
            # One line each, however narrow the terminal: it is searched for and passed on.
            console.print(f"[magenta]could not tell:[/] {one_line(problem)}", soft_wrap=True)
        console.print()


def _coloured(verdict: str) -> str:
    """A verdict in its colour; calm needs no word."""
    return "" if verdict == "ok" else f"[{_COLOURS[verdict]}]{verdict}[/]"


def _number(value: float | None) -> str:
    """A count, or a dash where it is not known."""
    return "-" if value is None else f"{value:,.0f}"


def _share(value: float | None) -> str:
    """A ratio in per cent."""
    return "-" if value is None else f"{value:.0%}"


def _age(seconds: float | None) -> str:
    """Seconds as people say them: the two largest units."""
    return "-" if seconds is None else say_duration(seconds)
