"""`chatqueue answers`: ask people what only they can judge, and keep their answers in a file."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from exporter.ops.report.answers import (
    Answer,
    Answers,
    Line,
    fill_in,
    read_answers,
    write_answers,
)

CODES = {"signed off": 0, "refused": 1, "open": 3}
_CHOICES = click.Choice(["yes", "no", "later"])


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def answers(file: Path) -> None:
    """Ask for each open line of FILE and write what is answered into it at once.

    Piped, nothing is asked: a file that is not there is written for people to fill in, and what is
    open is listed.

    Exit code 0: signed off. 1: refused. 3: something is open.
    """
    known = read_answers(file) if file.exists() else Answers()
    if not file.exists():
        write_answers(file, known)
    if is_terminal():
        known = _ask_all(file, known)
    for line in known.lines:
        if line.given.answer != "yes":
            click.echo(f"{line.given.answer or 'open'}: {line.words}")
    click.echo(f"{known.state}; chatqueue report --answers {file} shows it")
    sys.exit(CODES[known.state])


def is_terminal() -> bool:
    """Return whether somebody can be asked."""
    return sys.stdin.isatty()


def _ask_all(file: Path, known: Answers) -> Answers:
    """Ask for every open line; an interruption loses no answer that was given."""
    open_lines = [line for line in known.lines if line.given.answer is None]
    if not open_lines:
        return known
    name = click.prompt("Your name")
    for line in open_lines:
        answer = _ask(line, name)
        if answer is not None:
            known = fill_in(known, line, answer)
            write_answers(file, known)
    return known


def _ask(line: Line, name: str) -> Answer | None:
    """One line's answer, None for later."""
    question = line.words
    if line.section == "sign_offs":
        question = f"As {line.words.lower()}: the deployment stands?"
    choice = click.prompt(question, type=_CHOICES, default="later")
    if choice == "later":
        return None
    note = click.prompt("Note", default="", show_default=False)
    at = datetime.now(UTC).replace(microsecond=0)
    given: Literal["yes", "no"] = "yes" if choice == "yes" else "no"
    return Answer(answer=given, by=name, at=at, note=note or None)
