"""Where commands print: any terminal, file or pipe, whatever it can show or hold.

Owns the one console, and what becomes of a device that fails; exit codes are the caller's.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from exporter.errors import ChatqueueError

if TYPE_CHECKING:
    from rich.console import Console

CANNOT_WRITE = 2
READER_GONE = 141
"""As a shell says of a program that a closed pipe ended: 128 and SIGPIPE's number."""

_WIDEST = 100_000
_ERRORS = "chatqueue.plain"
# Stand-ins for what a device may not know; of one character where a column depends on it.
_PLAIN = {
    "✓": "+", "✗": "x", "→": "->", "…": "...", "█": "#", "▒": "=", "░": ".", "▁": "_",
    "▂": "_", "▃": "-", "▄": "-", "▅": "=", "▆": "=", "▇": "#", "·": ".", "≤": "<=", "≥": ">=",
    "—": "-", "━": "-", "╸": "-", "╺": "-",
}  # fmt: skip
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class CannotWrite(ChatqueueError):
    """The device took not all of the output: a full disk, or one that failed."""

    exit_code = CANNOT_WRITE


class ReaderGone(ChatqueueError):
    """The other end of the pipe is closed; there is nothing to say, and nobody to say it to."""

    exit_code = READER_GONE


def build_console() -> Console:
    """Return a console that prints every row of a table in one line, as wide as it is.

    A terminal breaks what is too long for it by itself; a name or an id stays whole, to be copied
    or searched for.
    """
    from rich.console import Console

    class _Console(Console):
        def on_broken_pipe(self) -> NoReturn:
            """Leave it to `printing` rather than end with the exit code 1."""
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    return _Console(highlight=False, emoji=False, width=_WIDEST)


def one_line(value: object) -> str:
    """Return a value's text for a cell: markup escaped, control characters shown, not obeyed."""
    from rich.markup import escape

    return escape(_CONTROL.sub(lambda match: repr(match[0])[1:-1], str(value)))


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """Let output be written whatever the device can show, and flush it at the end.

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
            raise ReaderGone("the output's reader is gone") from None
        what = error.strerror or type(error).__name__
        raise CannotWrite(f"the output cannot be written: {what}") from None


def _make_lenient(stream: object) -> None:
    """Let a stream write a stand-in for what its encoding does not know."""
    if isinstance(stream, io.TextIOWrapper):
        codecs.register_error(_ERRORS, _replace)
        stream.reconfigure(errors=_ERRORS)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(_PLAIN.get(char, "?") for char in found), error.end


def _give_up_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter's own flush does not fail."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
