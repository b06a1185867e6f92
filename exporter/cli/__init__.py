"""The command `chatqueue`: wires everything; the only place with exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from exporter import __version__
from exporter.cli.check import check_config
from exporter.cli.dashboards import dashboards
from exporter.cli.demo import demo
from exporter.cli.fix import fix
from exporter.cli.grants import grants
from exporter.cli.notify import notify
from exporter.cli.output import ReaderGone, printing
from exporter.cli.release import COMMANDS as RELEASE_COMMANDS
from exporter.cli.report import report
from exporter.cli.rules import rules
from exporter.cli.run import run
from exporter.cli.status import status
from exporter.cli.tune import tune
from exporter.cli.verify import verify
from exporter.cli.watch import watch
from exporter.config.dsn import redact
from exporter.errors import ChatqueueError

_UNEXPECTED = 2


class _Cli(click.Group):
    """The group; lets errors of the output through, which click would take for its own."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line, which may print help."""
        with printing():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a closed pipe and a full disk get their own exit codes."""
        with printing():
            return super().invoke(ctx)


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Cli, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="chatqueue")
def cli() -> None:
    """Watch operator-staffed chat queues on PostgreSQL and tell Prometheus."""


_CHECKLIST = (verify, fix, watch, report)
_COMMANDS = (run, demo, check_config, status, *_CHECKLIST, notify, rules, dashboards)
for _command in (*_COMMANDS, *RELEASE_COMMANDS, tune, grants):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what the operator must act on becomes a message and an exit code.

    1 unless the error has another one: 2 where the configuration is missing or the output cannot
    be written, 141 where the output's reader is gone. No traceback reaches a person, unless
    CHATQUEUE_TRACEBACK asks for it.
    """
    try:
        with printing():
            cli(args=arguments, prog_name="chatqueue")
    except ReaderGone as error:
        sys.exit(error.exit_code)
    except ChatqueueError as error:
        _fail(str(error), error.exit_code)
    except Exception as error:
        if os.environ.get("CHATQUEUE_TRACEBACK"):
            raise
        _fail(_describe(error), _UNEXPECTED)


def _describe(error: Exception) -> str:
    """What went wrong that should not: where, and no password."""
    if isinstance(error, OSError) and error.filename is not None:
        return redact(f"{error.filename}: {error.strerror or type(error).__name__}")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "exporter" in Path(frame.filename).parts] or frames
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    text = redact(" ".join(str(error).split()))
    return (
        f"a fault of chatqueue itself at {where}: {type(error).__name__}: {text}; "
        "with CHATQUEUE_TRACEBACK=1 it says more, for a report"
    )


def _fail(message: str, exit_code: int) -> NoReturn:
    # A message that cannot be written either is lost; the exit code is not.
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"chatqueue: {message}", err=True)
    sys.exit(exit_code)
