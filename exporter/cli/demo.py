"""`chatqueue demo`: a living platform and the daemon on this machine, without a database."""

from __future__ import annotations

from collections.abc import Sequence

import click

from exporter.cli import options
from exporter.config.release import MODES
from exporter.demo.scenarios import SCENARIOS
from exporter.service import configure_logging


@click.command()
@click.option(
    "--scenario",
    type=click.Choice(sorted(SCENARIOS)),
    default="calm",
    show_default=True,
    help="What happens on the platform.",
)
@click.option(
    "--release",
    "release_mode",
    type=click.Choice(MODES),
    default="off",
    show_default=True,
    help="Whether stuck chats are handed back; needs a scenario with some: vanished-operators.",
)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same events.")
@click.option(
    "--web.listen-address",
    "listen_addresses",
    multiple=True,
    help="Address to serve on; 127.0.0.1:10847 unless given, or a free port where that is taken.",
)
@click.option(
    "--full",
    is_flag=True,
    help="Run Prometheus and Alertmanager beside it, with the shipped rules.",
)
@options.log_level
@options.log_format
def demo(
    scenario: str,
    release_mode: str,
    seed: int,
    listen_addresses: Sequence[str],
    full: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Start a PostgreSQL with a living chat platform, and the daemon on it.

    Ctrl-C ends it and leaves nothing behind.
    """
    from exporter.demo.runner import run_demo

    configure_logging(log_level, log_format)
    run_demo(
        scenario=scenario,
        seed=seed,
        listen_addresses=listen_addresses,
        release_mode=release_mode,
        full=full,
    )
