"""The command `chatqueue` and its table of subcommands; the only place with exit codes."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections import UserDict
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from exporter import __version__
from exporter.cli.output import ReaderGone, printing
from exporter.errors import ChatqueueError

_UNEXPECTED = 2
_COMMANDS = {
    "announce": ("announce", "Tell the team's channels how the deployment goes."),
    "answers": ("answers", "Ask people what only they can judge."),
    "audit": ("release", "Show what was released and escalated."),
    "chats": ("chats", "Show which chats wait, are overdue, stuck or invalid. Read-only."),
    "check-config": ("check", "Check the configuration and the queries."),
    "checklist": ("checklist", "Print the checklist of a deployment and what of it is done."),
    "dashboards": ("dashboards", "Write the Grafana dashboards."),
    "demo": ("demo", "Watch a living platform on this machine."),
    "exempt": ("release", "Keep a chat, or an operator's chats, from release."),
    "explain": ("release", "Show every condition of a release. Read-only."),
    "fix": ("fix", "Repair one chat."),
    "grants": ("grants", "Print the SQL of two least-privilege roles."),
    "healthcheck": ("healthcheck", "Ask whether the daemon here lives; for containers."),
    "install": ("release", "Print or run the SQL of the schema chatqueue."),
    "notify": ("notify", "Try the webhooks."),
    "pause": ("release", "Pause releases for a time."),
    "preflight": ("preflight", "Say whether the deployment may begin. Read-only."),
    "rehearse": ("rehearse", "Play the deployment and the way back on a copy."),
    "release": ("release", "Release one chat, and print what was checked."),
    "report": ("report", "Judge the deployment."),
    "resume": ("release", "End a pause, or a trip that waits for it."),
    "rollback": ("rollback", "Plan the way back from the fix, check it, or take it."),
    "rules": ("rules", "Print or write the alert rules for Prometheus."),
    "run": ("run", "Poll the databases and serve /metrics until stopped."),
    "status": ("status", "Show every queue once."),
    "tune": ("tune", "Find the right stuck_after in the history. Read-only."),
    "verify": ("verify", "Check the fix and the watch after a deployment."),
    "watch": ("watch", "Follow the deployment watch."),
}
"""Command to its module below `exporter.cli`, imported when it is called, and to its short help."""


class _Commands(UserDict[str, Any]):
    """Every command by its name; one is imported when it is looked up."""

    def __getitem__(self, name: str) -> click.Command:
        """Import the command; KeyError where there is none of that name."""
        module, short_help = self.data[name]
        command: click.Command = getattr(
            import_module(f"exporter.cli.{module}"), name.replace("-", "_")
        )
        command.short_help = short_help
        return command


class _Cli(click.Group):
    """The group; passes output errors on, which click would handle itself."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the command line, which may print help."""
        with printing():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a closed pipe and a full disk have their own exit codes."""
        with printing():
            return super().invoke(ctx)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them, as click would."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in _COMMANDS.items()])


_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Cli, commands=_Commands(_COMMANDS), context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="chatqueue")
def cli() -> None:
    """Watch operator-staffed chat queues on PostgreSQL and export metrics to Prometheus."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; an error becomes a message and an exit code.

    The code is 1 unless the error has its own: 2 if the configuration is missing or the output
    cannot be written, 141 if the output's pipe is closed. A traceback is shown only if
    CHATQUEUE_TRACEBACK is set.
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
    """Describe an unexpected error: where it was raised, without passwords."""
    from exporter.config.dsn import redact

    if isinstance(error, OSError) and error.filename is not None:
        return redact(f"{error.filename}: {error.strerror or type(error).__name__}")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "exporter" in Path(frame.filename).parts] or frames
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
    text = redact(" ".join(str(error).split()))
    return (
        f"internal error at {where}: {type(error).__name__}: {text}; "
        "set CHATQUEUE_TRACEBACK=1 to see the traceback for a bug report"
    )


def _fail(message: str, exit_code: int) -> NoReturn:
    # If the message cannot be written either, the exit code still says that it failed.
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"chatqueue: {message}", err=True)
    sys.exit(exit_code)
