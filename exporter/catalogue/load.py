"""Folders of `.sql` and `.yaml` pairs → the catalogue, or every fault in them at once."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from exporter.catalogue.entries import Events, Facts, Label, Metric, Query, Series
from exporter.catalogue.facts import build_needs, load_facts, read_from
from exporter.catalogue.files import list_pairs, read_mapping, read_sql
from exporter.catalogue.mapping import MetricMapping, QueryMapping
from exporter.catalogue.statement import check_statement, parameter_names, statement_text
from exporter.config import Override, Poll
from exporter.config.faults import FaultList
from exporter.errors import CatalogueError, ConfigError, Fault
from exporter.text import format_duration

# What the counting itself gives a query of events; see exporter/metrics/events.py.
EVENT_PARAMETERS = ("since", "seen", "pending")
_NAME = ("[a-zA-Z0-9_.-]+", "a query name", "letters, digits, _, . and -")


def load_catalogue(
    dirs: Sequence[Path],
    *,
    poll: Poll,
    overrides: Mapping[str, Override],
    parameters: Collection[str],
) -> tuple[Query, ...]:
    """Read every query, apply the overrides and check that the whole fits together.

    Args:
        dirs: Folders, the built-in one first; a later one's query replaces an earlier one's of the
            same name.
        poll: Interval and timeout for queries that name none.
        overrides: By query name; an unknown name is a fault.
        parameters: Names that `%(name)s` may use.

    Returns:
        The enabled queries, sorted by name.

    Raises:
        CatalogueError: With every fault of every file.
    """
    faults: list[Fault] = []
    facts = load_facts(dirs, parameters, faults)
    queries: dict[str, Query] = {}
    disabled: set[str] = set()
    for folder in dirs:
        for name in list_pairs(folder, *_NAME, faults):
            loaded = _load_query(folder / f"{name}.sql", poll, parameters, facts, faults)
            if loaded is None:
                continue
            queries[name], enabled = loaded
            (disabled.discard if enabled else disabled.add)(name)
    if not queries and not faults:
        faults.append(Fault(str(dirs[0]), "", "holds no query", "pairs of .sql and .yaml files"))
    for name, override in overrides.items():
        if name not in queries:
            known = f"one of {', '.join(sorted(queries))}"
            faults.append(Fault("the configuration", f"queries.overrides.{name}", "unknown", known))
            continue
        queries[name] = _override(queries[name], override, faults)
        if override.enabled is not None:
            (disabled.discard if override.enabled else disabled.add)(name)
    enabled_queries = tuple(queries[name] for name in sorted(queries) if name not in disabled)
    faults.extend(_conflicts(enabled_queries))
    if faults:
        raise CatalogueError(faults)
    return enabled_queries


def _load_query(
    path: Path,
    poll: Poll,
    parameters: Collection[str],
    facts: Mapping[str, Facts | None],
    faults: list[Fault],
) -> tuple[Query, bool] | None:
    """One pair of files and whether it is enabled; None where there are faults."""
    before = len(faults)
    mapping = _load_mapping(path.with_suffix(".yaml"), poll, facts, faults)
    sql = read_sql(path, faults)
    if sql is None:
        return None
    is_event = mapping is not None and mapping.events is not None
    known = {*parameters, *EVENT_PARAMETERS} if is_event else parameters
    faults.extend(check_statement(path, sql, known))
    if mapping is None or len(faults) > before:
        return None
    interval = mapping.interval or poll.interval
    query = Query(
        name=path.stem,
        path=path,
        sql=statement_text(path.stem, sql),
        interval_s=interval.total_seconds(),
        timeout_s=(mapping.timeout or min(poll.timeout, interval)).total_seconds(),
        max_age_s=mapping.seconds(mapping.max_age),
        needs=tuple(build_needs(mapping.needs)),
        metrics=tuple(_metric(metric, mapping) for metric in mapping.metrics),
        max_rows=mapping.max_rows,
        parameters=tuple(sorted(parameter_names(sql))),
        generic_plan=mapping.generic_plan,
        events=_events(mapping),
    )
    shared = facts[mapping.facts] if mapping.facts is not None else None
    return read_from(query, shared, sql) if shared else query, mapping.enabled is not False


def _load_mapping(
    path: Path, poll: Poll, facts: Collection[str], faults: list[Fault]
) -> QueryMapping | None:
    """A mapping file, or None and its faults."""
    try:
        mapping, found = read_mapping(path, QueryMapping, "at least the key metrics")
    except ConfigError as error:
        faults.extend(error.faults)
        return None
    if mapping is not None:
        _check_references(mapping, found)
        _check_facts(mapping, facts, found)
        interval = mapping.interval or poll.interval
        for key, problem, expected in _misfits(interval, mapping.timeout, mapping.max_age):
            found.add((key,), f"{found.shown((key,))} {problem}", expected)
    listed = found.sorted()
    faults.extend(listed)
    return None if listed else mapping


def _check_facts(mapping: QueryMapping, facts: Collection[str], found: FaultList) -> None:
    """Facts that are not there, or that a query of events cannot read from."""
    if mapping.facts is None:
        return
    if mapping.events is not None:
        found.add(("facts",), "is given in a query of events", "no facts")
    elif mapping.facts not in facts:
        expected = f"one of {', '.join(sorted(facts))}" if facts else "a folder facts with it"
        found.add(("facts",), f"{mapping.facts!r} is not known", expected)


def _check_references(mapping: QueryMapping, found: FaultList) -> None:
    """What one part of a mapping says of another."""
    for index, metric in enumerate(mapping.metrics):
        path = ("metrics", index)
        for number, label in enumerate(metric.labels):
            where = (*path, "labels", number)
            if label in metric.labels[:number]:
                found.add(where, f"{label!r} stands twice", "each label once")
            elif label not in mapping.labels:
                known = ", ".join(mapping.labels) or "none there"
                found.add(where, f"{label!r} is not described", f"one of labels: {known}")
            elif metric.empty is not None and not mapping.labels[label].values:
                found.add(
                    (*path, "empty"),
                    f"is given, but label {label!r} lists no values",
                    f"values under labels.{label}, or no empty",
                )
        for keys, problem, expected in itertools.chain(
            _series_problems(metric),
            _kind_problems(metric, is_event=mapping.events is not None),
        ):
            found.add((*path, *keys), problem, expected)
    named = [metric.name for metric in mapping.metrics]
    for index, name in enumerate(named):
        if name in named[:index]:
            found.add(("metrics", index, "name"), f"{name!r} stands twice", "each metric once")


def _series_problems(metric: MetricMapping) -> Iterable[tuple[tuple[str, ...], str, str]]:
    """Keys, problem and what is expected where a metric's series cannot stand beside each other."""
    names = [frozenset(series.labels) for series in metric.series]
    if len({*names}) > 1 or any(set(metric.labels) & name for name in names):
        yield ("series",), "differ in label names", "the same labels in each series"
    kinds = [tuple(sorted(series.labels.items())) for series in metric.series]
    if len(set(kinds)) < len(kinds):
        yield ("series",), "share their labels", "labels that differ"


