"""The kinds of value a key can hold: how each is read, refused and described to editors.

Every refusal is a `PydanticCustomError` of type `fault` with `problem` (follows the value in a
message) and `expected`; `faults` puts file, line and value around them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from exporter.config.durations import (
    DURATION_FORM,
    DURATION_PATTERN,
    parse_duration,
)
from exporter.config.frozen import FrozenDict
from exporter.text import format_duration

V = TypeVar("V")

FROM_ENVIRONMENT = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"
"""A value that is taken from the environment, as a pattern of the JSON Schema."""

RESERVED_LABELS = frozenset(
    (
        *("database", "state", "status", "severity", "operator", "query", "relation", "reason"),
        *("le", "at_most", "sender", "outcome", "check", "window", "job", "instance", "version"),
        *("mode", "decision", "from_state", "to_state", "avoidable", "figure", "kind", "name"),
        *("source", "level"),
    )
)
"""Labels the exporter or Prometheus puts on series itself."""


def fault(problem: str, expected: str, *, bare: bool = False) -> PydanticCustomError:
    """Build the refusal of a value; `problem` follows the value as written, unless `bare`."""
    context = {"problem": problem, "expected": expected, "bare": bare}
    return PydanticCustomError("fault", "{problem}, expected {expected}", context)


def read_duration(value: object) -> timedelta:
    """Read a duration as the file has it, or refuse it."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _read_bare_number(value)
    if not isinstance(value, str):
        raise fault(_not("a duration", value), DURATION_FORM)
    try:
        return parse_duration(value)
    except ValueError as error:
        too_long = "too long" in str(error)
        problem = "is too long" if too_long else "is not a duration"
        raise fault(problem, "at most 290y" if too_long else DURATION_FORM) from None


def _read_bare_number(value: float) -> timedelta:
    if value == 0:
        return timedelta(0)
    try:
        example = format_duration(timedelta(seconds=value))
    except (OverflowError, ValueError):
        raise fault("has no unit", DURATION_FORM) from None
    raise fault("has no unit", f"a duration such as {example}")


def _read_limit(value: object) -> timedelta | None:
    # YAML 1.1 reads a bare off as false, YAML 1.2 as text; both mean it.
    # An empty value is neither: nobody loses a pager by a line left unfinished.
    if value is False or value == "off":
        return None
    try:
        return read_duration(value)
    except PydanticCustomError as error:
        context = error.context or {}
        raise fault(context["problem"], f"{context['expected']}, or off") from None


def _not(kind: str, value: object) -> str:
    return "is given" if value is None else f"is not {kind}"


