"""The inspection of one database: one read-only transaction, the rights of roles, the pooler."""

from __future__ import annotations

import contextlib
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
from exporter.database.session import Session
from exporter.database.statements import load_statements
from exporter.errors import DatabaseError
from exporter.ops.verify.checks import (
    Check,
    Group,
    check_access,
    check_contract,
    check_distribution,
    check_invalid,
    check_rows,
    check_server,
)
from exporter.ops.verify.rights import READING, WRITING, Part, inspect_rights
from exporter.polling.plan import Plan, build_parameters, build_plans

CONTRACT, SUMMARY = "contract_objects", "state_summary"
INVALID = ("invalid_chats", "invalid_states", "invalid_times", "invalid_users")
ACCESS = "access"
_QUERIES = (CONTRACT, SUMMARY, *INVALID)
_POOLING_ROUNDS = 3
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
    """What to inspect in one database.

    Attributes:
        plan: Of the poller, for what it reads there.
        queries: The queries to run, also where the configuration switches them off.
        reads: Relation and column, of every relation that the poller reads.
        roles: Connection string of each role, and the parts of the product that it is for.
    """

    plan: Plan
    queries: tuple[Query, ...]
    reads: tuple[tuple[str, str], ...]
    roles: tuple[tuple[str, tuple[Part, ...]], ...]


def build_inspections(config: Config) -> tuple[Inspection, ...]:
    """Return one inspection per database.

    Raises:
        CatalogueError: A query's files cannot be used.
        ConfigError: The configuration does not fit them.
    """
    overrides = {
        name: config.queries.overrides.get(name, Override()).model_copy(update={"enabled": True})
        for name in _QUERIES
    }
    catalogue = load_catalogue(
        [find_resource("queries"), *config.queries.dirs],
        poll=config.poll,
        overrides=overrides,
        parameters=build_parameters(config).keys(),
    )
    queries = tuple(query for query in catalogue if query.name in _QUERIES)
    return tuple(
        Inspection(plan, queries, _read_columns(plan), _roles(config, plan))
        for plan in build_plans(config).values()
    )


def find_contract(inspection: Inspection) -> str:
    """Return the statement that compares the fix's objects with what there should be."""
    return next(query.sql for query in inspection.queries if query.name == CONTRACT)


def inspect(inspection: Inspection) -> tuple[Check, ...]:
    """Return every check of one database.

    Raises:
        DatabaseError: There is no connection, or it broke before the first answer.
    """
    plan = inspection.plan
    requests = [*(QueryRequest(query) for query in inspection.queries), access_request(inspection)]
    needs = [*plan.needs, *(need for query in inspection.queries for need in query.needs)]
    connection = Connection(plan.dsn, connect_timeout_s=plan.connect_timeout_s)
    with contextlib.closing(connection):
        poll = connection.poll(requests, tuple(dict.fromkeys(needs)), plan.parameters)
    rights = (
        check
        for dsn, parts in inspection.roles
        for check in inspect_rights(dsn, parts, plan.connect_timeout_s)
    )
    return (*_judge(poll), *rights, _check_pooling(plan))


def access_request(inspection: Inspection) -> QueryRequest:
    """Return the query for the privileges that the poller needs there."""
    functions = {need.name for need in inspection.plan.needs if need.kind == "function"}
    values = {
        "relations": [relation for relation, _ in inspection.reads],
        "columns": [column for _, column in inspection.reads],
        "functions": sorted(functions),
    }
    return QueryRequest(_ACCESS_QUERY, values)


def _judge(poll: Poll) -> Iterator[Check]:
    """The checks of the transaction's queries."""
    outcomes = {outcome.query.name: outcome for outcome in poll.outcomes}
    yield from _check_outcome(outcomes[CONTRACT], "contract")
    yield from _check_outcome(outcomes[SUMMARY], "states")
    for name in INVALID:
        yield from _check_outcome(outcomes[name], "states")
    yield from _check_outcome(outcomes[ACCESS], "access")
    yield from check_rows(poll.hidden)
    yield from check_server(poll.version_num, poll.in_recovery, poll.clock_skew_s)


def _check_outcome(outcome: Outcome, group: Group) -> Iterator[Check]:
    """The checks of one query's rows; a query that failed is a failed check."""
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
            series = (series for metric in query.metrics for series in metric.series)
            checks = {each.column: dict(each.labels)["check"] for each in series}
            yield from check_invalid(rows[0], checks)
    except LookupError as error:  # a query of that name in the operator's folder
        found = f"{query.path} does not return {error}"
        yield Check(group, query.name, False, found, "", "give it the columns of the built-in one")


def _roles(config: Config, plan: Plan) -> tuple[tuple[str, tuple[Part, ...]], ...]:
    """The role that watches and the one that releases, which may be the same."""
    release_dsn = config.databases[plan.database].release_dsn
    if release_dsn is not None:
        return ((plan.dsn, READING), (release_dsn.get_secret_value(), WRITING))
    return ((plan.dsn, READING if config.release.mode == "off" else (*READING, *WRITING)),)


def _check_pooling(plan: Plan) -> Check:
    """How connections reach the server; both ways serve."""
    try:
        is_pooled = _find_transaction_pooler(plan)
    except DatabaseError as error:
        found = f"could not be determined: {error}"
        todo = "allow the role two more connections: chatqueue verify opens them one at a time"
        return Check("server", "pooler", False, found, "", todo)
    found = "a pooler in transaction mode" if is_pooled else "direct, or a pooler in session mode"
    return Check("server", "pooler", True, found)


def _find_transaction_pooler(plan: Plan) -> bool:
    """Whether server processes are shared by sessions.

    A session with its own server process keeps it. Behind a transaction pooler a second session's
    transaction gets the process that the first has just given back, or the first gets another.
    """
    statement = "SELECT pg_catalog.pg_backend_pid() AS process"
    with (
        Session(plan.dsn, connect_timeout_s=plan.connect_timeout_s) as first,
        Session(plan.dsn, connect_timeout_s=plan.connect_timeout_s) as second,
    ):
        with first.reading():
            process = first.rows(statement)
        for _ in range(_POOLING_ROUNDS):
            with second.reading():
                if second.rows(statement) == process:
                    return True
                with first.reading():
                    if first.rows(statement) != process:
                        return True
    return False


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