def _kind_problems(
    metric: MetricMapping, *, is_event: bool
) -> Iterable[tuple[tuple[str, ...], str, str]]:
    """Keys, problem and what is expected where a metric does not fit rows or events."""
    if is_event:
        if metric.type == "gauge":
            yield ("type",), "'gauge' cannot count events", "counter or histogram"
        if metric.series:
            yield ("series",), "is given in a query of events", "value, or neither to count rows"
        if metric.empty is not None:
            yield ("empty",), "is given in a query of events", "no empty: counting starts at 0"
        if metric.type == "histogram" and metric.value is None:
            yield ("value",), "missing", "the column with what is observed"
    else:
        if metric.type == "histogram":
            yield ("type",), "'histogram' needs events", "gauge or counter, or the key events"
        if metric.value is None and not metric.series:
            yield (), "has neither value nor series", "one of them"


def _events(mapping: QueryMapping) -> Events | None:
    """What makes rows events, or None."""
    if mapping.events is None:
        return None
    events = mapping.events
    return Events(events.key, events.at, events.window or events.at)


def _metric(metric: MetricMapping, mapping: QueryMapping) -> Metric:
    """A checked metric mapping as an entry."""
    return Metric(
        name=metric.name,
        type=metric.type,
        help=metric.help,
        unit=metric.unit or "",
        labels=tuple(
            Label(name, mapping.labels[name].column, mapping.labels[name].values)
            for name in metric.labels
        ),
        series=tuple(Series(tuple(s.labels.items()), s.value) for s in metric.series)
        or (Series((), metric.value or ""),),
        empty=metric.empty,
        buckets=metric.buckets,
    )


