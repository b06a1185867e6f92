"""`chatqueue checklist`: every line of a deployment, and where the team stands."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from exporter.cli import options
from exporter.cli.output import print_json
from exporter.config import load_config
from exporter.preflight.checklist import MARKS, Given, Standing, find_standing

_PATH = click.Path(path_type=Path)


@click.command()
@options.config_file
@options.database
@click.option("--backup", type=_PATH, help="The backup.")
@click.option("--reviewed", type=_PATH, help="Checksums of the reviewed migrations.")
@click.option("--plan", type=_PATH, help="What chatqueue rollback --plan wrote.")
@click.option("--rehearsal", type=_PATH, help="What chatqueue rehearse --json printed.")
@click.option("--preflight", type=_PATH, help="What chatqueue preflight --json printed.")
@click.option("--answers", type=_PATH, help="What chatqueue answers wrote.")
@options.as_json
def checklist(
    config_file: Path,
    name: str | None,
    backup: Path | None,
    reviewed: Path | None,
    plan: Path | None,
    rehearsal: Path | None,
    preflight: Path | None,
    answers: Path | None,
    as_json: bool,
) -> None:
    """Print the checklist of a deployment with what is done, as the database and files show it.

    Exit code 0: every line that something can show is done. 1: one failed. 3: some are open.
    """
    config = load_config(config_file)
    database, _ = options.pick_database(config.databases, name)
    given = Given(backup, reviewed, plan, rehearsal, preflight, answers)
    standings = find_standing(config, database, given)
    if as_json:
        print_json(
            [
                {**asdict(standing.item), "state": standing.state, "found": standing.found}
                for standing in standings
            ]
        )
    else:
        _print(standings)
    states = {standing.state for standing in standings if standing.item.done}
    sys.exit(1 if "failed" in states else 0 if states == {"done"} else 3)


def _print(standings: tuple[Standing, ...]) -> None:
    phase = ""
    for standing in standings:
        item = standing.item
        if item.phase != phase:
            phase = item.phase
            click.echo(f"{phase}:")
        click.echo(f"  {MARKS[standing.state]} {item.what}: {standing.found}")
        if standing.state in ("open", "failed"):
            click.echo(f"      $ {item.command}")
