"""`chatqueue release`, `explain`, `pause`, `resume`, `exempt`, `audit` and `install`.

All use the transaction and the tables of `exporter.release`; none bypasses its guards.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import click

from exporter.cli import options
from exporter.cli.output import build_console, build_table, one_line, print_json
from exporter.config import load_config
from exporter.database.session import Session
from exporter.errors import ChatqueueError
from exporter.release import admin
from exporter.release.attempt import ReleaseRequest, describe
from exporter.release.facts import Decision, Evidence
from exporter.release.guards import LIMIT_NAMES
from exporter.release.plans import ReleasePlan, build_release_plans
from exporter.release.policy import Finding
from exporter.release.schema import build_script
from exporter.release.transaction import Engine

DONE = (Decision.RELEASED, Decision.WOULD_RELEASE)


chat_argument = click.argument("chat", type=click.UUID)
span = click.option("--for", "span", type=options.Span(), required=True, help="How long, e.g. 2h.")
reason = click.option("--reason", required=True, help="Why; recorded and shown.")


@click.command()
@options.config_file
@options.database
@chat_argument
@click.option("--enforce", is_flag=True, help="Do it; without this everything is rolled back.")
@click.option(
    "--override",
    "overrides",
    multiple=True,
    type=click.Choice(LIMIT_NAMES),
    help="A limit to set aside; may be given more than once.",
)
@click.option("--close", "closes", is_flag=True, help="Allow the platform to close the chat.")
@options.by
def release(
    config_file: Path,
    name: str | None,
    chat: UUID,
    enforce: bool,
    overrides: Sequence[str],
    closes: bool,
    by: str,
) -> None:
    """Release one chat by the guarded transaction, and print what it checked.

    Exit code 0: released, or it would be. 1: it was not, and why is printed.
    """
    mode = "enforce" if enforce else "observe"
    with _engine(config_file, name) as engine:
        request = ReleaseRequest(
            _observe(engine, chat), mode, False, frozenset(overrides), closes, f"person {by}"
        )
        result = engine.release(request)
        if result.decision is Decision.UNKNOWN:
            result = engine.settle(result)
    _print_findings(result.findings, overrides)
    fields = describe(result)
    audit = f" (audit {result.audit_id})" if result.audit_id else ""
    click.echo(f"{fields['decision']}: {fields['reason']}{audit}")
    sys.exit(0 if result.decision in DONE else 1)


@click.command()
@options.config_file
@options.database
@chat_argument
@options.as_json
def explain(config_file: Path, name: str | None, chat: UUID, as_json: bool) -> None:
    """Show every condition of a release of this chat, with its value and verdict. Read-only.

    Exit code 0: all allow it. 1: one or more do not.
    """
    with _engine(config_file, name) as engine:
        mode = "enforce" if engine.limits.mode == "enforce" else "observe"
        findings = engine.explain(ReleaseRequest(_observe(engine, chat), mode))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print_findings(findings, ())
    sys.exit(0 if all(finding.passed for finding in findings) else 1)


@click.command()
@options.config_file
@options.database
@span
@reason
@options.by
def pause(config_file: Path, name: str | None, span: timedelta, reason: str, by: str) -> None:
    """Pause releases for a time; the pause is in force once this returns."""

    def act(session: Session) -> str:
        return f"paused until {admin.pause(session, span, reason, by)}"

    _print_each(config_file, name, act)


@click.command()
@options.config_file
@options.database
def resume(config_file: Path, name: str | None) -> None:
    """End a pause, and with release.breaker.hold: until-resumed a trip of the breaker.

    A breaker that still finds too many stuck chats trips again at once.
    """
    breaker = load_config(config_file).release.breaker.hold is None

    def act(session: Session) -> str:
        admin.resume(session, breaker=breaker)
        return "not paused" + (", breaker not tripped" if breaker else "")

    _print_each(config_file, name, act)


@click.command()
@options.config_file
@options.database
@click.argument("kind", type=click.Choice(("chat", "operator")))
@click.argument("subject", type=click.UUID, metavar="ID")
@span
@options.by
@reason
def exempt(
    config_file: Path,
    name: str | None,
    kind: str,
    subject: UUID,
    span: timedelta,
    by: str,
    reason: str,
) -> None:
    """Keep a chat, or an operator's chats, from release."""
    plan = _plan(config_file, name)
    with _session(plan) as session:
        until = admin.exempt(session, kind, subject, span, by, reason)
    click.echo(f"{plan.database}: {kind} {subject} is exempt until {until}")


