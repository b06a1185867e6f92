"""`chatqueue announce`: tell the team's channels how the deployment goes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import click

from exporter.cli import options
from exporter.cli.notify import deliver, pick_webhooks
from exporter.config import load_config
from exporter.digests.announcements import BY_HAND, EVENT, Kind, build_announcement
from exporter.errors import ChatqueueError
from exporter.ops.report.making import find_watch


@click.command()
@click.argument("kind", type=click.Choice(BY_HAND))
@options.config_file
@click.option("--window", default="", help="When, in your own words: 'Tuesday 06:00 to 07:00 UTC'.")
@click.option("--message", default="", help="What else the team should know, in your own words.")
@click.option("--database", "databases", multiple=True, help="Whom it concerns.  [default: all]")
@click.option("--webhook", "names", multiple=True, help="Only this one; may be given repeatedly.")
@click.option("--dry-run", is_flag=True, help="Print the text and send nothing.")
def announce(
    kind: str,
    config_file: Path,
    window: str,
    message: str,
    databases: tuple[str, ...],
    names: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Send an announcement to every webhook that takes the event `announcement`.

    Exit code 0: all accepted it. 1: one or more did not.
    """
    config = load_config(config_file)
    for name in databases:
        options.pick_database(config.databases, name)
    notice = build_announcement(
        cast("Kind", kind),
        databases or tuple(config.databases),
        find_watch(config),
        window=window,
        message=message,
    )
    if dry_run:
        click.echo("\n".join((notice.title, *notice.lines)))
        return
    chosen = pick_webhooks(config, names)
    webhooks = {name: each for name, each in chosen.items() if EVENT in each.events}
    if not webhooks:
        listed = ", ".join(chosen)
        raise ChatqueueError(f"none of {listed} takes the event {EVENT}, expected it in its events")
    sys.exit(0 if deliver(notice, webhooks) else 1)
