"""`chatqueue chats`: which chats wait, are overdue, stuck, unanswered or invalid. Read-only."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from exporter.cli import options
from exporter.cli.output import one_line, print_json
from exporter.config import load_config
from exporter.database import check_dsn
from exporter.errors import ChatqueueError
from exporter.ops.chats.listing import (
    Chat,
    Filters,
    Listing,
    build_document,
    check_reasons,
    read_listing,
)
from exporter.polling.plan import build_plans
from exporter.release.plans import build_release_plans
from exporter.text import format_value

CALM, TROUBLE, UNKNOWN = 0, 1, 2

_STATES = ("waiting_assignment", "assigned", "waiting_real_user_reply", "completed", "unknown")
_NAME_CHARS = 40


def _complete_reason(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """The reasons of the built-in lists, for the shell."""
    from exporter.config.resources import find_resource
    from exporter.ops.chats.lists import read_reasons

    names = read_reasons(find_resource("queries"))
    return [name for name in names if name.startswith(begun)]


@click.command()
@options.config_file
@options.database
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(_STATES),
    help="Only chats in this state; may be given more than once.",
)
@click.option(
    "--reason",
    "reasons",
    multiple=True,
    shell_complete=_complete_reason,
    help="Only chats listed for this: waiting, unanswered, empty, overdue, stuck, invalid, or one "
    "of them in full such as overdue:critical or lost_reply; may be given more than once.",
)
@click.option(
    "--operator",
    "operators",
    multiple=True,
    help="Only chats of this operator, by id or name; may be given more than once.",
)
@click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(1, 20_000),
    help="Show at most so many chats of a database, the oldest.",
)
@options.as_json
def chats(
    config_file: Path,
    name: str | None,
    states: Sequence[str],
    reasons: Sequence[str],
    operators: Sequence[str],
    limit: int,
    as_json: bool,
) -> None:
    """Show which chats the metrics count, the oldest first, and why. Read-only.

    Exit code 0: none is overdue, stuck or invalid. 1: one or more are. 2: unknown.
    """
    try:
        config = load_config(config_file, check_dsn=check_dsn)
        plans = options.pick_databases(build_plans(config), name)
        for plan in plans.values():
            check_reasons(plan, reasons)
    except ChatqueueError as error:
        # Not main's exit code 1: a script would take it for chats in trouble.
        click.echo(f"chatqueue: {error}", err=True)
        sys.exit(UNKNOWN)
    release_plans = build_release_plans(config)
    filters = Filters(tuple(states), tuple(reasons), tuple(operators))
    listings = [read_listing(plan, release_plans[key], filters) for key, plan in plans.items()]
    if as_json:
        print_json([build_document(each, each.chats[:limit]) for each in listings])
    elif _is_terminal():
        _print_blocks(listings, limit)
    else:
        _print_lines(listings, limit)
    sys.exit(_exit_code(listings))


def _is_terminal() -> bool:
    """Whether people read the output, rather than a program."""
    return sys.stdout.isatty()


def _exit_code(listings: Sequence[Listing]) -> int:
    """The worst of all; trouble outweighs what is unknown."""
    if any(chat.is_trouble for listing in listings for chat in listing.chats):
        return TROUBLE
    return UNKNOWN if any(listing.problems for listing in listings) else CALM


def _print_lines(listings: Sequence[Listing], limit: int) -> None:
    """One line per chat, separated by tabs, for pipes; the columns never change their order."""
    names = ("database", "chat", "state", "age_seconds", "unanswered_seconds", "operator")
    click.echo("\t".join((*names, "seen_seconds", "reasons", "auto_release")))
    for listing in listings:
        for chat in listing.chats[:limit]:
            ages = (chat.age_s, chat.unanswered_s, chat.seen_s)
            age, unanswered, seen = ("-" if s is None else f"{s:.0f}" for s in ages)
            cells = (
                *(listing.database, chat.chat_id, chat.state or "-", age, unanswered),
                *(chat.operator_id or "-", seen, ",".join(chat.reasons), chat.verdict.words),
            )
            click.echo("\t".join(one_line(cell, markup=False) for cell in cells))
        _print_notes(listing, limit)


def _print_blocks(listings: Sequence[Listing], limit: int) -> None:
    """A few lines per chat, the id alone on the first: no terminal is too narrow for it."""
    for listing in listings:
        click.echo(f"{listing.database}: {_count(listing)}")
        for chat in listing.chats[:limit]:
            click.echo(f"\n{chat.chat_id}")
            for text in _describe(chat):
                click.echo(f"  {text}")
        click.echo("")
        _print_notes(listing, limit)


def _count(listing: Listing) -> str:
    if not listing.chats:
        return "no such chat" if listing.at else "unknown"
    count = len(listing.chats)
    return "1 chat" if count == 1 else f"{count:,} chats, oldest first"


def _describe(chat: Chat) -> Iterable[str]:
    """The lines below a chat's id."""
    parts = [f"{chat.state or 'no chat'} for {format_value(chat.age_s, 'seconds')}"]
    if chat.unanswered_s is not None:
        parts.append(f"unanswered for {format_value(chat.unanswered_s, 'seconds')}")
    yield ", ".join(parts)
    if chat.operator_id is not None:
        seen = "unknown"
        if chat.seen_s is not None:
            seen = f"{format_value(chat.seen_s, 'seconds')} ago"
        yield f"operator {chat.operator_id}, last sign of life {seen}"
        if chat.operator is not None:
            yield f"  named {one_line(_shorten(chat.operator), markup=False)}"
    yield f"why: {', '.join(chat.reasons)}"
    yield f"auto-release: {one_line(chat.verdict.words, markup=False)}"


def _shorten(name: str) -> str:
    return name if len(name) <= _NAME_CHARS else name[: _NAME_CHARS - 1] + "…"


def _print_notes(listing: Listing, limit: int) -> None:
    """What is missing, on standard error: what is piped on stays clean."""
    where = listing.database
    if len(listing.chats) > limit:
        more = f"{where}: {limit:,} of {len(listing.chats):,} chats shown, --limit shows more"
        click.echo(more, err=True)
    for problem in listing.problems:
        click.echo(f"{where}: unknown: {one_line(problem, markup=False)}", err=True)
    if listing.not_asked:
        names = ", ".join(listing.not_asked)
        text = f"{where}: not looked for, unless --reason names it: {names}"
        click.echo(text, err=True)