@click.command()
@options.config_file
@options.database
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
@options.as_json
def audit(config_file: Path, name: str | None, limit: int, as_json: bool) -> None:
    """Show what was released and escalated: who, what, when and why, the newest first."""
    with _session(_plan(config_file, name)) as session:
        rows = [dict(row) for row in admin.read_audit(session, limit)]
    if as_json:
        print_json(rows)
        return
    table = build_table("when", "outcome", "chat", "operator", "by", "why")
    for row in rows:
        why = row["evidence"].get("findings", {}).get("silence", "")
        actor = row["actor"] + "".join(f" without {name}" for name in row["overrides"])
        cells = (row["decided_at"], row["outcome"], row["chat"], row["operator"], actor, why)
        table.add_row(*map(one_line, cells))
    build_console().print(table)


@click.command()
@options.config_file_if_any
@options.database
@click.option("--apply", "applies", is_flag=True, help="Run it instead of printing it.")
def install(config_file: Path, name: str | None, applies: bool) -> None:
    """Print the SQL of the schema chatqueue, which enforcing needs; or run it.

    It may be run again at any time, and brings an older version up to date.
    """
    if not applies:
        click.echo(f"BEGIN;\n\n{build_script()}\nCOMMIT;")
        return

    def act(session: Session) -> str:
        before, after = admin.install(session)
        return f"schema chatqueue is at version {after}" + (
            ", as before" if before == after else f", was at {before or 'none'}"
        )

    _print_each(config_file, name, act)


def _plan(config_file: Path, name: str | None) -> ReleasePlan:
    """The plan of the chosen database."""
    return options.pick_database(build_release_plans(load_config(config_file)), name)[1]


@contextlib.contextmanager
def _session(plan: ReleasePlan) -> Iterator[Session]:
    """A session; the absence of our schema is reported as auto-release not being in use."""
    try:
        with Session(plan.dsn, connect_timeout_s=plan.connect_timeout_s) as session:
            yield session
    except admin.SchemaAbsent as error:
        raise ChatqueueError(f"{plan.database}: auto-release is not in use: {error}") from error


def _print_each(config_file: Path, name: str | None, act: Callable[[Session], str]) -> None:
    """Act on the database that is named, or on each one, and print the result."""
    plans = build_release_plans(load_config(config_file))
    for plan in options.pick_databases(plans, name).values():
        with _session(plan) as session:
            click.echo(f"{plan.database}: {act(session)}")


@contextlib.contextmanager
def _engine(config_file: Path, name: str | None) -> Iterator[Engine]:
    """An engine on a session that is closed afterwards."""
    plan = _plan(config_file, name)
    with _session(plan) as session:
        yield Engine(session, plan.limits, daemon="chatqueue release")


def _observe(engine: Engine, chat: UUID) -> Evidence:
    """The chat as it is now."""
    evidence = engine.scan()[0].find(chat)
    if evidence is None:
        if not admin.has_chat(engine.session, chat):
            raise ChatqueueError(f"no such chat: {chat}")
        raise ChatqueueError(f"chat {chat} is not active and assigned, so there is nothing to do")
    return evidence


def _print_findings(findings: Sequence[Finding], overrides: Sequence[str]) -> None:
    """Print one line per condition."""
    if not findings:
        return
    table = build_table("condition", "verdict", "found")
    for finding in findings:
        verdict = "[green]ok[/]" if finding.passed else "[red]refuses[/]"
        if not finding.passed and finding.guard in overrides:
            verdict = "[yellow]overridden[/]"
        table.add_row(finding.guard, verdict, one_line(finding.value))
    build_console().print(table)
