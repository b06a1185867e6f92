"""Folders of `.sql` and `.yaml` pairs → the catalogue, or every fault in them at once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from exporter.catalogue.entries import Events, Facts, Label, Metric, Need, Query, Series
from exporter.catalogue.mapping import (
    EXPECTED_KEYS,
    FactsMapping,
    MetricMapping,
    NeedMapping,
    QueryMapping,
)
from exporter.catalogue.statement import (
    check_statement,
    parameter_names,
    statement_text,
    with_facts,
)
from exporter.config import Override, Poll
from exporter.config.document import read_document, read_limited
from exporter.config.faults import FaultList
from exporter.config.section import Section
from exporter.errors import CatalogueError, ConfigError, Fault
from exporter.text import format_duration

M = TypeVar("M", bound=Section)

# What the counting itself gives a query of events; see exporter/metrics/events.py.
EVENT_PARAMETERS = ("since", "seen", "pending")
FACTS = "facts"
"""The folder beside queries whose files several of them share."""

_SQL_LIMIT_BYTES = 256 * 1024


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
    facts = _load_facts(dirs, parameters, faults)
    queries: dict[str, Query] = {}
    disabled: set[str] = set()
    for folder in dirs:
        for name in _names(folder, faults):
            loaded = _load_query(folder, name, poll, parameters, facts, faults)
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


def _names(folder: Path, faults: list[Fault]) -> list[str]:
    """Names of the queries in a folder; a file without its partner is a fault."""
    found = {
        suffix: {path.stem for path in folder.glob(f"*{suffix}") if path.is_file()}
        for suffix in (".sql", ".yaml")
    }
    for name in sorted(found[".sql"] ^ found[".yaml"]):
        there, missing = (".sql", ".yaml") if name in found[".sql"] else (".yaml", ".sql")
        where = str(folder / f"{name}{there}")
        faults.append(Fault(where, "", "stands alone", f"{name}{missing} beside it"))
    names = sorted(found[".sql"] & found[".yaml"])
    for name in names:
        if not re.fullmatch(r"[a-zA-Z0-9_.-]+", name):
            where, expected = str(folder / f"{name}.sql"), "letters, digits, _, . and -"
            faults.append(Fault(where, "", "its name is not a query name", expected))
    return names


def _load_facts(
    dirs: Sequence[Path], parameters: Collection[str], faults: list[Fault]
) -> dict[str, Facts]:
    """The facts of all folders by name; a later one's replace an earlier one's."""
    facts: dict[str, Facts] = {}
    for folder in dirs:
        for name in _names(folder / FACTS, faults):
            path = folder / FACTS / f"{name}.sql"
            mapping = _load_mapping(path.with_suffix(".yaml"), FactsMapping, "needs", faults)
            sql = _load_sql(path, parameters, faults)
            if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
                expected = "lower-case letters, digits and _, as queries read FROM it"
                faults.append(Fault(str(path), "", "its name is not a name in SQL", expected))
            elif mapping is not None and sql is not None:
                text, names = statement_text(name, sql), parameter_names(sql)
                facts[name] = Facts(name, text, tuple(_needs(mapping.needs)), names)
    return facts


def _load_query(
    folder: Path,
    name: str,
    poll: Poll,
    parameters: Collection[str],
    known_facts: Mapping[str, Facts],
    faults: list[Fault],
) -> tuple[Query, bool] | None:
    """One pair of files and whether it is enabled; None where there are faults."""
    path = folder / f"{name}.sql"
    mapping = _load_mapping(
        path.with_suffix(".yaml"),
        QueryMapping,
        "metrics",
        faults,
        lambda mapping, found: _check_query(mapping, found, poll, known_facts),
    )
    is_event = mapping is not None and mapping.events is not None
    known = {*parameters, *EVENT_PARAMETERS} if is_event else parameters
    sql = _load_sql(path, known, faults)
    if mapping is None or sql is None:
        return None
    interval = mapping.interval or poll.interval
    facts = known_facts[mapping.facts] if mapping.facts else None
    own_sql = statement_text(name, sql)
    query = Query(
        name=name,
        path=path,
        sql=with_facts(name, facts.name, facts.sql, own_sql) if facts else own_sql,
        interval_s=interval.total_seconds(),
        timeout_s=(mapping.timeout or min(poll.timeout, interval)).total_seconds(),
        max_age_s=mapping.seconds(mapping.max_age),
        needs=tuple(dict.fromkeys((*_needs(mapping.needs), *(facts.needs if facts else ())))),
        metrics=tuple(_metric(metric, mapping) for metric in mapping.metrics),
        max_rows=mapping.max_rows,
        parameters=tuple(sorted(parameter_names(sql) | (facts.parameters if facts else set()))),
        events=_events(mapping),
        facts=facts,
        own_sql=own_sql,
    )
    return query, mapping.enabled is not False


def _load_sql(path: Path, parameters: Collection[str], faults: list[Fault]) -> str | None:
    """A checked statement, or None and its faults."""
    try:
        sql = read_limited(path, _SQL_LIMIT_BYTES).rstrip("; \t\r\n")
    except ValueError as error:
        faults.append(Fault(str(path), "", str(error), "a readable SQL file in UTF-8"))
        return None
    found = list(check_statement(path, sql, parameters))
    faults.extend(found)
    return None if found else sql


def _load_mapping(
    path: Path,
    model: type[M],
    key: str,
    faults: list[Fault],
    check: Callable[[M, FaultList], None] = lambda _mapping, _found: None,
) -> M | None:
    """A mapping file, or None and its faults; it has at least that key."""
    try:
        document = read_document(path, {}, holds=f"at least the key {key}")
    except ConfigError as error:
        faults.extend(error.faults)
        return None
    # An empty section means its defaults, here as everywhere; without the key there is no section.
    if document.data.get("events", {}) is None:
        document.data["events"] = {}
    found = FaultList(document, model)
    mapping: M | None = None
    try:
        mapping = model.model_validate(document.data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] == "missing":
                found.add(detail["loc"], "missing", EXPECTED_KEYS[str(detail["loc"][-1])])
            else:
                found.add_refusal(detail)
    if mapping is not None:
        check(mapping, found)
    listed = found.sorted()
    faults.extend(listed)
    return None if listed else mapping


def _check_query(
    mapping: QueryMapping, found: FaultList, poll: Poll, facts: Collection[str]
) -> None:
    """What one part of a query's mapping says of another, or of its facts."""
    _check_references(mapping, found)
    interval = mapping.interval or poll.interval
    for key, problem, expected in _misfits(interval, mapping.timeout, mapping.max_age):
        found.add((key,), f"{found.shown((key,))} {problem}", expected)
    if mapping.facts and mapping.facts not in facts:
        known = ", ".join(sorted(facts)) or "none there"
        found.add(("facts",), f"{mapping.facts!r} is unknown", f"one of {FACTS}: {known}")
    elif mapping.facts and mapping.events:
        found.add(
            ("facts",), "is given in a query of events", "no facts: events have their own rows"
        )


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


def _needs(mappings: Iterable[NeedMapping]) -> Iterable[Need]:
    """Every need, those behind a view or function after it."""
    for need in mappings:
        if need.relation is not None:
            yield Need("relation", need.relation)
        else:
            yield Need("function", need.function or "")
        for relation in need.reads:
            yield Need("relation", relation, need.relation or need.function)


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