def _misfits(
    interval: timedelta, timeout: timedelta | None, max_age: timedelta | None
) -> Iterable[tuple[str, str, str]]:
    """Key, problem and what is expected of durations that do not fit the interval."""
    text = format_duration(interval)
    if timeout is not None and timeout > interval:
        yield "timeout", f"is longer than interval ({text})", f"{text} or less"
    if max_age is not None and max_age < interval:
        # Metrics would come and go between two runs, and alerts with them.
        yield "max_age", f"is shorter than interval ({text})", f"{text} or more"


def _override(query: Query, override: Override, faults: list[Fault]) -> Query:
    """The query with what the configuration changes."""
    interval = override.interval or timedelta(seconds=query.interval_s)
    interval_s = interval.total_seconds()
    timeout, max_age = override.timeout, override.max_age
    if max_age is None and query.max_age_s is not None:
        max_age = timedelta(seconds=query.max_age_s)
    for key, problem, expected in _misfits(interval, timeout, max_age):
        value = {"timeout": timeout, "max_age": max_age}[key]
        found = f"{format_duration(value or interval)} {problem}"
        where = f"queries.overrides.{query.name}.{key}"
        faults.append(Fault("the configuration", where, found, expected))
    return replace(
        query,
        interval_s=interval_s,
        timeout_s=min(query.timeout_s, interval_s) if timeout is None else timeout.total_seconds(),
        max_age_s=None if max_age is None else max_age.total_seconds(),
    )


def _conflicts(queries: Sequence[Query]) -> Iterable[Fault]:
    """Metrics of one name in several queries: alike, and with labels that cannot meet."""
    known: dict[str, list[tuple[Query, Metric]]] = {}
    for query in queries:
        for metric in query.metrics:
            # OpenMetrics knows a counter by its name without _total.
            alike = known.setdefault(metric.name.removesuffix("_total"), [])
            for other_query, other in alike:
                problem = _conflict(metric, other)
                if problem:
                    found, expected = problem
                    where = str(query.path.with_suffix(".yaml"))
                    there = other_query.path.with_suffix(".yaml")
                    yield Fault(where, metric.name, found, f"{expected} {there}")
            alike.append((query, metric))


def _conflict(metric: Metric, other: Metric) -> tuple[str, str] | None:
    """What keeps two queries from feeding one metric, and what is expected."""
    for attribute in ("type", "help", "unit", "buckets"):
        if getattr(metric, attribute) != getattr(other, attribute):
            return f"differs in {attribute}", f"the same as {other.name} in"
    mine, theirs = _label_values(metric), _label_values(other)
    if mine.keys() != theirs.keys():
        return "differs in its labels", f"the same as {other.name} in"
    if not any(mine[name] and theirs[name] and not mine[name] & theirs[name] for name in mine):
        return "may give the same series", "a label that has no value in common with"
    return None


def _label_values(metric: Metric) -> dict[str, frozenset[str]]:
    """Every label's possible values; empty where unknown."""
    values = {label.name: frozenset(label.values) for label in metric.labels}
    for series in metric.series:
        for name, value in series.labels:
            values[name] = values.get(name, frozenset()) | {value}
    return values


__all__ = ["load_catalogue"]
