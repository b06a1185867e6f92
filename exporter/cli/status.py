"""`chatqueue status`: every queue as it is now, as tables or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from exporter.cli import options
from exporter.cli.output import build_console, one_line
from exporter.config import load_config
from exporter.config.shard import Shard
from exporter.database import Connection, check_dsn
from exporter.errors import ChatqueueError, DatabaseUnavailable
from exporter.metrics.figures import STATE_FIGURES
from exporter.ops.status import Status, Value, as_json, build_status, unknown_status, worst
from exporter.polling.plan import Plan, build_plans
from exporter.text import format_value

CALM, CROSSED, UNKNOWN = 0, 1, 2

_COLOURS = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "magenta"}


@click.command()
@options.config_file
@options.shard
@options.as_json
def status(config_file: Path, shard: Shard | None, as_json: bool) -> None:
    """Show every queue once: states, waits, stuck chats, judged by the thresholds.

    Exit code 0: calm. 1: a threshold is crossed. 2: unknown.
    """
    try:
        config = load_config(config_file, check_dsn=check_dsn, shard=shard)
        plans = build_plans(config)
    except ChatqueueError as error:
        # Not main's exit code 1: a script would take it for a crossed threshold.
        click.echo(f"chatqueue: {error}", err=True)
        sys.exit(UNKNOWN)
    statuses = [_poll(plan) for plan in plans.values()]
    (_print_json if as_json else _print_tables)(statuses)
    sys.exit(_exit_code(statuses))


def _poll(plan: Plan) -> Status:
    """Ask one database everything, once."""
    connection = Connection(plan.dsn, connect_timeout_s=plan.connect_timeout_s)
    try:
        poll = connection.poll(plan.first_requests, plan.needs, plan.parameters)
    except DatabaseUnavailable as error:
        return unknown_status(plan.database, f"the database is unavailable: {error}")
    finally:
        connection.close()
    return build_status(plan.database, poll, plan.thresholds)


def _exit_code(statuses: Sequence[Status]) -> int:
    """The worst of all; a crossed threshold outweighs what is unknown."""
    verdicts = {status.verdict for status in statuses}
    if verdicts & {"warning", "critical"}:
        return CROSSED
    return UNKNOWN if "unknown" in verdicts else CALM


def _print_json(statuses: Sequence[Status]) -> None:
    """One document for all databases."""
    click.echo(json.dumps([as_json(status) for status in statuses], indent=2))


def _print_tables(statuses: Sequence[Status]) -> None:
    """Tables for people, thresholds coloured."""
    console = build_console()
    for status in statuses:
        colour = _COLOURS[status.verdict]
        console.print(f"[bold]{status.database}[/]: [{colour}]{status.verdict}[/]")
        if status.states:
            table = Table("state", box=None, pad_edge=False)
            for figure in STATE_FIGURES:
                table.add_column(figure.words, justify="right")
            table.add_column("")
            for state, values in status.states.items():
                shown = [_format(value, state) for value in values]
                table.add_row(state, *shown, _coloured(worst(values)))
            console.print(table)
            console.print()
            table = Table("queue", box=None, pad_edge=False)
            table.add_column("", justify="right")
            table.add_column("")
            for value in status.values:
                table.add_row(value.figure.words, _format(value), _coloured(value.verdict))
            console.print(table)
        for problem in status.problems:
            # One line each, however narrow the terminal: it is searched for and passed on.
            console.print(f"[magenta]unknown:[/] {one_line(problem)}", soft_wrap=True)
        console.print()


def _format(value: Value, state: str = "") -> str:
    """A value in its unit; a completed chat has no age."""
    if value.value is None and state == "completed":
        return ""
    return format_value(value.value, value.figure.unit)


def _coloured(verdict: str) -> str:
    """A verdict in its colour; calm needs no word."""
    return "" if verdict == "ok" else f"[{_COLOURS[verdict]}]{verdict}[/]"
