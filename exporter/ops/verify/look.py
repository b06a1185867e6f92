"""One look at a database: one read-only transaction, and how the connection reaches it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from exporter.catalogue import Query, load_catalogue
from exporter.catalogue.statement import statement_text
from exporter.config import Config, Override
from exporter.config.resources import find_resource
from exporter.database import Connection, Outcome, Poll, QueryRequest
from exporter.database.statements import load_statements
from exporter.errors import DatabaseError
from exporter.ops.verify.checks import (
    Check,
    Group,
    check_access,
    check_contract,
    check_distribution,
    check_invalid,
    check_pooling,
    check_rows,
    check_server,
)
from exporter.ops.verify.pooling import find_pooling
from exporter.ops.verify.rights import READING, WRITING, Part, inspect_rights
from exporter.polling.plan import Plan, build_parameters, build_plans

CONTRACT, SUMMARY = "contract_objects", "state_summary"
INVALID = ("invalid_chats", "invalid_states", "invalid_times", "invalid_users")
ACCESS = "access"
_ASKED = (CONTRACT, SUMMARY, *INVALID)
_ACCESS_QUERY = Query(
    name=ACCESS,
    path=Path("access.sql"),
    sql=statement_text(ACCESS, load_statements(__package__, "sql")[ACCESS]),
    interval_s=5.0,
    timeout_s=5.0,
    max_age_s=None,
    needs=(),
    metrics=(),
    max_rows=1000,
    parameters=("columns", "functions", "relations"),
)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What to look at in one database.

    Attributes:
        plan: Of the poller, for what the watch reads there.
        queries: The queries that are asked, also where the configuration switches them off.
        reads: Relation and column, of every relation that the watch reads.
        roles: Connection string of each role, and the parts of the product that it is for.
    """

    plan: Plan
    queries: tuple[Query, ...]
    reads: tuple[tuple[str, str], ...]
    roles: tuple[tuple[str, tuple[Part, ...]], ...]


def build_inspections(config: Config) -> tuple[Inspection, ...]:
    """Return one inspection a database.

    Raises:
        CatalogueError: A query's files cannot be used.
        ConfigError: The configuration does not fit them.
    """
    overrides = {
        name: config.queries.overrides.get(name, Override()).model_copy(update={"enabled": True})
        for name in _ASKED
    }
    catalogue = load_catalogue(
        [find_resource("queries"), *config.queries.dirs],
        poll=config.poll,
        overrides=overrides,
        parameters=build_parameters(config).keys(),
    )
    queries = tuple(query for query in catalogue if query.name in _ASKED)
    return tuple(
        Inspection(plan, queries, _read_columns(plan), _roles(config, plan))
        for plan in build_plans(config).values()
    )


def inspect(inspection: Inspection) -> tuple[Check, ...]:
    """Look once.

    Raises:
        DatabaseError: There is no connection, or it broke before anything was found.
    """
    plan = inspection.plan
    requests = [*(QueryRequest(query) for query in inspection.queries), access_request(inspection)]
    needs = [*plan.needs, *(need for query in inspection.queries for need in query.needs)]
    connection = Connection(plan.dsn, connect_timeout_s=plan.connect_timeout_s)
    try:
        poll = connection.poll(requests, tuple(dict.fromkeys(needs)), plan.parameters)
    finally:
        connection.close()
    rights = (
        check
        for dsn, parts in inspection.roles
        for check in inspect_rights(dsn, parts, plan.connect_timeout_s)
    )
    return (*judge(poll), *rights, _pooling(plan))


def access_request(inspection: Inspection) -> QueryRequest:
    """Return the question after the privileges that the watch needs there."""
    functions = {need.name for need in inspection.plan.needs if need.kind == "function"}
    values = {
        "relations": [relation for relation, _ in inspection.reads],
        "columns": [column for _, column in inspection.reads],
        "functions": sorted(functions),
    }
    return QueryRequest(_ACCESS_QUERY, values)


def judge(poll: Poll) -> Iterator[Check]:
    """Yield every check that one transaction's answers allow."""
    outcomes = {outcome.query.name: outcome for outcome in poll.outcomes}
    yield from _of(outcomes[CONTRACT], "contract")
    yield from _of(outcomes[SUMMARY], "states")
    for name in INVALID:
        yield from _of(outcomes[name], "states")
    yield from _of(outcomes[ACCESS], "access")
    yield from check_rows(poll.hidden)
    yield from check_server(poll.version_num, poll.in_recovery, poll.clock_skew_s)


def _of(outcome: Outcome, group: Group) -> Iterator[Check]:
    """The checks that one query's answer allows; one that failed is a check that failed."""
    query, rows = outcome.query, outcome.rows
    if outcome.error is not None:
        todo = "make the query work, see docs/troubleshooting.md"
        yield Check(group, query.name, False, f"{outcome.error.reason}: {outcome.error}", "", todo)
        return
    try:
        if query.name == CONTRACT:
            yield from check_contract(rows)
        elif query.name == SUMMARY:
            yield check_distribution(rows)
        elif query.name == ACCESS:
            yield from check_access(rows)
        else:
            yield from check_invalid(rows[0], _checks_of(query))
    except LookupError as error:  # a query of that name in a folder of the operator's own
        found = f"{query.path} does not return {error}"
        yield Check(group, query.name, False, found, "", "give it the columns of the built-in one")


def _checks_of(query: Query) -> Mapping[str, str]:
    """Column to the value of `check`, as the query's own mapping has them."""
    return {
        series.column: dict(series.labels)["check"]
        for metric in query.metrics
        for series in metric.series
    }


def _roles(config: Config, plan: Plan) -> tuple[tuple[str, tuple[Part, ...]], ...]:
    """The role that watches and the one that releases, which may be the same."""
    release_dsn = config.databases[plan.database].release_dsn
    if release_dsn is not None:
        return ((plan.dsn, READING), (release_dsn.get_secret_value(), WRITING))
    return ((plan.dsn, READING if config.release.mode == "off" else (*READING, *WRITING)),)


def _pooling(plan: Plan) -> Check:
    """How the connection reaches the server, or why that cannot be told."""
    try:
        return check_pooling(find_pooling(plan.dsn, plan.connect_timeout_s))
    except DatabaseError as error:
        todo = "allow the role two more connections: chatqueue verify opens them one at a time"
        return Check("server", "pooler", False, f"cannot be told: {error}", "", todo)


def _read_columns(plan: Plan) -> tuple[tuple[str, str], ...]:
    """Relation and column, of those relations that an enabled query needs."""
    reads: Mapping[str, Sequence[str]] = yaml.safe_load(
        files(__package__).joinpath("reads.yaml").read_text("utf-8")
    )
    needed = {need.name for need in plan.needs}
    return tuple(
        (relation, column)
        for relation, columns in reads.items()
        if relation in needed
        for column in columns
    )
