"""Rows that are events, counted once each while the daemon runs. No I/O.

A query of events asks for what happened since a watermark: the database's time at the previous
successful poll, less an overlap for transactions that stamp their rows at their start and show them
at their commit. Rows that the overlap returns again are recognised by their key. The first poll
counts nothing: counting starts at the daemon's start, and a restart is an ordinary counter reset.

How a query of events is written:

- `%(since)s` (timestamptz, NULL on the first run) bounds its window column from below;
- `%(seen)s` (text[]) holds the keys counted already, so that a query need not compute the values of
  those rows again; it may leave them out or return them;
- `%(pending)s` (text[]) holds the keys whose `at` was NULL: begun, and yet to happen. Each is asked
  for again until it is returned with a time; with NULL labels where nothing will come of it.

Bounds: a key is forgotten when the watermark has passed its window time and it is no longer
returned, so the memory is in proportion to the events of one overlap. At most `MAX_PENDING` keys
are asked for again; beyond that the oldest are given up.
"""

from __future__ import annotations

import datetime
import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from exporter.catalogue import Metric, Query
from exporter.errors import RowMismatch
from exporter.metrics.snapshot import (
    Family,
    Labels,
    Row,
    Sample,
    build_families,
    check_shape,
    expand_labels,
    label_value,
    number,
)

MAX_PENDING = 20_000
_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC)


def first_values(query: Query) -> dict[str, Any]:
    """Return a query's parameters for its first run, beside the shared ones."""
    return {"since": None, "seen": [], "pending": []} if query.events is not None else {}


def families_of(
    query: Query, columns: Sequence[str], rows: Sequence[Row], began_at: datetime.datetime
) -> tuple[Family, ...]:
    """Turn one run's rows into families: gauges, or the counters of events, still at 0.

    Raises:
        RowMismatch: The rows do not fit the mapping.
    """
    if query.events is None:
        return build_families(query, columns, rows)
    return EventCounter(query, 0.0).absorb(columns, rows, began_at)


