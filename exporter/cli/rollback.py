"""`chatqueue rollback`: a script made before the deployment, and what is done with it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter.cli import options
from exporter.config import Config, load_config
from exporter.errors import ChatqueueError

if TYPE_CHECKING:
    from exporter.database.session import Session
    from exporter.ops.rollback.plan import Plan

# Long enough to look at what happened; nobody resumes by accident.
_PAUSE = timedelta(days=7)
_STATES = {
    "before": "The plan fits: the deployment has not begun.",
    "after": "The plan fits: the deployment is done and can be rolled back.",
    "between": "The plan fits: a part of the deployment is done and can be rolled back.",
    "neither": "The plan does not fit: the database was changed otherwise.",
    "elsewhere": "The plan does not fit: it was made for another database.",
}
_script = click.Path(path_type=Path, dir_okay=False)


@dataclass(frozen=True, slots=True)
class _Target:
    """One database, and how it is reached."""

    config: Config
    name: str
    dsn: str
    contract: str

    def session(self) -> Session:
        """A session; close it."""
        from exporter.database.session import Session

        connect_timeout_s = self.config.poll.connect_timeout.total_seconds()
        return Session(self.dsn, connect_timeout_s=connect_timeout_s, program="chatqueue-rollback")


@click.command()
@options.config_file
@options.database
@click.option("--plan", "plans", is_flag=True, help="Print the script; before the deployment.")
@click.option("--output", type=_script, help="With --plan: write it to this new file.")
@click.option(
    "--drop-columns",
    is_flag=True,
    help="With --plan: drop the fix's columns, their contents saved to a table.",
)
@click.option(
    "--lock-timeout",
    type=options.Span(),
    default="3s",
    show_default=True,
    help="With --plan: how long the script may wait for the lock on chats.",
)
@click.option(
    "--statement-timeout",
    type=options.Span(),
    default="1m",
    show_default=True,
    help="With --plan: how long one of its statements may take.",
)
@click.option("--check", "checks", type=_script, help="Whether this plan still fits. Read-only.")
@click.option("--apply", "applies", type=_script, help="Run this plan: roll the fix back.")
@click.option("--yes", metavar="NAME", help="With --apply: the database's name, unasked.")
@options.by
@options.dsn_from
def rollback(
    config_file: Path,
    name: str | None,
    plans: bool,
    output: Path | None,
    drop_columns: bool,
    lock_timeout: timedelta,
    statement_timeout: timedelta,
    checks: Path | None,
    applies: Path | None,
    yes: str | None,
    by: str,
    dsn_from: str | None,
) -> None:
    """Plan the way back from the assignment fix, check the plan, or take it.

    The plan is an SQL script of one transaction that brings back the functions, views, triggers,
    constraints and indexes that the fix replaces. Make it before the deployment, of the live
    database. docs/rehearsal.md says what the script does and what it refuses.

    Exit code 0: done, or the plan fits. 1: it was refused, and why is printed.
    """
    _refuse_mixture(plans, (checks, applies), output, drop_columns, yes)
    target = _find_target(config_file, name, dsn_from)
    if plans:
        _plan(target, output, drop_columns, lock_timeout, statement_timeout)
    elif checks:
        _check(target, _read(checks)[0])
    elif applies:
        _apply(target, applies, yes, by)


def _refuse_mixture(
    plans: bool,
    scripts: Sequence[Path | None],
    output: Path | None,
    drop_columns: bool,
    yes: str | None,
) -> None:
    """Refuse options that do not belong together."""
    if sum((plans, *(script is not None for script in scripts))) != 1:
        raise click.UsageError("expected one of --plan, --check FILE and --apply FILE")
    if not plans and (output or drop_columns):
        raise click.UsageError("--output and --drop-columns are for --plan")
    if yes is not None and scripts[-1] is None:
        raise click.UsageError("--yes is for --apply")


def _find_target(config_file: Path, name: str | None, variable: str | None) -> _Target:
    from exporter.database import check_dsn
    from exporter.ops.verify.inspection import build_inspections, find_contract

    config = load_config(config_file, check_dsn=check_dsn)
    inspections = {i.plan.database: i for i in build_inspections(config)}
    name, inspection = options.pick_database(inspections, name)
    dsn = options.read_writing_dsn(config, name, variable)
    return _Target(config, name, dsn, find_contract(inspection))


def _read(file: Path) -> tuple[Plan, str]:
    """The plan and the statements of a script."""
    from exporter.ops.rollback.plan import PlanRefused
    from exporter.ops.rollback.script import read_script

    try:
        return read_script(file.read_text(encoding="utf-8"))
    except PlanRefused as error:
        raise ChatqueueError(f"{file}: {error}") from error
    except OSError as error:
        raise ChatqueueError(f"{file}: {error.strerror}") from error
    except UnicodeError as error:
        raise ChatqueueError(f"{file}: it is no text") from error


def _plan(
    target: _Target,
    output: Path | None,
    drop_columns: bool,
    lock_timeout: timedelta,
    statement_timeout: timedelta,
) -> None:
    from exporter.ops.rollback.plan import make_plan
    from exporter.ops.rollback.script import build_script

    if output is not None and output.exists():
        raise ChatqueueError(f"{output} exists: an older plan is not overwritten")
    with target.session() as session:
        plan = make_plan(
            session,
            target.contract,
            drop_columns=drop_columns,
            lock_timeout_s=lock_timeout.total_seconds(),
            statement_timeout_s=statement_timeout.total_seconds(),
        )
    script = build_script(plan, target.contract)
    if output is None:
        click.echo(script, nl=False)
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(script)
    except OSError as error:
        raise ChatqueueError(f"cannot write {output}: {error.strerror}") from error
    _print_actions(plan)
    click.echo(f"\nwritten to {output}; keep it until the rollback deadline has passed")


def _print_actions(plan: Plan) -> None:
    """Print what becomes of each object, within 80 columns where the names allow it."""
    click.echo(f"A rollback in database {plan.place.database}:\n")
    for kind, name, action in plan.actions():
        click.echo(f"  {kind:<10}  {name:<36}  {action}")


def _check(target: _Target, plan: Plan) -> None:
    from exporter.ops.rollback.applying import check_plan

    with target.session() as session:
        fit = check_plan(session, plan, target.contract)
    click.echo(_STATES[fit.state])
    for reason in fit.reasons:
        click.echo(f"  {reason}")
    sys.exit(0 if fit.ok else 1)


def _apply(target: _Target, file: Path, yes: str | None, actor: str) -> None:
    from exporter.ops.rollback.applying import apply_script, check_plan

    plan, body = _read(file)
    with target.session() as session:
        fit = check_plan(session, plan, target.contract)
        if fit.state not in ("after", "between"):
            reasons = "; ".join(fit.reasons)
            raise ChatqueueError(f"{file} was not applied: {reasons}")
        _print_actions(plan)
        _confirm(plan.place.database, yes)
        paused = _pause(target, session, actor)
        if paused:
            click.echo(f"\nauto-release is paused until {paused}; chatqueue resume ends that")
        apply_script(session, body, f"person {actor}")
    click.echo(f"\nrolled back database {plan.place.database}")
    if plan.drop_columns:
        click.echo(f"the columns' contents are in table {plan.saved_as}")
    click.echo("tell the team: chatqueue announce rolled-back")


def _confirm(database: str, yes: str | None) -> None:
    """Let a person write the database's name."""
    if yes is None and not sys.stdin.isatty():
        raise ChatqueueError(f"not confirmed: add --yes {database}, or run it on a terminal")
    answer = yes
    if answer is None:
        answer = click.prompt("\nWrite the name of the database to roll it back", err=True)
    if answer != database:
        raise ChatqueueError(f"{answer!r} is not the database's name, expected {database}")


def _pause(target: _Target, session: Session, actor: str) -> str | None:
    """Pause auto-release where it is in force; return until when."""
    from exporter.release import admin

    if target.config.release.mode != "enforce":
        return None
    return admin.pause(session, _PAUSE, "the assignment fix is rolled back", actor)
