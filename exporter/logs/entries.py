"""A line or a JSON value → its level and the text that patterns are matched against. Pure.

Reads plain text, JSON lines, and the objects of container runtimes, collectors and hosted
platforms, whose message may be such a line again. An object without a known message key is read as
a whole, so that no format is missed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from exporter.logs import levels
from exporter.logs.levels import LEVELS, level_of_text

__all__ = ["LEVELS", "MAX_TEXT_CHARS", "Entry", "plain", "read_line", "read_object"]

MAX_TEXT_CHARS = 8 * 1024

# In small letters.
_MESSAGE_KEYS = (
    "message", "msg", "event_message", "event", "text", "short_message", "full_message", "log",
    "textpayload", "jsonpayload", "body", "@message", "@m", "@mt", "renderedmessage",
    "rendered_message", "messagetemplate", "log_message", "logmessage", "content", "payload",
    "line", "_raw", "raw",
)  # fmt: skip
_CONTEXT_KEYS = frozenset((
    "context", "proxy", "error", "err", "metadata", "request", "response", "exception",
    "exceptions", "errors", "cause", "@x", "exc_info", "stack_trace", "stacktrace", "attributes",
    "details", "detail", "extra", "hint", "reason",
))  # fmt: skip
_TEXT_KEYS = frozenset(("path", "status", "statuscode", "code", "name", "stack"))
_MAX_NESTING = 4
_MAX_VALUES = 1000
_MAX_DEPTH = 16

# Prefixes of collectors: a container runtime's time and stream, syslog's priority (with the octet
# count of a drain).
_CONTAINER = re.compile(r"\d{4}-\d\d-\d\dT\S+ (?:stdout|stderr) [FP] ")
_PRIORITY = re.compile(r"(?:\d{1,6} )?<(\d{1,3})>")
# A line of a stack trace continues the one before it. Any other indented line is a separate one:
# frameworks indent their messages, too.
_FRAME = re.compile(
    r"\s+(?:at\s|\.{3} ?\d+ (?:more|common)|File \"|from \S+:\d+|#\d+\s|\d+: 0x|[\^~]+\s*$"
    r"|\S+:\d+:in\b)"
)


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
    """Read one line, as JSON where it is an object of JSON, also behind a collector's prefix.

    Args:
        line: Without its end.
        level: Its level where it is known; the text is then not searched for one.
        nesting: In how many other lines it stood.
    """
    line = _CONTAINER.sub("", line, count=1) if line[:2].isdigit() else line
    value, before = _object_in(line) if nesting <= _MAX_NESTING else (None, "")
    if value is not None:
        entry = read_object(value, level, nesting)
        return Entry(entry.level, f"{before}{entry.text}"[:MAX_TEXT_CHARS])
    text = line[:MAX_TEXT_CHARS]
    if level != "other":
        return Entry(level, text)
    if _FRAME.match(text):
        return Entry("other", "")
    level = level_of_text(text)
    priority = _PRIORITY.match(text)
    if level == "other" and priority is not None:
        level = levels.level_of_priority(int(priority[1]))
    return Entry(level, text)


def read_object(value: Mapping[str, Any], level: str = "other", nesting: int = 0) -> Entry:
    """Read one JSON object, whose message may be a line or an object again.

    The program's own level is preferred to that of the platform that wrapped its line.
    """
    value = {key.lower(): plain(inner) for key, inner in value.items()}
    own = levels.level_of(value)
    level = level if own == "other" else own
    messages = [value[key] for key in _MESSAGE_KEYS if _is_message(value.get(key))]
    inner = _read_message(messages[0], level, nesting) if messages else Entry(level, "")
    parts = [inner.text, *(each for each in messages[1:] if isinstance(each, str))]
    parts += _details(value)
    text = " ".join(part for part in parts if part)
    level = inner.level
    if not messages:
        text = " ".join(filter(None, (text, *_strings(value, skip=_CONTEXT_KEYS | _TEXT_KEYS))))
        level = level_of_text(text) if level == "other" else level
    level = levels.level_of_collector(value) if level == "other" else level
    return Entry(level, text[:MAX_TEXT_CHARS])


def plain(value: Any) -> Any:
    """Return a value of OTLP, `{stringValue: …}` or a list of keys and values, as plain JSON.

    Anything else is returned as it is.
    """
    if isinstance(value, dict) and len(value) == 1:
        key, inner = next(iter(value.items()))
        if key in ("stringValue", "intValue", "doubleValue", "boolValue", "bytesValue"):
            return inner
        if key in ("kvlistValue", "arrayValue") and isinstance(inner, dict):
            return plain(inner.get("values", []))
    if isinstance(value, list) and value:
        pairs = [each for each in value if isinstance(each, dict) and set(each) == {"key", "value"}]
        if len(pairs) == len(value):
            return {str(each["key"]): plain(each["value"]) for each in pairs}
    return value


def _object_in(line: str) -> tuple[dict[str, Any] | None, str]:
    """The JSON object with which a line ends, and what stands before it."""
    place = 0 if line.lstrip()[:1] == "{" else line.find('{"')
    if place < 0 or not line.rstrip().endswith("}"):
        return None, ""
    try:
        value = json.loads(line[place:])
    # A number of more digits than Python reads, or brackets deeper than its stack.
    except (ValueError, RecursionError):
        return None, ""
    return (value, line[:place]) if isinstance(value, dict) else (None, "")


def _is_message(value: object) -> bool:
    """Whether a value is a text that is not blank, or may hold one."""
    return bool(value.strip() if isinstance(value, str) else value) and isinstance(
        value, str | dict | list
    )


def _read_message(message: Any, level: str, nesting: int) -> Entry:
    if isinstance(message, dict) and nesting < _MAX_NESTING:
        return read_object(message, level, nesting + 1)
    if isinstance(message, str):
        return read_line(message.rstrip("\r\n"), level, nesting + 1)
    return Entry(level, " ".join(_strings(message)))


def _strings(value: Any, skip: frozenset[str] = frozenset()) -> Iterator[str]:
    """Every text in a value, however deep it stands, up to a number of values."""
    return filter(None, islice(_walk(value, skip | levels.KEYS), _MAX_VALUES))


def _walk(value: Any, skip: frozenset[str], depth: int = 0) -> Iterator[str]:
    """All texts, and an empty one for any other value, so that all values count."""
    if isinstance(value, str):
        yield value[:MAX_TEXT_CHARS]
    elif depth < _MAX_DEPTH and isinstance(value, dict):
        for key, inner in value.items():
            if key.lower() not in skip:
                yield from _walk(inner, levels.KEYS, depth + 1)
    elif depth < _MAX_DEPTH and isinstance(value, list):
        for inner in value:
            yield from _walk(inner, levels.KEYS, depth + 1)
    else:
        yield ""


def _details(value: Mapping[str, Any]) -> Iterator[str]:
    """The values beside the message, as `key=value`."""
    for key, inner in value.items():
        if key in _CONTEXT_KEYS and isinstance(inner, dict):
            for name, each in inner.items():
                yield from _detail(name, plain(each))
        elif key in _CONTEXT_KEYS or key in _TEXT_KEYS:
            yield from _detail(key, inner)


def _detail(key: str, value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield f"{key}={value[:MAX_TEXT_CHARS]}"
    # Flags are left out, and numbers of thousands of digits, which would take long to format.
    elif isinstance(value, int) and value.bit_length() < 64 and not isinstance(value, bool):
        yield f"{key}={value}"
    elif isinstance(value, dict | list):
        yield from _strings(value)
