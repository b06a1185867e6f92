"""`chatqueue notify --test`: does each webhook accept a notice?"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from exporter.cli import options
from exporter.config import load_config
from exporter.errors import ChatqueueError


@click.command()
@options.config_file
@click.option("--test", "is_test", is_flag=True, help="Send one test notice, once.")
@click.option("--webhook", "names", multiple=True, help="Only this one; may be given repeatedly.")
def notify(config_file: Path, is_test: bool, names: tuple[str, ...]) -> None:
    """Send one test notice to every webhook, and print the answers.

    Exit code 0: all accepted it. 1: one or more did not.
    """
    if not is_test:
        raise click.UsageError("there is nothing to send, expected --test")
    webhooks = load_config(config_file).notify.webhooks
    if not webhooks:
        raise ChatqueueError("no webhook is configured, expected some below notify.webhooks")
    unknown = [name for name in names if name not in webhooks]
    if unknown:
        listed = ", ".join(webhooks)
        raise ChatqueueError(f"--webhook {unknown[0]} is not configured, expected one of {listed}")

    from exporter.notify.bodies import build_body
    from exporter.notify.notices import TEST, Notice
    from exporter.notify.sending import build_post

    notice = Notice(
        TEST,
        "A test of this webhook by chatqueue",
        ("Nothing happened, and there is nothing to do.",),
    )
    accepted = True
    for name in names or webhooks:
        started_s = time.monotonic()
        answer = build_post(webhooks[name], build_body(notice, webhooks[name])).run()
        verdict = "not delivered" if answer.failure else "delivered"
        duration_s = time.monotonic() - started_s
        click.echo(f"{name}: {verdict}, {answer.words} ({duration_s:.2f} s)")
        accepted = accepted and not answer.failure
    sys.exit(0 if accepted else 1)
