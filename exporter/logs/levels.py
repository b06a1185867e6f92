"""The level of a record by word or number, after the standard of its format. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LEVELS = ("error", "warning", "info", "debug", "other")

_OF_WORD = {
    **dict.fromkeys(
        ("emerg", "emergency", "alert", "crit", "critical", "fatal", "panic", "err"), "error"
    ),
    **dict.fromkeys(("error", "severe", "exception", "ftl", "fail"), "error"),
    **dict.fromkeys(("warn", "warning", "wrn"), "warning"),
    **dict.fromkeys(("info", "information", "notice", "log", "inf"), "info"),
    **dict.fromkeys(("debug", "trace", "verbose", "silly", "dbg", "vrb", "dbug", "trce"), "debug"),
}
# Levels only where a key says so: these are words or letters of prose, too.
_OF_VALUE = _OF_WORD | {
    **dict.fromkeys(("f", "e", "a", "c", "failure"), "error"),
    **dict.fromkeys(("w", "caution"), "warning"),
    **dict.fromkeys(("i", "n", "informational", "config"), "info"),
    **dict.fromkeys(("d", "t", "v", "fine", "finer", "finest"), "debug"),
}
_WORDS = "|".join(sorted(_OF_WORD, key=len, reverse=True))
# `level=error`, `[error]`, `ERROR`, `error:`, glog's `E1127 `: a word of prose is no level.
_IN_TEXT = re.compile(
    rf"\b(?:level|lvl|severity)=\"?(?i:({_WORDS}))\b|[\[<](?i:({_WORDS}))[\]>]"
    rf"|\b({_WORDS.upper()})\b|(?:^|\s)(?i:({_WORDS})):\s|^([EWIF])\d{{4}} "
)
_HEAD_CHARS = 160

# The least number of each level, highest first.
_Scale = tuple[tuple[float, str], ...]
_SYSLOG: _Scale = ((8, "other"), (7, "debug"), (5, "info"), (4, "warning"), (0, "error"))
_PINO: _Scale = ((50, "error"), (40, "warning"), (30, "info"), (8, "debug"))
_PYTHON: _Scale = ((40, "error"), (30, "warning"), (20, "info"), (0, "debug"))
_HUNDREDS: _Scale = ((400, "error"), (300, "warning"), (200, "info"), (100, "debug"))
_JAVA: _Scale = ((1000, "error"), (900, "warning"), (700, "info"), (0, "debug"))
_LOGBACK: _Scale = ((40_000, "error"), (30_000, "warning"), (20_000, "info"), (0, "debug"))
_GOOGLE: _Scale = (
    (500, "error"), (400, "warning"), (200, "info"), (100, "debug"), (0, "other")
)  # fmt: skip
_OTLP: _Scale = ((17, "error"), (13, "warning"), (9, "info"), (1, "debug"), (0, "other"))
_DOTNET: _Scale = ((6, "other"), (4, "error"), (3, "warning"), (2, "info"), (0, "debug"))
_AZURE: _Scale = ((3, "error"), (2, "warning"), (1, "info"), (0, "debug"))
_WINDOWS: _Scale = (
    (6, "other"), (5, "debug"), (4, "info"), (3, "warning"), (1, "error"), (0, "info")
)  # fmt: skip

# Keys in small letters, in order of preference; with an empty scale the number itself indicates its
# standard.
_KEYS: Mapping[str, _Scale] = {
    **dict.fromkeys(("level", "severity", "lvl", "log_level", "@level", "@l", "log.level"), ()),
    **dict.fromkeys(("levelname", "level_name", "severitytext", "severity_text"), ()),
    **dict.fromkeys(("severitynumber", "severity_number"), _OTLP),
    **dict.fromkeys(("loglevel",), _DOTNET),
    **dict.fromkeys(("severitylevel",), _AZURE),
    **dict.fromkeys(("levelno",), _PYTHON),
    **dict.fromkeys(("level_value",), _LOGBACK),
    **dict.fromkeys(("syslog_severity", "severity_code", "syslog.severity.code"), _SYSLOG),
    **dict.fromkeys(("detected_level", "error_severity", "log", "status"), ()),
}
# Set by a collector on every line of a program that names no level itself.
_COLLECTOR_KEYS: Mapping[str, _Scale] = {"priority": _SYSLOG}
# Left out of texts: `level=error` beside `op=assign` is no failed assignment.
KEYS = frozenset((*_KEYS, *_COLLECTOR_KEYS)) - {"log", "status"}


def level_of_text(text: str) -> str:
    """Return the level that a line of plain text names near its beginning, or `other`."""
    match = _IN_TEXT.search(text[:_HEAD_CHARS])
    word = next(filter(None, match.groups())) if match is not None else ""
    return (_OF_VALUE if len(word) == 1 else _OF_WORD).get(word.lower(), "other")


def level_of_priority(priority: int) -> str:
    """Return the level of a syslog line's `<priority>`: facility and severity in one number."""
    return _scaled(priority % 8, _SYSLOG) if priority < 192 else "other"


def level_of(value: Mapping[str, Any]) -> str:
    """Return the level that an object with keys in small letters names itself, or `other`."""
    return _first_level(value, _KEYS)


def level_of_collector(value: Mapping[str, Any]) -> str:
    """Return the level a collector gave an object's line, or `other`; as `level_of`."""
    return _first_level(value, _COLLECTOR_KEYS)


def _first_level(value: Mapping[str, Any], keys: Mapping[str, _Scale]) -> str:
    present = ((key, scale) for key, scale in keys.items() if key in value)
    levels = (_level(value[key], scale or _scale_of_shape(key, value)) for key, scale in present)
    return next((level for level in levels if level != "other"), "other")


def _scale_of_shape(key: str, value: Mapping[str, Any]) -> _Scale:
    """The standard that the keys beside a level indicate."""
    if key == "severity" and _number(value[key]) >= 100:
        return _GOOGLE
    return _WINDOWS if "resourceid" in value else ()


def _level(value: object, scale: _Scale) -> str:
    """A level by word or by number."""
    if isinstance(value, Mapping):  # ECS: log: {level: …}
        return _level(value.get("level", value.get("name")), scale)
    if isinstance(value, str):
        # OTLP's and PostgreSQL's words may be numbered: WARN2, DEBUG1.
        level = _OF_VALUE.get(value.strip().lower().rstrip("!0123456789"), "other")
        if level != "other":
            return level
    number = _number(value)
    return _scaled(number, scale or _scale_of(number)) if number >= 0 else "other"


def _scale_of(number: float) -> _Scale:
    """The standard by which a plain `level` of that size is numbered."""
    if number < 8:
        return _SYSLOG
    if number < 100:
        return _PINO
    if number <= 600:
        return _HUNDREDS
    return _JAVA if number < 10_000 else _LOGBACK


def _number(value: object) -> float:
    """A number, also as text; -1 for all else."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,5}\s*", value):
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Of thousands of digits, infinite or no number: as good as none.
        return min(value, 100_000) if value >= 0 else -1
    return -1


def _scaled(number: float, scale: _Scale) -> str:
    return next((level for least, level in scale if number >= least), "other")