def _read_text(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    if value is None or value == "":
        raise fault("is given" if value is None else "is empty", "text")
    quoted = isinstance(value, bool | int | float)
    raise fault("is not text", "text in quotes" if quoted else "text")


def read_whole_number(value: object) -> int:
    """Read digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # A number out of the environment arrives as text.
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
        return int(value)
    raise fault(_not("a whole number", value), "digits such as 10")


def _read_switch(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise fault("is not a switch", "true or false")


def _read_parameter(value: object) -> str | int | float | bool:
    if isinstance(value, float) and not math.isfinite(value):
        raise fault("is not a finite number", "text, a number, true or false")
    if isinstance(value, str | int | float):
        return value
    raise fault(_not("a single value", value), "text, a number, true or false")


def read_dsn(value: object) -> str:
    """Check that a value can be a connection string; no message repeats it."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    expected = "a connection string such as postgresql://… or host=… dbname=…"
    if not isinstance(text, str | None):
        raise fault("is not text", expected)
    if text is None or not text.strip():
        raise fault("is empty", expected)
    # Which scheme it is, and all else, is for libpq.
    if not re.match(r"[\w+:]+:(?://|$)", text.strip()) and "=" not in text:
        raise fault("is not a connection string", expected)
    return text.strip()


def _read_path(value: object) -> Path:
    return value if isinstance(value, Path) else Path(_read_text(value))


def between(low: str, high: str) -> AfterValidator:
    """Bound a duration, both ends included, written as in the file."""
    least, most = parse_duration(low), parse_duration(high)

    def check(value: timedelta | None) -> timedelta | None:
        if value is not None and value < least:
            raise fault("is too short", f"{low} or more")
        if value is not None and value > most:
            raise fault("is too long", f"{high} or less")
        return value

    return AfterValidator(check)


def from_to(low: int, high: int) -> AfterValidator:
    """Bound a whole number, both ends included."""

    def check(value: int) -> int:
        if not low <= value <= high:
            raise fault("is out of range", f"a whole number from {low} to {high}")
        return value

    return AfterValidator(check)


def whole_number_schema(low: int, high: int) -> WithJsonSchema:
    """Describe a bounded whole number, which may also come out of the environment."""
    return WithJsonSchema(
        {
            "title": "whole number",
            "type": ["integer", "string"],
            "minimum": low,
            "maximum": high,
            "pattern": rf"^[0-9]+$|{FROM_ENVIRONMENT}",
        }
    )


def _check_database_name(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9_.-]{1,63}", name):
        raise fault("is not a database name", "1 to 63 letters, digits, _, . or -")
    return name


def _check_label_name(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
        raise fault("is not a label name", "letters, digits and _, not beginning with a digit")
    if name.startswith("__"):
        raise fault("is a label name of Prometheus itself", "a name not beginning with __")
    if name in RESERVED_LABELS:
        raise fault("is a label the exporter sets itself", "another name")
    return name


def _check_query_name(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9_.-]+", name):
        raise fault("is not a query name", "the name of a .sql file, without its ending")
    return name


def _check_parameter_name(name: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
        raise fault("is not a parameter name", "letters, digits and _, not beginning with a digit")
    return name


def _pattern(text: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": text})


def _empty_if_none(value: object) -> object:
    # `labels:` with all its lines commented out is a null to YAML.
    return {} if value is None else value


def _no_entries_if_none(value: object) -> object:
    return [] if value is None else value


def _at_least_one(value: Mapping[str, V]) -> Mapping[str, V]:
    if not value:
        raise fault("no database is named", "at least one", bare=True)
    return value


def _freeze(value: Mapping[str, V]) -> FrozenDict[str, V]:
    return FrozenDict(value)


EMPTY_MEANS_NONE = BeforeValidator(_empty_if_none)
AT_LEAST_ONE = AfterValidator(_at_least_one)
FREEZE = AfterValidator(_freeze)

_DURATION_SCHEMA = {
    "title": "duration",
    "type": "string",
    "pattern": f"{DURATION_PATTERN}|{FROM_ENVIRONMENT}",
}

Duration = Annotated[
    timedelta,
    PlainValidator(read_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_DURATION_SCHEMA),
]
Limit = Annotated[
    timedelta | None,
    PlainValidator(_read_limit),
    PlainSerializer(lambda v: "off" if v is None else format_duration(v), return_type=str),
    WithJsonSchema(
        {
            "title": "duration or off",
            "anyOf": [
                {"type": "string", "pattern": f"{DURATION_PATTERN}|{FROM_ENVIRONMENT}"},
                {"enum": ["off", False]},
            ],
        }
    ),
]
WholeNumber = Annotated[int, PlainValidator(read_whole_number)]
Text = Annotated[
    str, PlainValidator(_read_text), WithJsonSchema({"title": "text", "type": "string"})
]
Switch = Annotated[
    bool | None,
    PlainValidator(_read_switch),
    WithJsonSchema(
        {
            "title": "true or false",
            "type": ["boolean", "string", "null"],
            "pattern": f"^(true|false|yes|no|on|off)$|{FROM_ENVIRONMENT}",
        }
    ),
]
Parameter = Annotated[
    str | int | float | bool,
    PlainValidator(_read_parameter),
    WithJsonSchema(
        {"title": "text, number, true or false", "type": ["string", "number", "boolean"]}
    ),
]
Dsn = Annotated[
    SecretStr,
    BeforeValidator(read_dsn),
    WithJsonSchema({"title": "connection string", "type": "string", "minLength": 1}),
]
FilePath = Annotated[
    Path,
    PlainValidator(_read_path),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"title": "path", "type": "string", "minLength": 1}),
]
FilePaths = Annotated[tuple[FilePath, ...], BeforeValidator(_no_entries_if_none)]


def read_share(value: object) -> float:
    """Read a number above 0 and below 1."""
    # A number out of the environment arrives as text.
    if isinstance(value, str) and re.fullmatch(r"0?\.[0-9]{1,9}", value, re.ASCII):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1:
        return float(value)
    raise fault("is not a share", "a number above 0 and below 1, such as 0.9")


Share = Annotated[
    float,
    PlainValidator(read_share),
    WithJsonSchema(
        {
            "title": "share",
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
        }
    ),
]
RELEASE_OUTCOMES = (
    "replied",
    "customer_replied",
    "idle_timeout",
    "auto_release",
    "admin",
    "manual",
    "closed",
    "other",
)
"""How an assignment can end: the `outcome` label of `chatqueue_releases_total`."""


def _read_outcome(value: object) -> str:
    if value in RELEASE_OUTCOMES:
        return str(value)
    raise fault("is not an outcome", f"one of {', '.join(RELEASE_OUTCOMES)}")


ReleaseOutcome = Annotated[
    str,
    PlainValidator(_read_outcome),
    WithJsonSchema(
        {
            "title": "outcome",
            "anyOf": [
                {"enum": list(RELEASE_OUTCOMES)},
                {"type": "string", "pattern": FROM_ENVIRONMENT},
            ],
        }
    ),
]
Pattern = Annotated[str, PlainValidator(_read_text), _pattern("^.+$")]
OperatorLabel = Annotated[
    Literal["name", "id"],
    WithJsonSchema(
        {
            "title": "name or id",
            "anyOf": [
                {"enum": ["name", "id"]},
                {"type": "string", "pattern": FROM_ENVIRONMENT},
            ],
        }
    ),
]
DatabaseName = Annotated[
    str, AfterValidator(_check_database_name), _pattern("^[a-zA-Z0-9_.-]{1,63}$")
]
LabelName = Annotated[
    str, AfterValidator(_check_label_name), _pattern("^(?!__)[a-zA-Z_][a-zA-Z0-9_]*$")
]
QueryName = Annotated[str, AfterValidator(_check_query_name), _pattern("^[a-zA-Z0-9_.-]+$")]
ParameterName = Annotated[
    str, AfterValidator(_check_parameter_name), _pattern("^[a-zA-Z_][a-zA-Z0-9_]*$")
]
