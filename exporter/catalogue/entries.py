"""The catalogue's entries: plain frozen data, already checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Need:
    """A relation or function a query cannot do without.

    Attributes:
        kind: `relation` (table, view) or `function`.
        name: `schema.relation` or `schema.function(types)`, types as PostgreSQL names them.
        through: The view or function of the query that reads it, or None where the query does.
    """

    kind: Literal["relation", "function"]
    name: str
    through: str | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A label whose value comes from a column.

    Attributes:
        name: Prometheus label name.
        column: Column that holds the value.
        values: All values there can be; empty where they are not known beforehand.
    """

    name: str
    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One value column of a metric, with the constant labels that tell it from its siblings."""

    labels: tuple[tuple[str, str], ...]
    column: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported metric of a query.

    Attributes:
        name: Exported name; a counter's ends in `_total`.
        type: `gauge` or `counter`.
        help: One sentence.
        unit: Base unit that ends the name, or empty.
        labels: From columns; together with a series' own labels they identify a sample.
        series: At least one.
        empty: Value of a label combination that has no row; None for no sample.
    """

    name: str
    type: Literal["gauge", "counter"]
    help: str
    unit: str
    labels: tuple[Label, ...]
    series: tuple[Series, ...]
    empty: float | None


@dataclass(frozen=True)
class Query:
    """One question to the database and what its answer means.

    Attributes:
        name: File name without its ending.
        path: The `.sql` file.
        sql: One SELECT.
        interval_s: Time between runs.
        timeout_s: Server-side limit of one run.
        max_age_s: Age past which the figures are no longer shown; None for three intervals.
        needs: Relations and functions it cannot do without.
        metrics: What is exported.
        max_rows: More rows than this are a mistake.
        parameters: Names of the `%(name)s` in the SQL, sorted.
    """

    name: str
    path: Path
    sql: str
    interval_s: float
    timeout_s: float
    max_age_s: float | None
    needs: tuple[Need, ...]
    metrics: tuple[Metric, ...]
    max_rows: int
    parameters: tuple[str, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns the mapping names, each once, in the order named."""
        named = [label.column for metric in self.metrics for label in metric.labels]
        named += [series.column for metric in self.metrics for series in metric.series]
        return tuple(dict.fromkeys(named))
