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
    """One value column of a metric, with the constant labels that tell it from its siblings.

    Attributes:
        labels: Name and value pairs.
        column: Column that holds the value; empty for an event metric that counts rows.
    """

    labels: tuple[tuple[str, str], ...]
    column: str


@dataclass(frozen=True, slots=True)
class Events:
    """What makes a query's rows events, each of which counts once.

    Attributes:
        key: Column that identifies the event over all runs.
        at: Column with the event's time; NULL for one that has yet to happen, which is asked for
            again by its key until it has.
        window: Column with the time that `%(since)s` bounds; the same as `at` in most queries.
    """

    key: str
    at: str
    window: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One exported metric of a query.

    Attributes:
        name: Exported name; a counter's ends in `_total`.
        type: `gauge`, `counter`, or `histogram` (of a query of events).
        help: One sentence.
        unit: Base unit that ends the name, or empty.
        labels: From columns; together with a series' own labels they identify a sample.
        series: At least one.
        empty: Value of a label combination that has no row; None for no sample.
        buckets: Upper bounds of a histogram, ascending, without +Inf; empty for other types.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    unit: str
    labels: tuple[Label, ...]
    series: tuple[Series, ...]
    empty: float | None
    buckets: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Rows that several queries read from, computed once for all that run together.

    Attributes:
        name: File name without its ending; what the queries write after FROM.
        path: The `.sql` file.
        sql: One SELECT, without comments; each % doubled, as beside parameters.
        needs: Relations and functions it cannot do without.
        parameters: Names of the `%(name)s` in the SQL, sorted.
    """

    name: str
    path: Path
    sql: str
    needs: tuple[Need, ...]
    parameters: tuple[str, ...]

    @property
    def clause(self) -> str:
        """What stands in front of a statement that reads from them, however often."""
        return f"WITH {self.name} AS MATERIALIZED (\n{self.sql}\n)"


@dataclass(frozen=True)
class Query:
    """One question to the database and what its answer means.

    Attributes:
        name: File name without its ending.
        path: The `.sql` file.
        sql: One SELECT, complete: facts that it reads from stand in front.
        interval_s: Time between runs.
        timeout_s: Server-side limit of one run.
        max_age_s: Age past which the rows are no longer shown; None for three intervals.
        needs: Relations and functions it cannot do without, those of its facts included.
        metrics: What is exported.
        max_rows: More rows than this are a mistake.
        parameters: Names of the `%(name)s` in the SQL, sorted.
        generic_plan: Whether the server plans it once, for whatever values, instead of each time.
        events: What makes its rows events; None where they are current values.
        facts: What it reads from and may share; None for most queries.
        own_sql: Its SELECT without the facts, in the form of theirs; empty where it has none.
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
    generic_plan: bool = False
    events: Events | None = None
    facts: Facts | None = None
    own_sql: str = ""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns the mapping names, each once, in the order named."""
        named = [label.column for metric in self.metrics for label in metric.labels]
        named += [series.column for metric in self.metrics for series in metric.series]
        if self.events is not None:
            named += [self.events.key, self.events.at, self.events.window]
        return tuple(name for name in dict.fromkeys(named) if name)
