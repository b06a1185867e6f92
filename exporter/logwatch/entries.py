"""A line or a JSON value → its level and the text to look at. Pure.

Knows the shapes in which log lines come: plain text, JSON lines with `level`, `message` and
`context`, and the envelopes of hosted platforms, whose `message` may be such a line again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LEVELS = ("error", "warning", "info", "debug", "other")
MAX_TEXT_CHARS = 8 * 1024

_LEVEL_OF_WORD = {
    **dict.fromkeys(
        ("emerg", "emergency", "alert", "crit", "critical", "fatal", "panic", "err"), "error"
    ),
    **dict.fromkeys(("error", "severe", "exception"), "error"),
    **dict.fromkeys(("warn", "warning"), "warning"),
    **dict.fromkeys(("info", "information", "notice", "log"), "info"),
    **dict.fromkeys(("debug", "trace", "verbose", "silly"), "debug"),
}
# As pino and bunyan number them.
_LEVEL_NUMBERS = ((50, "error"), (40, "warning"), (30, "info"), (0, "debug"))
_WORDS = "|".join(sorted(_LEVEL_OF_WORD, key=len, reverse=True))
# `level=error`, `[error]`, `ERROR`, `error:`: a word of prose is no level.
_LEVEL_IN_TEXT = re.compile(
    rf"\b(?:level|lvl|severity)=\"?(?i:({_WORDS}))\b|[\[<](?i:({_WORDS}))[\]>]"
    rf"|\b({_WORDS.upper()})\b|(?:^|\s)(?i:({_WORDS})):\s"
)
_HEAD_CHARS = 160
_LEVEL_KEYS = ("level", "severity", "lvl", "log_level", "levelname")
_MESSAGE_KEYS = ("message", "msg", "event_message", "event", "text")
_CONTEXT_KEYS = frozenset(("context", "proxy", "error", "err", "metadata", "request", "response"))
_TEXT_KEYS = frozenset(("path", "status", "statusCode", "code", "name", "stack"))
_MAX_NESTING = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of a log.

    Attributes:
        level: One of LEVELS; `other` where the line names none.
        text: What patterns are matched against, at most MAX_TEXT_CHARS.
    """

    level: str
    text: str


def read_line(line: str, level: str = "other", nesting: int = 0) -> Entry:
    """Read one line, as JSON where it is an object of JSON.

    Args:
        line: Without its end.
        level: What is known of its level; text is then not looked through for one.
        nesting: In how many other lines it stood.
    """
    if line.lstrip()[:1] == "{":
        try:
            value = json.loads(line)
        # A number of more digits than Python reads, or brackets deeper than its stack.
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return read_object(value, level, nesting)
    text = line[:MAX_TEXT_CHARS]
    if level != "other":
        return Entry(level, text)
    if text[:1] in " \t":
        # The continuation of the line before it, such as a stack trace.
        return Entry("other", "")
    found = _LEVEL_IN_TEXT.search(text[:_HEAD_CHARS])
    word = next(filter(None, found.groups())) if found is not None else ""
    return Entry(_LEVEL_OF_WORD.get(word.lower(), "other"), text)


def read_object(value: Mapping[str, Any], level: str = "other", nesting: int = 0) -> Entry:
    """Read one JSON object, which may hold a line of its own as its message.

    A platform wraps what the program wrote; the program knows better how bad it is.
    """
    level = next((_level(value[key]) for key in _LEVEL_KEYS if key in value), level)
    message = next((value[key] for key in _MESSAGE_KEYS if value.get(key)), "")
    if isinstance(message, dict) and nesting < _MAX_NESTING:
        inner = read_object(message, level, nesting + 1)
    elif isinstance(message, str) and nesting < _MAX_NESTING:
        inner = read_line(message, level, nesting + 1)
    else:
        inner = Entry(level, message if isinstance(message, str) else "")
    text = " ".join(part for part in (inner.text, *_details(value)) if part)
    return Entry(inner.level, text[:MAX_TEXT_CHARS])


def _level(value: object) -> str:
    """A level by word or by number."""
    if isinstance(value, str):
        return _LEVEL_OF_WORD.get(value.strip().lower(), "other")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return next((level for least, level in _LEVEL_NUMBERS if value >= least), "other")
    return "other"


def _details(value: Mapping[str, Any]) -> Iterator[str]:
    """What stands beside the message, as `key=value`."""
    for key, inner in value.items():
        if key in _CONTEXT_KEYS and isinstance(inner, dict):
            yield from (_detail(*item) for item in inner.items())
        elif key in _CONTEXT_KEYS or key in _TEXT_KEYS:
            yield _detail(key, inner)


def _detail(key: str, value: object) -> str:
    if isinstance(value, str):
        return f"{key}={value[:MAX_TEXT_CHARS]}"
    # A flag says nothing; a number of thousands of digits would take long to write out.
    if isinstance(value, int) and value.bit_length() < 64 and not isinstance(value, bool):
        return f"{key}={value}"
    return ""
