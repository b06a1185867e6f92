"""`chatqueue fix`: repair one chat, after showing what that would change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from exporter.cli import options
from exporter.cli.output import print_json
from exporter.cli.release import chat_argument, release
from exporter.config import load_config

if TYPE_CHECKING:
    from exporter.ops.fix.engine import Fixed, Fixer

applies = click.option("--apply", "applies", is_flag=True, help="Do it instead of showing it.")


@click.group()
def fix() -> None:
    """Repair one chat. Without --apply nothing is changed, and what would be is shown.

    Exit code 0: done, or it would be. 1: it was refused, and why is printed.
    """


@fix.command(short_help="Take a chat from an operator who is gone.")
@options.config_file
@options.database
@chat_argument
@applies
@options.by
@click.pass_context
def stuck(
    context: click.Context, config_file: Path, name: str | None, chat: UUID, applies: bool, by: str
) -> None:
    """Take a chat from an operator who is gone: `chatqueue release`, with all its guards.

    Limits are set aside by `chatqueue release --override`, not here.
    """
    with _fixer(config_file, name, None) as fixer:
        for key, value in fixer.read_facts(chat).state.items():
            click.echo(f"{key}: {_format_value(value)}")
    context.invoke(
        release,
        config_file=config_file,
        name=name,
        chat=chat,
        enforce=applies,
        overrides=(),
        closes=False,
        by=by,
    )


def _add_repair(name: str, repair_name: str, short_help: str, text: str) -> None:
    """Add the command of one repair; `exporter.ops.fix.repairs` is imported when it is called."""

    @fix.command(name, short_help=short_help, help=text)
    @options.config_file
    @options.database
    @chat_argument
    @applies
    @options.by
    @options.dsn_from
    @options.as_json
    def command(
        config_file: Path,
        name: str | None,
        chat: UUID,
        applies: bool,
        by: str,
        dsn_from: str | None,
        as_json: bool,
    ) -> None:
        from exporter.ops.fix import repairs

        with _fixer(config_file, name, dsn_from) as fixer:
            repair = getattr(repairs, repair_name)
            if applies:
                fixed = fixer.apply(repair, chat, f"person {by}")
            else:
                fixed = fixer.rehearse(repair, chat)
        _print(fixed, as_json)


_add_repair(
    "last-operator",
    "LAST_OPERATOR",
    "Set who had a chat last, where that is missing.",
    "Set the last operator of an active chat from its latest assignment, where it is NULL.",
)
_add_repair(
    "requeue",
    "REQUEUE",
    "Queue a chat that is missing from the queue.",
    "Queue a chat whose user wrote last, which no operator has and which does not wait.",
)
_add_repair(
    "reopen",
    "REOPEN",
    "Open a closed chat again that its user has written into.",
    "Open a closed chat again, and queue it, whose user has written since it ended.",
)


@contextmanager
def _fixer(config_file: Path, name: str | None, variable: str | None) -> Iterator[Fixer]:
    """A fixer of the chosen database, on a session that is closed afterwards."""
    from exporter.database.session import Session
    from exporter.ops.fix.engine import Fixer

    config = load_config(config_file)
    name, _ = options.pick_database(config.databases, name)
    connect_timeout_s = config.poll.connect_timeout.total_seconds()
    dsn = options.read_writing_dsn(config, name, variable)
    with Session(dsn, connect_timeout_s=connect_timeout_s) as session:
        yield Fixer(session, config.checks.grace.total_seconds())


def _print(fixed: Fixed, as_json: bool) -> None:
    """Print the state before and after, the changes marked."""
    before, after = fixed.before.state, fixed.after.state
    if as_json:
        applied = fixed.audit_id is not None
        audit = str(fixed.audit_id) if applied else None
        states = {"before": dict(before), "after": dict(after)}
        print_json({"applied": applied, "audit": audit, **states})
        return
    for key in before:
        arrow = f" → {_format_value(after[key])}" if before[key] != after[key] else ""
        click.echo(f"{key}: {_format_value(before[key])}{arrow}")
    if fixed.audit_id is None:
        click.echo("nothing was changed; --apply does it")
    else:
        click.echo(f"done (audit {fixed.audit_id})")


def _format_value(value: object) -> str:
    """A value in words."""
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
