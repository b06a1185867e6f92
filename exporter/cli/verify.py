"""`chatqueue verify`: is the assignment fix in place, and can the watch see it?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.cli import options
from exporter.cli.output import build_console, one_line
from exporter.cli.writing import writing_dsn
from exporter.config import Config, load_config
from exporter.errors import ChatqueueError, DatabaseError

if TYPE_CHECKING:
    from exporter.ops.verify.checks import Check
    from exporter.ops.verify.look import Inspection


@click.command()
@options.config_file
@click.option("--database", "name", default=None, help="Only this database.")
@click.option(
    "--flow",
    is_flag=True,
    help="Also play the assignment of a chat, on rows of its own, and undo it. Needs a role that "
    "may write: release_dsn, or --dsn-from.",
)
@options.dsn_from
@options.as_json
def verify(
    config_file: Path, name: str | None, flow: bool, dsn_from: str | None, as_json: bool
) -> None:
    """Check that the assignment fix is in place and that the watch can see everything.

    Exit code 0: all is well. 1: something must be done, and is named.
    """
    from exporter.database import check_dsn
    from exporter.ops.verify.look import build_inspections

    if dsn_from is not None and not flow:
        raise click.UsageError("--dsn-from is for --flow")
    config = load_config(config_file, check_dsn=check_dsn)
    inspections = {i.plan.database: i for i in build_inspections(config)}
    if name is not None and name not in inspections:
        known = ", ".join(inspections)
        raise ChatqueueError(f"--database {name} is not configured, expected one of {known}")
    dsns = _flow_dsns(config, dsn_from, name) if flow else {}
    results = {
        database: _check(inspection, dsns.get(database))
        for database, inspection in inspections.items()
        if name in (None, database)
    }
    if as_json:
        click.echo(json.dumps([_as_json(*result) for result in results.items()], indent=2))
    else:
        for database, checks in results.items():
            _print(database, checks)
    sys.exit(0 if all(check.ok for checks in results.values() for check in checks) else 1)


def _flow_dsns(config: Config, variable: str | None, name: str | None) -> dict[str, str]:
    """Database to the connection string that its flow is played with."""
    names = [database for database in config.databases if name in (None, database)]
    if variable is not None and len(names) != 1:
        raise ChatqueueError(f"--dsn-from is for one database, add --database {'|'.join(names)}")
    return {database: writing_dsn(config, database, variable) for database in names}


def _check(inspection: Inspection, flow_dsn: str | None) -> tuple[Check, ...]:
    """The whole checklist of one database; where it does not answer, that is the one line."""
    from exporter.ops.verify.checks import Check
    from exporter.ops.verify.look import inspect

    try:
        checks = inspect(inspection)
    except DatabaseError as error:
        todo = "see docs/troubleshooting.md"
        checks = (Check("server", "connection", False, str(error), "an answer", todo),)
    if flow_dsn is None:
        return checks
    return (*checks, *_play(flow_dsn, inspection.plan.connect_timeout_s))


def _play(dsn: str, connect_timeout_s: float) -> tuple[Check, ...]:
    """The flow's lines."""
    from exporter.database.session import Session
    from exporter.ops.verify.checks import Check
    from exporter.ops.verify.flow import Flow, FlowRefused

    with Session(dsn, connect_timeout_s=connect_timeout_s) as session:
        try:
            play = Flow(session).play()
        except FlowRefused as error:
            return (Check("flow", "refused", False, str(error), "", "see docs/verify.md"),)
        except DatabaseError as error:
            todo = "nothing is left behind; try again"
            return (Check("flow", "interrupted", False, str(error), "", todo),)
    moved = ", ".join(play.sequences)
    undone = f"everything but the sequences {moved}" if moved else "everything"
    return (*play.checks, Check("flow", "undone", True, undone))


def _as_json(database: str, checks: Sequence[Check]) -> dict[str, object]:
    """One database for scripts."""
    return {
        "database": database,
        "ok": all(check.ok for check in checks),
        "checks": [asdict(check) for check in checks],
    }


def _print(database: str, checks: Sequence[Check]) -> None:
    """A table, and below it what is to be done, on one line each."""
    from rich.table import Table

    console = build_console()
    table = Table("", "", "what", "found", box=None, pad_edge=False)
    before = ""
    for check in checks:
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
        group = check.group if check.group != before else ""
        before = check.group
        in_place = check.group == "contract" and check.ok
        table.add_row(
            group, mark, one_line(check.name), "in place" if in_place else one_line(check.found)
        )
    console.print(f"\n[bold]{one_line(database)}[/]")
    console.print(table)
    failed = [check for check in checks if not check.ok]
    for check in failed:
        # Below the table: a cell would break what is to be copied wherever the terminal ends.
        expected = f", expected {check.expected}" if check.expected else ""
        text = f"{check.group} {check.name}: {check.found}{expected}"
        console.print(f"\n[red]✗[/] {one_line(text)}", soft_wrap=True)
        console.print(f"  → {one_line(check.todo)}", soft_wrap=True)
    if not failed:
        console.print(f"\nall {len(checks)} checks are well")
