"""The command `chatqueue`: wires everything; the only place with exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from exporter import __version__
from exporter.cli.check import check_config
from exporter.cli.dashboards import dashboards
from exporter.cli.demo import demo
from exporter.cli.fix import fix
from exporter.cli.grants import grants
from exporter.cli.notify import notify
from exporter.cli.release import COMMANDS as RELEASE_COMMANDS
from exporter.cli.report import report
from exporter.cli.rules import rules
from exporter.cli.run import run
from exporter.cli.status import status
from exporter.cli.tune import tune
from exporter.cli.verify import verify
from exporter.cli.watch import watch
from exporter.errors import ChatqueueError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="chatqueue")
def cli() -> None:
    """Watch operator-staffed chat queues on PostgreSQL and tell Prometheus."""


_CHECKLIST = (verify, fix, watch, report)
_COMMANDS = (run, demo, check_config, status, *_CHECKLIST, notify, rules, dashboards)
for _command in (*_COMMANDS, *RELEASE_COMMANDS, tune, grants):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what the operator must act on becomes a message and exit code 1."""
    try:
        cli(args=arguments, prog_name="chatqueue")
    except ChatqueueError as error:
        click.echo(f"chatqueue: {error}", err=True)
        sys.exit(1)
