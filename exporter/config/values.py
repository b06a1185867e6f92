"""The kinds of value a key can hold, in pydantic's own terms.

Bounds, choices and patterns are pydantic's; `faults` puts its refusals into words. What pydantic
cannot judge is refused here by `fault`, with `problem` (follows the value in a message) and
`expected`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from exporter.config.durations import (
    DURATION_FORM,
    DURATION_PATTERN,
    parse_duration,
)
from exporter.config.immutable import ImmutableDict
from exporter.text import format_duration

K = TypeVar("K")
V = TypeVar("V")

CheckDsn = Callable[[str], tuple[str, str] | None]

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


@dataclass(frozen=True, slots=True)
class Form:
    """Marks a kind of text: what a message says where a value has another form.

    Attributes:
        problem: Follows the value, where it is text of another form.
        expected: The form.
    """

    problem: str
    expected: str


@dataclass(frozen=True, slots=True)
class Or:
    """Makes a word such as `off` stand for None; the word is what None is written as."""

    word: str

    def __get_pydantic_core_schema__(self, kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Refuse an empty value: an unfinished line must not disable an alert."""
        return core_schema.no_info_wrap_validator_function(
            lambda value, inner: None if self.is_meant(value) else inner(value),
            handler.generate_schema(get_args(kind)[0]),
            serialization=core_schema.wrap_serializer_function_ser_schema(
                lambda value, inner: self.word if value is None else inner(value)
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        words = [self.word, False] if self.word == "off" else [self.word]
        return {"anyOf": [handler(schema), {"enum": words}]}

    def is_meant(self, value: object) -> bool:
        """YAML 1.1 reads a bare off as false, YAML 1.2 as text; both mean it."""
        return value == self.word or (value is False and self.word == "off")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What values are checked against: the context of pydantic's validation.

    Attributes:
        folder: The configuration's own, to which paths in it are relative.
        credentials: systemd's copies, readable by the service alone; secrets are looked for here
            first.
        check_dsn: Says what is wrong with a connection string and what was expected, or None.
    """

    folder: Path
    credentials: Path | None
    check_dsn: CheckDsn

    def locate_secret(self, name: str) -> Path:
        """Return the file that a secret's path means, whether it exists or not."""
        if self.credentials is not None and Path(name).name == name:
            copy = self.credentials / name
            if copy.is_file():
                return copy
        return self.folder / name


def refuse(kind: type, error: Literal["bool_type", "float_type", "int_type"]) -> BeforeValidator:
    """Refuse values of a type which pydantic would convert: true is not 1 here."""

    def check(value: object) -> object:
        if type(value) is kind:
            raise PydanticKnownError(error)
        return value

    return BeforeValidator(check)


def text_like(pattern: str, error: Literal["bool_parsing", "int_parsing"]) -> BeforeValidator:
    """Refuse text, as from the environment, that pydantic would convert too: `1_0`, `y`."""

    def check(value: object) -> object:
        if isinstance(value, str) and not re.fullmatch(pattern, value, re.ASCII | re.IGNORECASE):
            raise PydanticKnownError(error)
        return value

    return BeforeValidator(check)


def matching(pattern: str, flags: int = 0) -> AfterValidator:
    """Ask of a secret to match a pattern; pydantic has patterns for plain text only."""

    def check(value: SecretStr) -> SecretStr:
        if not re.fullmatch(pattern, value.get_secret_value(), flags):
            raise PydanticKnownError("string_pattern_mismatch", {"pattern": pattern})
        return value

    return AfterValidator(check)


def between(low: str, high: str) -> Any:
    """Bound a duration, both ends included, written as in the file."""
    return Field(ge=parse_duration(low), le=parse_duration(high))


def from_to(low: int, high: int) -> Any:
    """Bound a whole number, both ends included."""
    # What refuses true beforehand hides the bounds from pydantic's schema.
    return Field(ge=low, le=high, json_schema_extra={"minimum": low, "maximum": high})


def read_duration(value: object) -> object:
    """Read a duration as the file has it; what is neither text nor a number is for pydantic."""
    if isinstance(value, bool):
        raise PydanticKnownError("time_delta_type")
    if isinstance(value, int | float) and value != 0:
        try:
            example = format_duration(timedelta(seconds=value))
        except (OverflowError, ValueError):
            raise fault("has no unit", DURATION_FORM) from None
        raise fault("has no unit", f"a duration such as {example}")
    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value)
    except ValueError as error:
        too_long = "too long" in str(error)
        problem = "is too long" if too_long else "is not a duration"
        raise fault(problem, "at most 290y" if too_long else DURATION_FORM) from None


def _read_parameter(value: object) -> str | int | float | bool:
    if isinstance(value, float) and not math.isfinite(value):
        raise fault("is not a finite number", "text, a number, true or false")
    if isinstance(value, str | int | float):
        return value
    problem = "is given" if value is None else "is not a single value"
    raise fault(problem, "text, a number, true or false")


def _check_dsn(value: SecretStr, info: ValidationInfo) -> SecretStr:
    text = value.get_secret_value().strip()
    if not text:
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    # Which scheme it is, and all else, is for libpq.
    if not re.match(r"[\w+:]+:(?://|$)", text) and "=" not in text:
        raise PydanticKnownError("string_pattern_mismatch", {"pattern": "="})
    if isinstance(info.context, Surroundings) and (problem := info.context.check_dsn(text)):
        raise fault(*problem, bare=True)
    return SecretStr(text)


def _resolve_path(value: object, info: ValidationInfo) -> object:
    if value == "":
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    if isinstance(value, str) and isinstance(info.context, Surroundings):
        return info.context.folder / value
    return value


def _resolve_secret_path(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str) and value and isinstance(info.context, Surroundings):
        return info.context.locate_secret(value)
    return value


def _check_folder(value: Path, info: ValidationInfo) -> Path:
    if isinstance(info.context, Surroundings) and not value.is_dir():
        raise fault("is not a folder", "a folder with queries")
    return value


def _refuse_no_entries(value: tuple[V, ...]) -> tuple[V, ...]:
    if not value:
        raise PydanticKnownError(
            "too_short", {"field_type": "List", "min_length": 1, "actual_length": 0}
        )
    return value


def _check_label_name(name: str) -> str:
    if name in RESERVED_LABELS:
        raise fault("is a label the exporter sets itself", "another name")
    return name


# `labels:` with all its lines commented out is a null to YAML.
EMPTY_MEANS_NONE = BeforeValidator(lambda value: {} if value is None else value)
ByName = Annotated[Mapping[K, V], EMPTY_MEANS_NONE, AfterValidator(ImmutableDict)]
"""A mapping that cannot be changed; an empty value means no entries."""

# pydantic's own min_length does not count entries which it has refused.
SOME = AfterValidator(_refuse_no_entries)

Text = Annotated[str, Field(min_length=1)]
WholeNumber = Annotated[
    int,
    refuse(bool, "int_type"),
    refuse(float, "int_type"),
    text_like(r"[0-9]{1,18}", "int_parsing"),
]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), refuse(bool, "float_type")]
_SWITCH_WORDS = "true|false|yes|no|on|off"
Switch = Annotated[
    bool,
    text_like(_SWITCH_WORDS, "bool_parsing"),
    refuse(int, "bool_type"),
    refuse(float, "bool_type"),
    WithJsonSchema(
        {
            "title": "true or false",
            "type": ["boolean", "string"],
            "pattern": f"^({_SWITCH_WORDS})$",
        }
    ),
]
Duration = Annotated[
    timedelta,
    BeforeValidator(read_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"title": "duration", "type": "string", "pattern": DURATION_PATTERN}),
]
OrOff = Annotated[V | None, Or("off")]
Limit = OrOff[Duration]
LimitShare = OrOff[Share]
LimitCount = OrOff[Annotated[WholeNumber, from_to(1, 100)]]
# A burn rate is at most 1 / (1 - objective): below a half there is no room for an alert.
Objective = Annotated[float, Field(ge=0.5, lt=1, allow_inf_nan=False), refuse(bool, "float_type")]
Parameter = Annotated[
    str | int | float | bool,
    PlainValidator(_read_parameter),
    WithJsonSchema(
        {"title": "text, number, true or false", "type": ["string", "number", "boolean"]}
    ),
]
Dsn = Annotated[
    SecretStr,
    AfterValidator(_check_dsn),
    Form(
        "is not a connection string",
        "a connection string such as postgresql://… or host=… dbname=…",
    ),
    WithJsonSchema({"title": "connection string", "type": "string", "minLength": 1}),
]
FilePath = Annotated[Path, BeforeValidator(_resolve_path), PlainSerializer(str, return_type=str)]
SecretPath = Annotated[FilePath, BeforeValidator(_resolve_secret_path)]
QueryFolders = Annotated[
    tuple[Annotated[FilePath, AfterValidator(_check_folder)], ...],
    BeforeValidator(lambda value: [] if value is None else value),
]
ReleaseOutcome = Literal[
    "replied",
    "customer_replied",
    "idle_timeout",
    "auto_release",
    "admin",
    "manual",
    "closed",
    "other",
]
"""How an assignment can end: the `outcome` label of `chatqueue_releases_total`."""

Name = Annotated[
    str,
    Field(pattern="^[a-zA-Z0-9_.-]{1,63}$"),
    Form("is not a name", "1 to 63 letters, digits, _, . or -"),
]
LabelName = Annotated[
    str,
    Field(pattern="^([a-zA-Z]|_[a-zA-Z0-9]|_$)[a-zA-Z0-9_]*$"),
    Form(
        "is not a label name",
        "letters, digits and _, not beginning with a digit or with __",
    ),
    AfterValidator(_check_label_name),
]
QueryName = Annotated[
    str,
    Field(pattern="^[a-zA-Z0-9_.-]+$"),
    Form("is not a query name", "the name of a .sql file, without its ending"),
]
ParameterName = Annotated[
    str,
    Field(pattern="^[a-zA-Z_][a-zA-Z0-9_]*$"),
    Form("is not a parameter name", "letters, digits and _, not beginning with a digit"),
]
ReasonPattern = Annotated[str, Field(pattern="^.+$"), Form("is empty", "text")]
