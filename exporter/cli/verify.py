"""`chatqueue verify`: is the assignment fix in place, and does the exporter see all of it?"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.cli import options
from exporter.cli.output import build_console, build_table, one_line, print_json
from exporter.config import Config, load_config
from exporter.errors import ChatqueueError, DatabaseError

if TYPE_CHECKING:
    from exporter.ops.verify.checks import Check
    from exporter.ops.verify.inspection import Inspection

APPLICATION = "application"
"""What stands for the database in the checks of `verify.endpoints`."""


@click.command()
@options.config_file
@click.option("--database", "name", default=None, help="Only this database.")
@click.option(
    "--flow",
    is_flag=True,
    help="Also play the assignment of a chat, on temporary rows, and undo it. Needs a role that "
    "may write: release_dsn, or --dsn-from.",
)
@options.dsn_from
@options.as_json
def verify(
    config_file: Path, name: str | None, flow: bool, dsn_from: str | None, as_json: bool
) -> None:
    """Check that the fix is in place, the exporter can read everything, and endpoints answer.

    Endpoints are those of verify.endpoints; with --database they are left out.

    Exit code 0: all checks passed. 1: something must be done, and is named.
    """
    from exporter.database import check_dsn
    from exporter.ops.verify.inspection import build_inspections

    if dsn_from is not None and not flow:
        raise click.UsageError("--dsn-from is for --flow")
    config = load_config(config_file, check_dsn=check_dsn)
    inspections = {i.plan.database: i for i in build_inspections(config)}
    chosen = options.pick_databases(inspections, name)
    dsns = _flow_dsns(config, dsn_from, tuple(chosen)) if flow else {}
    results = {
        database: _check(inspection, dsns.get(database)) for database, inspection in chosen.items()
    }
    if name is None and config.verify.endpoints:
        results[APPLICATION] = _ask(config)
    if as_json:
        print_json(
            [
                {
                    "database": database,
                    "ok": all(check.ok for check in checks),
                    "checks": [asdict(check) for check in checks],
                }
                for database, checks in results.items()
            ]
        )
    else:
        for database, checks in results.items():
            _print(database, checks)
    sys.exit(0 if all(check.ok for checks in results.values() for check in checks) else 1)


def _ask(config: Config) -> tuple[Check, ...]:
    """The checks of the application's endpoints, one after the other."""
    from exporter.ops.verify.endpoints import check_endpoint

    return tuple(check_endpoint(*each) for each in config.verify.endpoints.items())


def _flow_dsns(config: Config, variable: str | None, names: Sequence[str]) -> dict[str, str]:
    """Database to the connection string that its flow is played with."""
    if variable is not None and len(names) != 1:
        raise ChatqueueError(f"--dsn-from is for one database, add --database {'|'.join(names)}")
    return {database: options.read_writing_dsn(config, database, variable) for database in names}


def _check(inspection: Inspection, flow_dsn: str | None) -> tuple[Check, ...]:
    """All checks of one database; a single failed one where it does not answer."""
    from exporter.ops.verify.checks import Check
    from exporter.ops.verify.inspection import inspect

    try:
        checks = inspect(inspection)
    except DatabaseError as error:
        todo = "see docs/troubleshooting.md"
        checks = (Check("server", "connection", False, str(error), "an answer", todo),)
    if flow_dsn is None:
        return checks
    return (*checks, *_play(flow_dsn, inspection.plan.connect_timeout_s))


def _play(dsn: str, connect_timeout_s: float) -> tuple[Check, ...]:
    """The checks of the flow."""
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


def _print(database: str, checks: Sequence[Check]) -> None:
    """Print a table, and below it what is to be done, on one line each."""
    console = build_console()
    table = build_table("", "", "what", "found")
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
        console.print(f"\nall {len(checks)} checks passed")
