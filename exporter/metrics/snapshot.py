"""Rows to samples, and the immutable snapshot of one database that a scrape shows. No I/O.

A `Snapshot` is built whole by its poller and published by one assignment, so that a reader may keep
it. It also decides about age: its families are read *at a time*, without those past `max_age`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from exporter.catalogue import Label, Metric, Query
from exporter.errors import Reason, RowMismatch

Row = Mapping[str, Any]
Labels = tuple[tuple[str, str], ...]

MAX_LABEL_LENGTH = 128


class Sample(NamedTuple):
    """One value of a family; a tuple because there are some hundred of them in every poll.

    Attributes:
        labels: Label name and value pairs, in the family's order, without `database`.
        value: In the family's base unit.
        suffix: What follows the family's name: `_bucket`, `_sum` or `_count` of a histogram.
    """

    labels: Labels
    value: float
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with its samples.

    Attributes:
        name: Exported name; a counter's ends in `_total`.
        type: `gauge`, `counter` or `histogram`.
        help: One sentence.
        unit: Base unit that ends the name (`seconds`, `bytes`, `ratio`) or empty.
        samples: No two share their labels.
    """

    name: str
    type: str
    help: str
    unit: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What is known of one query after its latest run.

    Attributes:
        query: Name in the catalogue.
        families: Of the last success; empty before the first.
        success: Whether the latest run gave rows that fit.
        last_success_s: Unix time of the last success; 0 before the first.
        expires_at: Monotonic time from which the families are too old to be shown.
        interval_s: Time between runs now in force; longer than configured for a costly query.
        duration_s: What the latest run took.
        rows: What the latest success returned.
        errors: Failures since the daemon started, by reason; one that never happened is missing.
    """

    query: str
    families: tuple[Family, ...]
    success: bool
    last_success_s: float
    expires_at: float
    interval_s: float
    duration_s: float
    rows: int
    errors: Mapping[Reason, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one database's poller knows, as of its latest poll.

    Attributes:
        database: Name in the configuration; the `database` label.
        labels: Extra labels of the database, from the configuration.
        up: Whether the latest poll reached the database.
        up_until: Monotonic time until which `up` may be believed without another poll.
        clock_skew_s: Database clock minus this host's; None before the first contact.
        in_recovery: Whether the server is a standby; None before the first contact.
        hidden: Relation and whether row-level security hides rows of it from this role.
        results: One per query, in catalogue order.
        thresholds: The configured thresholds as families.
        reopened: Kept connections that had been closed while idle, since the daemon started.
    """

    database: str
    labels: Labels
    up: bool
    up_until: float
    clock_skew_s: float | None
    in_recovery: bool | None
    hidden: tuple[tuple[str, bool], ...]
    results: tuple[QueryResult, ...]
    thresholds: tuple[Family, ...]
    reopened: int = 0

    @property
    def all_labels(self) -> Labels:
        """Labels of every series, `database` first."""
        return (("database", self.database), *self.labels)

    def next_expiry(self, at: float) -> float:
        """Return the monotonic time at which this snapshot will next read differently."""
        expiries = [self.up_until, *(result.expires_at for result in self.results)]
        return min((expiry for expiry in expiries if expiry > at), default=float("inf"))

    def families(self, at: float) -> tuple[Family, ...]:
        """Return every family to show at that monotonic time, without the `database` label."""
        fresh = itertools.chain.from_iterable(
            result.families for result in self.results if at < result.expires_at
        )
        return (
            *merge_families(fresh),
            *self.thresholds,
            *self._database_families(at),
            *self._query_families(at),
        )

    def _database_families(self, at: float) -> Iterator[Family]:
        """State of the database itself."""
        yield make_family(
            "chatqueue_database_up",
            "Whether the database answers now.",
            [((), self.up and at < self.up_until)],
        )
        yield make_family(
            "chatqueue_database_row_security_hidden",
            "Whether row-level security hides rows of the relation from the exporter's role.",
            [((("relation", relation),), hidden) for relation, hidden in self.hidden],
        )
        yield make_family(
            "chatqueue_database_reconnections_total",
            "Connections that were closed while idle and opened again for the next poll.",
            [((), self.reopened)],
        )
        if self.clock_skew_s is not None:
            yield make_family(
                "chatqueue_database_clock_skew_seconds",
                "Database clock minus the exporter host's clock.",
                [((), self.clock_skew_s)],
            )
        if self.in_recovery is not None:
            yield make_family(
                "chatqueue_database_in_recovery",
                "Whether the server is a standby in recovery.",
                [((), self.in_recovery)],
            )

    def _query_families(self, at: float) -> Iterator[Family]:
        """Freshness and errors of each query."""
        results, prefix = self.results, "chatqueue_exporter_query"
        gauges: tuple[tuple[str, str, Iterable[float]], ...] = (
            (
                "success",
                "Whether the query's latest run succeeded and its result is still fresh.",
                (result.success and at < result.expires_at for result in results),
            ),
            (
                "last_success_timestamp_seconds",
                "Unix time of the query's last success; 0 before the first.",
                (result.last_success_s for result in results),
            ),
            (
                "duration_seconds",
                "Time the query's latest run took, network included.",
                (result.duration_s for result in results),
            ),
            ("rows", "Rows of the query's last success.", (result.rows for result in results)),
            (
                "interval_seconds",
                "Time between runs in force; longer than configured where a run costs too much.",
                (result.interval_s for result in results),
            ),
        )
        labels = [(("query", result.query),) for result in results]
        for name, help_text, values in gauges:
            yield make_family(f"{prefix}_{name}", help_text, zip(labels, values, strict=True))
        yield make_family(
            f"{prefix}_failed_runs_total",
            "Failed runs of the query for any reason.",
            [
                (label, sum(result.errors.values()))
                for label, result in zip(labels, results, strict=True)
            ],
        )
        yield make_family(
            f"{prefix}_errors_total",
            "Failed runs of the query, by reasons that occurred.",
            [
                ((("query", result.query), ("reason", str(reason))), count)
                for result in results
                for reason, count in result.errors.items()
            ],
        )


