"""Output of commands to any terminal, file or pipe, whatever its encoding.

Owns the console and the errors of a device that fails; exit codes are used by the caller.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from exporter.errors import ChatqueueError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

CANNOT_WRITE = 2
READER_GONE = 141
"""What a shell reports for a program ended by a closed pipe: 128 plus SIGPIPE's number."""

_WIDEST = 100_000
_ERRORS = "chatqueue.plain"
# Replacements for characters outside a device's encoding; one character where columns align.
_PLAIN = {
    "✓": "+", "✗": "x", "→": "->", "…": "...", "█": "#", "▒": "=", "░": ".", "▁": "_",
    "▂": "_", "▃": "-", "▄": "-", "▅": "=", "▆": "=", "▇": "#", "·": ".", "≤": "<=", "≥": ">=",
    "—": "-", "━": "-", "╸": "-", "╺": "-",
}  # fmt: skip
# Control characters, separators of lines, and what turns the direction of the text around it.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class CannotWrite(ChatqueueError):
    """The output was not written completely: the disk is full or failed."""

    exit_code = CANNOT_WRITE


class ReaderGone(ChatqueueError):
    """The other end of the pipe is closed; nothing more is printed."""

    exit_code = READER_GONE


def build_console() -> Console:
    """Return a console that prints each table row on one line, however wide.

    The terminal wraps long lines itself; names and ids stay whole for copying and searching.
    """
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> NoReturn:
            """Let `printing` handle it; rich would exit with code 1."""
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    return _Console(highlight=False, emoji=False, width=_WIDEST)


def build_table(*headings: str) -> Table:
    """Return an empty table in the one style of all commands."""
    from rich.table import Table

    return Table(*headings, box=None, pad_edge=False)


def print_json(document: object) -> None:
    """Print a document for scripts."""
    click.echo(json.dumps(document, indent=2))


def write_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files below a folder, made where it is missing, and print their paths.

    Raises:
        ChatqueueError: One of them cannot be written.
    """
    for name, text in texts.items():
        file = folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ChatqueueError(f"cannot write {file}: {error.strerror}") from error
        click.echo(file)


def one_line(value: object, *, markup: bool = True) -> str:
    """Return a value's text on one line, with control characters escaped.

    Args:
        value: Anything.
        markup: Whether it is for a table cell, where markup is escaped as well.
    """
    text = _CONTROL.sub(lambda match: repr(match[0])[1:-1], str(value))
    if not markup:
        return text
    from rich.markup import escape

    return escape(text)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Write output in any encoding, and flush it at the end.

    Raises:
        CannotWrite: The device is full or failed.
        ReaderGone: The pipe is closed.
    """
    for stream in (sys.stdout, sys.stderr):
        _make_lenient(stream)
    try:
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None and not stream.closed:
                    stream.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        _give_up_output()
        if error.errno == errno.EPIPE:
            raise ReaderGone("the output's pipe is closed") from None
        what = error.strerror or type(error).__name__
        raise CannotWrite(f"the output cannot be written: {what}") from None


def _make_lenient(stream: object) -> None:
    """Let a stream replace characters that its encoding does not have."""
    if isinstance(stream, io.TextIOWrapper):
        codecs.register_error(_ERRORS, _replace)
        stream.reconfigure(errors=_ERRORS)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char, "?") for char in text), error.end


def _give_up_output() -> None:
    """Discard what is still buffered, so that the interpreter's own flush does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
