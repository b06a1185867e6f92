"""`chatqueue notify --test`: does each webhook accept a notice?"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.cli import options
from exporter.config import Config, load_config
from exporter.config.notify import Webhook
from exporter.errors import ChatqueueError

if TYPE_CHECKING:
    from exporter.notify.notices import Notice


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
    webhooks = pick_webhooks(load_config(config_file), names)

    from exporter.notify.notices import TEST, Notice

    notice = Notice(
        TEST,
        "A test of this webhook by chatqueue",
        ("Nothing happened, and there is nothing to do.",),
    )
    sys.exit(0 if deliver(notice, webhooks) else 1)


def pick_webhooks(config: Config, names: Sequence[str]) -> Mapping[str, Webhook]:
    """Return the webhooks that `--webhook` names, by default all.

    Raises:
        ChatqueueError: There is none, or none of that name.
    """
    webhooks = config.notify.webhooks
    if not webhooks:
        raise ChatqueueError("no webhook is configured, expected some below notify.webhooks")
    for name in names:
        if name not in webhooks:
            listed = ", ".join(webhooks)
            raise ChatqueueError(f"--webhook {name} is not configured, expected one of {listed}")
    return {name: webhooks[name] for name in names or webhooks}


def deliver(notice: Notice, webhooks: Mapping[str, Webhook]) -> bool:
    """Send a notice once to each webhook and print the answers; return whether all accepted it."""
    from exporter.notify.bodies import build_body
    from exporter.notify.sending import build_post

    accepted = True
    for name, webhook in webhooks.items():
        started_s = time.monotonic()
        answer = build_post(webhook, build_body(notice, webhook)).run()
        verdict = "not delivered" if answer.failure else "delivered"
        duration_s = time.monotonic() - started_s
        click.echo(f"{name}: {verdict}, {answer.words} ({duration_s:.2f} s)")
        accepted = accepted and not answer.failure
    return accepted
