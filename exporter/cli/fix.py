"""`chatqueue fix`: put one chat right, after showing what that would do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from exporter.cli import options
from exporter.cli.release import by, chat_argument, release
from exporter.cli.writing import writing_dsn
from exporter.config import load_config

if TYPE_CHECKING:
    from exporter.ops.fix.engine import Fixed, Fixer
    from exporter.ops.fix.repairs import Facts, Repair

applies = click.option("--apply", "applies", is_flag=True, help="Do it; without this, only look.")


@click.group()
def fix() -> None:
    """Put one chat right. Without --apply nothing is changed, and what would be is shown.

    Exit code 0: done, or it would be. 1: it was refused, and why is printed.
    """


@fix.command(short_help="Take a chat from an operator who is gone.")
@options.config_file
@options.database
@chat_argument
@applies
@by
@click.pass_context
def stuck(
    context: click.Context, config_file: Path, name: str | None, chat: UUID, applies: bool, by: str
) -> None:
    """Take a chat from an operator who is gone: `chatqueue release`, with all its guards.

    Limits are set aside by `chatqueue release --override`, not here.
    """
    with _fixer(config_file, name, None) as fixer:
        _print_before(fixer.look(chat))
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
    @by
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
            _print(_repair(fixer, getattr(repairs, repair_name), chat, applies, by), as_json)


_add_repair(
    "last-operator",
    "LAST_OPERATOR",
    "Set who had a chat last, where that is missing.",
    "Set the last operator of an active chat from its latest assignment, where it is NULL.",
)
_add_repair(
    "requeue",
    "REQUEUE",
    "Put a chat that is missing from the queue into it.",
    "Put a chat into the queue whose user spoke last, which nobody has and which does not wait.",
)
_add_repair(
    "reopen",
    "REOPEN",
    "Open a closed chat again that its user has written into.",
    "Open a closed chat again, and queue it, whose user has written since it ended.",
)


@contextmanager
def _fixer(config_file: Path, name: str | None, variable: str | None) -> Iterator[Fixer]:
    """What repairs the database that is meant, on a session that is closed afterwards."""
    from exporter.database.session import Session
    from exporter.ops.fix.engine import Fixer

    config = load_config(config_file)
    name, _ = options.pick_database(config.databases, name)
    connect_timeout_s = config.poll.connect_timeout.total_seconds()
    dsn = writing_dsn(config, name, variable)
    with Session(dsn, connect_timeout_s=connect_timeout_s) as session:
        yield Fixer(session, config.checks.grace.total_seconds())


def _repair(fixer: Fixer, repair: Repair, chat: UUID, applies: bool, by: str) -> Fixed:
    """Do it, or look what it would do."""
    if applies:
        return fixer.apply(repair, chat, f"person {by}")
    return fixer.rehearse(repair, chat)


def _print_before(facts: Facts) -> None:
    """The chat as it is."""
    for key, value in facts.state.items():
        click.echo(f"{key}: {_text(value)}")


def _print(fixed: Fixed, as_json: bool) -> None:
    """Before and after, the changes marked."""
    before, after = fixed.before.state, fixed.after.state
    if as_json:
        document = {
            "applied": fixed.audit_id is not None,
            "audit": None if fixed.audit_id is None else str(fixed.audit_id),
            "before": dict(before),
            "after": dict(after),
        }
        click.echo(json.dumps(document, indent=2))
        return
    for key in before:
        arrow = f" → {_text(after[key])}" if before[key] != after[key] else ""
        click.echo(f"{key}: {_text(before[key])}{arrow}")
    if fixed.audit_id is None:
        click.echo("nothing was changed; --apply does it")
    else:
        click.echo(f"done (audit {fixed.audit_id})")


def _text(value: object) -> str:
    """A value for people."""
    words = {None: "none", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