class EventCounter:
    """The counters and histograms of one query of events.

    Args:
        query: Catalogue entry with `events`.
        overlap_s: How far behind the previous poll each poll looks.
    """

    def __init__(self, query: Query, overlap_s: float) -> None:
        assert query.events is not None  # noqa: S101 - the caller chose this class for it
        self.query = query
        self.overlap_s = overlap_s
        self._events = query.events
        self._since: datetime.datetime | None = None
        self._seen: dict[str, datetime.datetime] = {}
        self._pending: dict[str, datetime.datetime] = {}
        self._tallies = tuple(
            (_Histogram if metric.type == "histogram" else _Counter)(metric)
            for metric in query.metrics
        )

    def parameters(self) -> dict[str, Any]:
        """Return the query's parameters for its next run."""
        return {"since": self._since, "seen": list(self._seen), "pending": list(self._pending)}

    def counts_like(self, query: Query) -> bool:
        """Return whether that query identifies and counts its events as this one does."""
        return (query.metrics, query.events) == (self.query.metrics, self.query.events)

    def families(self) -> tuple[Family, ...]:
        """Return every metric's current value, in catalogue order."""
        return tuple(tally.family() for tally in self._tallies)

    def absorb(
        self, columns: Sequence[str], rows: Sequence[Row], now: datetime.datetime
    ) -> tuple[Family, ...]:
        """Count what is new in one successful run.

        Args:
            columns: Names of the columns returned.
            rows: Column name to value; base units.
            now: The database's time at the start of the transaction that read them.

        Returns:
            Every metric's new value.

        Raises:
            RowMismatch: The rows do not fit the mapping; nothing of them was counted.
        """
        self._check(columns, rows)
        events = self._events
        # All rows are read before any is counted, so that a mismatch counts nothing.
        observations = [
            (tally, labels, value)
            for row in rows
            if row[events.at] is not None and str(row[events.key]) not in self._seen
            for tally in self._tallies
            for labels, value in tally.read(self.query, row)
        ]
        if self._since is not None:
            for tally, labels, value in observations:
                tally.count(labels, value)
        self._since = now - datetime.timedelta(seconds=self.overlap_s)
        begun: dict[str, datetime.datetime] = {}
        happened: dict[str, datetime.datetime] = {}
        for row in rows:
            known = begun if row[events.at] is None else happened
            known[str(row[events.key])] = row[events.window] or _LONG_AGO
        self._pending = {k: at for k, at in self._pending.items() if k not in happened} | begun
        if len(self._pending) > MAX_PENDING:
            latest = sorted(self._pending.items(), key=lambda item: item[1])
            self._pending = dict(latest[-MAX_PENDING:])
        kept = {key: at for key, at in self._seen.items() if at > self._since}
        self._seen = {**kept, **happened}
        return self.families()

    def _check(self, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Check shape, keys and types; raise RowMismatch where one is wrong."""
        query, events = self.query, self._events
        check_shape(query, columns, rows)
        keys = [row[events.key] for row in rows]
        if None in keys or len(set(map(str, keys))) < len(keys):
            raise RowMismatch(
                f"{query.path.name} returned a key that is NULL or stands twice, expected "
                f"{events.key!r} to identify the event"
            )
        for row in rows:
            for column in (events.at, events.window):
                value = row[column]
                if value is not None and not isinstance(value, datetime.datetime):
                    raise RowMismatch(
                        f"{query.path.name} column {column!r} returned {type(value).__name__}, "
                        "expected a timestamptz"
                    )


class _Counter:
    """A counter of events: rows, or the sum of a column."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.column = metric.series[0].column
        self.values: dict[Labels, float] = dict.fromkeys(expand_labels(metric), 0.0)

    def read(self, query: Query, row: Row) -> Iterator[tuple[Labels, float]]:
        """Yield what a row adds; nothing where a label or the value is NULL."""
        labels = _labels(query, self.metric, row)
        value = _amount(query, self.column, row) if self.column else 1.0
        if labels is not None and value is not None:
            self._check(query, value)
            yield labels, value

    def count(self, labels: Labels, value: float) -> None:
        """Add."""
        self.values[labels] = self.values.get(labels, 0.0) + value

    def family(self) -> Family:
        """Return the current value."""
        metric = self.metric
        return Family(metric.name, metric.type, metric.help, metric.unit, tuple(self._samples()))

    def _check(self, query: Query, value: float) -> None:
        if value < 0:
            raise RowMismatch(
                f"{query.path.name} column {self.column!r} returned {value!r}, expected 0 or "
                "more for a counter"
            )

    def _samples(self) -> Iterator[Sample]:
        return itertools.starmap(Sample, self.values.items())


class _Histogram(_Counter):
    """A histogram of one column of the events; `values` are its sums."""

    def __init__(self, metric: Metric) -> None:
        super().__init__(metric)
        self.counts = {labels: [0] * (len(metric.buckets) + 1) for labels in self.values}

    def count(self, labels: Labels, value: float) -> None:
        """Observe; a clock that ran backwards between two rows counts as 0 s."""
        value = max(value, 0.0)
        super().count(labels, value)
        counts = self.counts.setdefault(labels, [0] * (len(self.metric.buckets) + 1))
        counts[bisect_left(self.metric.buckets, value)] += 1

    def _check(self, query: Query, value: float) -> None:
        """A difference of two clocks may be below 0."""

    def _samples(self) -> Iterator[Sample]:
        bounds = (*map(repr, self.metric.buckets), "+Inf")
        for labels, counts in self.counts.items():
            cumulative = tuple(itertools.accumulate(counts))
            for bound, count in zip(bounds, cumulative, strict=True):
                yield Sample((*labels, ("le", bound)), float(count), "_bucket")
            yield Sample(labels, float(cumulative[-1]), "_count")
            yield Sample(labels, self.values[labels], "_sum")


def _amount(query: Query, column: str, row: Row) -> float | None:
    """A row's value, None for NULL; what is not finite would spoil a sum for ever."""
    value = number(query, column, row[column])
    if value is not None and not math.isfinite(value):
        raise RowMismatch(
            f"{query.path.name} column {column!r} returned {value!r}, expected a finite number"
        )
    return value


def _labels(query: Query, metric: Metric, row: Mapping[str, Any]) -> Labels | None:
    """A row's labels for a metric; None where one is NULL: the event is not of its kind."""
    if any(row[label.column] is None for label in metric.labels):
        return None
    return tuple((label.name, label_value(query, label, row)) for label in metric.labels)