def make_family(name: str, help_text: str, samples: Iterable[tuple[Labels, float]]) -> Family:
    """Return a family of the exporter itself: the end of its name says type and base unit.

    Args:
        name: Exported name; one that ends in `_total` is a counter, any other a gauge.
        help_text: One sentence.
        samples: Labels and value, in the unit that the name ends with.
    """
    unit = next((unit for unit in ("seconds", "ratio") if name.endswith(f"_{unit}")), "")
    kind = "counter" if name.endswith("_total") else "gauge"
    values = tuple(Sample(labels, float(value)) for labels, value in samples)
    return Family(name, kind, help_text, unit, values)


def merge_families(families: Iterable[Family]) -> tuple[Family, ...]:
    """Join families of one name, which several queries may feed with disjoint labels.

    The catalogue has checked that type, help and unit agree and that labels cannot meet.
    """
    merged: dict[str, Family] = {}
    for family in families:
        first = merged.get(family.name)
        samples = family.samples if first is None else first.samples + family.samples
        merged[family.name] = replace(first or family, samples=samples)
    return tuple(merged.values())


def build_families(query: Query, columns: Sequence[str], rows: Sequence[Row]) -> tuple[Family, ...]:
    """Turn one query's rows into metric families.

    Args:
        query: Catalogue entry; its labels identify a row.
        columns: Names of the columns returned, known even where there is no row.
        rows: Column name to value, one mapping per row; seconds and bytes. May be empty.

    Returns:
        One family per mapped metric, in catalogue order. NULL gives no sample. A metric with
        `empty` has a sample for every combination of its listed label values.

    Raises:
        RowMismatch: A mapped column is missing, a value is no number, a label value is NULL or not
            among those listed, two rows share their labels, or there are more rows than max_rows.

    Source: queries/<query.name>.sql.
    """
    check_shape(query, columns, rows)
    return tuple(_build_family(query, metric, rows) for metric in query.metrics)


def check_shape(query: Query, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Check that every mapped column was returned, and not too many rows.

    Raises:
        RowMismatch: One of them does not hold.
    """
    missing = [column for column in query.columns if column not in columns]
    if missing:
        raise RowMismatch(
            f"{query.path.name} returned no column {', '.join(map(repr, missing))}, "
            f"expected by {query.path.with_suffix('.yaml').name}; it returned {', '.join(columns)}"
        )
    if len(rows) > query.max_rows:
        raise RowMismatch(
            f"{query.path.name} returned {len(rows)} rows, expected at most {query.max_rows} "
            "(max_rows)"
        )


def expand_labels(metric: Metric) -> tuple[Labels, ...]:
    """Return every combination of a metric's listed label values; none where one has no list."""
    return _expand(metric.labels)


@lru_cache(maxsize=1024)
def _expand(labels: tuple[Label, ...]) -> tuple[Labels, ...]:
    names = [label.name for label in labels]
    combinations = itertools.product(*(label.values for label in labels))
    return tuple(tuple(zip(names, values, strict=True)) for values in combinations)


def _build_family(query: Query, metric: Metric, rows: Sequence[Row]) -> Family:
    """One metric's samples over all rows and series."""
    values: dict[Labels, float] = {}
    if metric.empty is not None:
        for named in expand_labels(metric):
            for series in metric.series:
                values[named + series.labels] = metric.empty
    seen: set[Labels] = set()
    for row in rows:
        named = tuple((label.name, label_value(query, label, row)) for label in metric.labels)
        if named in seen:
            raise RowMismatch(
                f"{query.path.name} returned two rows for {metric.name}{dict(named)}, "
                "expected labels that identify a row"
            )
        seen.add(named)
        for series in metric.series:
            value = number(query, series.column, row[series.column])
            if value is None:
                values.pop(named + series.labels, None)
            else:
                values[named + series.labels] = value
    samples = tuple(Sample(labels, value) for labels, value in values.items())
    return Family(metric.name, metric.type, metric.help, metric.unit, samples)


def label_value(query: Query, label: Label, row: Row) -> str:
    """Return the row's value of a label, as Prometheus will show it.

    Raises:
        RowMismatch: It is NULL or not among those listed.
    """
    value = row[label.column]
    text = ("false", "true")[value] if isinstance(value, bool) else str(value)
    if value is None or (label.values and text not in label.values):
        found = "NULL" if value is None else repr(text)
        expected = f"one of {', '.join(label.values)}" if label.values else "a value"
        where = f"{query.path.name} column {label.column!r}"
        raise RowMismatch(f"{where} returned {found}, expected {expected}")
    if len(text) > MAX_LABEL_LENGTH:
        return text[: MAX_LABEL_LENGTH - 1] + "…"
    return text


def number(query: Query, column: str, value: object) -> float | None:
    """Return a column's value as a float; None for NULL.

    Raises:
        RowMismatch: It is no number.
    """
    if value is None:
        return None
    if isinstance(value, int | float | Decimal):  # bool is an int
        return float(value)
    raise RowMismatch(
        f"{query.path.name} column {column!r} returned {type(value).__name__} {value!r}, "
        "expected a number (convert times with extract(EPOCH FROM …))"
    )
