"""The configuration as the pollers need it: parameters and plans. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.catalogue import EVENT_PARAMETERS, Facts, Need, Query, load_catalogue
from exporter.config import Config
from exporter.config.exported import QueryParameter, find_marked, plain_values
from exporter.config.resources import find_resource
from exporter.database import QueryRequest
from exporter.errors import ConfigError, Fault
from exporter.metrics.events import first_values
from exporter.metrics.snapshot import Family, Labels
from exporter.metrics.thresholds import build_thresholds

# Successes are shown for so many intervals, where a query sets no `max_age` of its own.
FRESH_INTERVALS = 3.0

# The platform's release reasons as LIKE patterns, and what each counts as; the first match decides,
# anything else is `other`. Reasons are free text: a caller may have put anything there.
RELEASE_REASONS = {
    "% - max reassignments reached": "closed",
    "operator_sent_message": "replied",
    "real_user_replied_after_operator": "customer_replied",
    "idle_timeout": "idle_timeout",
    "operator_idle_timeout": "idle_timeout",
    "auto_release:%": "auto_release",
    "manual_reassignment_by_admin%": "admin",
    "manual_unassign": "manual",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker is to do; a reload replaces it whole.

    Attributes:
        database: Name in the configuration.
        dsn: libpq connection string, with its password; kept out of repr.
        labels: Extra labels of the database.
        connect_timeout_s: For each host of the connection string.
        queries: The catalogue.
        parameters: Values for the queries' `%(name)s`.
        thresholds: The thresholds as families.
    """

    database: str
    dsn: str
    labels: Labels
    connect_timeout_s: float
    queries: tuple[Query, ...]
    parameters: Mapping[str, Any]
    thresholds: tuple[Family, ...]

    def __repr__(self) -> str:
        return f"Plan(database={self.database!r})"

    @property
    def needs(self) -> tuple[Need, ...]:
        """Every need of every query, each once."""
        return tuple(dict.fromkeys(need for query in self.queries for need in query.needs))

    @property
    def up_for_s(self) -> float:
        """Seconds for which an answer speaks for the database.

        The next poll may take as long as all its queries may together, and says more then. Those
        that share facts are asked alone only after they have been asked together.
        """
        shared_s: dict[Facts, float] = {}
        for query in self.queries:
            if query.facts is not None:
                shared_s[query.facts] = max(query.timeout_s, shared_s.get(query.facts, 0.0))
        longest_poll_s = sum(query.timeout_s for query in self.queries) + sum(shared_s.values())
        return FRESH_INTERVALS * self.shortest_interval_s + longest_poll_s

    @property
    def first_requests(self) -> tuple[QueryRequest, ...]:
        """Every query as it is asked the first time."""
        return tuple(QueryRequest(query, first_values(query)) for query in self.queries)

    @property
    def shortest_interval_s(self) -> float:
        """Seconds between the runs of the most frequent query."""
        return min((query.interval_s for query in self.queries), default=15.0)


def build_parameters(config: Config) -> dict[str, Any]:
    """Return the value of every `%(name)s` a query may use.

    Durations are seconds; a threshold that is off is infinite, so that nothing exceeds it. The
    operator's own parameters cannot replace a built-in one; `build_plans` refuses the attempt.
    """
    return {**config.queries.parameters, **_built_in_parameters(config)}


def _built_in_parameters(config: Config) -> dict[str, Any]:
    """The parameters that follow from the rest of the configuration."""
    built_in: dict[str, Any] = {
        "_".join((parameter.name, *keys)): value
        for parameter, field in find_marked(config, QueryParameter)
        for keys, value in plain_values(field.value)
    }
    own = config.events.release_reasons
    # The operator's come first, and instead of a built-in one that is written alike.
    patterns = {**own, **{key: RELEASE_REASONS[key] for key in RELEASE_REASONS if key not in own}}
    return built_in | {
        "release_patterns": list(patterns.keys()),
        "release_outcomes": list(patterns.values()),
    }


def load_queries(config: Config) -> tuple[Query, ...]:
    """Read the catalogue that a configuration asks for.

    Raises:
        CatalogueError: With every fault of every file.
    """
    return load_catalogue(
        [find_resource("queries"), *config.queries.dirs],
        poll=config.poll,
        overrides=config.queries.overrides,
        parameters=build_parameters(config).keys(),
    )


def build_plans(config: Config) -> dict[str, Plan]:
    """Return one plan per database.

    Raises:
        CatalogueError: A query's files cannot be used.
        ConfigError: A parameter has the name of a built-in one, or a database's label that of a
            query's.
    """
    built_in = _built_in_parameters(config)
    faults = [
        Fault("the configuration", f"queries.parameters.{name}", "is built in", "another name")
        for name in config.queries.parameters
        if name in built_in or name in EVENT_PARAMETERS
    ]
    if faults:
        raise ConfigError(faults)
    queries = load_queries(config)
    if not queries:
        expected = "at least one query to run"
        faults.append(Fault("the configuration", "queries.overrides", "disables all", expected))
    faults += _label_conflicts(config, queries)
    if faults:
        raise ConfigError(faults)
    parameters = build_parameters(config)
    thresholds = build_thresholds(config)
    return {
        name: Plan(
            database=name,
            dsn=database.dsn.get_secret_value(),
            labels=tuple(sorted(database.labels.items())),
            connect_timeout_s=config.poll.connect_timeout.total_seconds(),
            queries=queries,
            parameters=parameters,
            thresholds=thresholds,
        )
        for name, database in config.databases.items()
    }


def _label_conflicts(config: Config, queries: Sequence[Query]) -> Iterator[Fault]:
    """Labels of a database that a query sets as well, so that one would hide the other."""
    used: dict[str, str] = {}
    for query in queries:
        for metric in query.metrics:
            names = [label.name for label in metric.labels]
            names += [name for name, _ in metric.series[0].labels]
            for name in names:
                used.setdefault(name, query.name)
    for database, section in config.databases.items():
        for name in section.labels:
            if name in used:
                key = f"databases.{database}.labels.{name}"
                found = f"is a label of the query {used[name]}"
                yield Fault("the configuration", key, found, "another name")
