"""The long chaos run: `python -m tests.chaos`, or `make chaos`."""

from __future__ import annotations

import secrets
import sys

import click

from exporter.config import parse_duration
from tests.chaos.course import run_chaos


@click.command()
@click.option("--duration", default="10m", show_default=True, help="How long it lasts.")
@click.option("--releases", default=2000, show_default=True, help="How many are enough.")
@click.option("--seed", default="", help="As an earlier run printed it; a new one unless given.")
def main(duration: str, releases: int, seed: str) -> None:
    """Run daemons and operators through chaos, and judge them from the history of the database.

    Exit code 1: an invariant was broken, or too little happened to tell.
    """
    least_s = parse_duration(duration).total_seconds()
    seed = seed or secrets.token_hex(4)
    click.echo(f"seed {seed}")
    report = run_chaos(
        seed,
        least_s=least_s,
        most_s=3 * least_s,
        releases=releases,
        ordinary_s=8.0,
        rest_s=90.0,
    )
    click.echo(report)
    if report.missing:
        click.echo(f"never happened: {', '.join(report.missing)}")
    is_enough = report.releases >= releases and report.due and not report.missing
    sys.exit(0 if is_enough and not report.breaches and not report.faults else 1)


if __name__ == "__main__":
    main()
