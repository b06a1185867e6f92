"""What a field of the configuration is besides a setting: a metric, a parameter of queries.

Written once, as a mark on the field. The gauges, the `%(name)s` of queries, the reference of the
metrics and the index of the runbooks follow from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from exporter.config.section import Section


@dataclass(frozen=True, slots=True)
class Exported:
    """Marks a threshold: it is a gauge, which alert rules and panels compare with.

    Attributes:
        name: What follows `chatqueue_threshold_`.
        labels: One for each level of keys below the field, such as `severity` of a `Threshold`.
        convert: Turns the field's value into what is exported, where that is something else.
        help: One sentence, where the first one of the field's description is not it.
    """

    name: str
    labels: tuple[str, ...] = ()
    convert: Callable[[Any], object] = lambda value: value
    help: str = ""


@dataclass(frozen=True, slots=True)
class QueryParameter:
    """Marks what queries may use as `%(name)s`; keys below the field follow after a `_`."""

    name: str


M = TypeVar("M", Exported, QueryParameter)


@dataclass(frozen=True, slots=True)
class Marked:
    """A field with a mark: its key, such as `thresholds.idle_grace`, and its value."""

    key: str
    description: str
    value: object


def find_marked(section: Section, kind: type[M], prefix: str = "") -> Iterator[tuple[M, Marked]]:
    """Yield every mark of a kind with its field, in the file's order."""
    for name, field in type(section).model_fields.items():
        marked = Marked(prefix + name, field.description or "", getattr(section, name))
        yield from ((mark, marked) for mark in field.metadata if isinstance(mark, kind))
        if isinstance(marked.value, Section):
            yield from find_marked(marked.value, kind, f"{marked.key}.")


def plain_values(value: object) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield a value, or each of the values below it, after the keys that lead there.

    Durations become seconds; a limit that is off is infinite, so that nothing exceeds it.
    """
    if isinstance(value, Section):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from (((key, *keys), plain) for keys, plain in plain_values(below))
    elif value is None or isinstance(value, timedelta):
        yield (), limit_seconds(value)
    else:
        yield (), value


def limit_seconds(limit: timedelta | None) -> float:
    """Give a limit in seconds, or +Inf where it is off."""
    return math.inf if limit is None else limit.total_seconds()
