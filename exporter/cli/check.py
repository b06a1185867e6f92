"""`chatqueue check-config`: is the configuration valid, and does every query work with it?"""

from __future__ import annotations

import contextlib
import datetime
import sys
from pathlib import Path

import click

from exporter.cli import options
from exporter.cli.output import build_console, build_table, one_line, print_json
from exporter.config import load_config
from exporter.config.shard import Shard
from exporter.database import Connection, Outcome, check_dsn
from exporter.errors import DatabaseError, DatabaseUnavailable
from exporter.metrics.events import families_of
from exporter.polling.plan import Plan, build_plans, load_queries


def _print_schema(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    """Print the schema and end, before a configuration is loaded."""
    if value:
        from exporter.config.schema import config_schema

        print_json(config_schema())
        ctx.exit()


@click.command("check-config")
@options.config_file
@options.shard
@click.option(
    "--live",
    is_flag=True,
    help="Connect to every database, run every query read-only and print its result.",
)
@click.option(
    "--print-schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of the configuration for an editor.",
)
def check_config(config_file: Path, shard: Shard | None, live: bool) -> None:
    """Check the configuration and every query's files.

    Exit code 0: all is valid. 1: something must be changed, and is named.
    """
    config = load_config(config_file, check_dsn=check_dsn, shard=shard)
    plans = build_plans(config)
    queries = len(load_queries(config))
    databases = _count(len(plans), "database", "databases")
    counted = f"{databases}, {_count(queries, 'query', 'queries')}"
    click.echo(f"{config_file}: {counted}, configuration is valid")
    if live:
        verdicts = [_check_database(plan) for plan in plans.values()]
        sys.exit(0 if all(verdicts) else 1)


def _count(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else many}"


def _check_database(plan: Plan) -> bool:
    """Run every query once and print one line each; return whether all worked."""
    console = build_console()
    connection = Connection(plan.dsn, connect_timeout_s=plan.connect_timeout_s)
    with contextlib.closing(connection):
        try:
            poll = connection.poll(plan.first_requests, plan.needs, plan.parameters)
        except DatabaseUnavailable as error:
            text = f"\n[bold]{plan.database}[/]: [red]unavailable[/]: {one_line(error)}"
            console.print(text, soft_wrap=True)
            return False
    version = f"{poll.version_num // 10000}.{poll.version_num % 10000}"
    role = "standby" if poll.in_recovery else "primary"
    table = build_table("query", "rows", "columns", "time", "verdict")
    verdicts = [_judge(outcome, poll.began_at) for outcome in poll.outcomes]
    for outcome, (succeeded, text) in zip(poll.outcomes, verdicts, strict=True):
        table.add_row(
            outcome.query.name,
            str(len(outcome.rows)) if succeeded else "-",
            str(len(outcome.columns)) if succeeded else "-",
            f"{outcome.duration_s * 1000:.1f} ms",
            f"[green]{text}[/]" if succeeded else "[red]failed[/]",
        )
    console.print(f"\n[bold]{plan.database}[/]: PostgreSQL {version}, {role}")
    console.print(table)
    # Below the table and on one line each: a cell would break them wherever the terminal ends.
    for outcome, (succeeded, text) in zip(poll.outcomes, verdicts, strict=True):
        if not succeeded:
            problem = f"[red]{outcome.query.name}[/]: {one_line(text)}"
            console.print(problem, soft_wrap=True)
    return all(succeeded for succeeded, _ in verdicts)


def _judge(outcome: Outcome, began_at: datetime.datetime) -> tuple[bool, str]:
    """Whether a query gave families, and a text about it."""
    error: DatabaseError | None = outcome.error
    if error is None:
        try:
            families = families_of(outcome.query, outcome.columns, outcome.rows, began_at)
        except DatabaseError as mismatch:
            error = mismatch
        else:
            return True, f"ok, {sum(len(family.samples) for family in families)} series"
    return False, f"{error.reason}: {error}"
