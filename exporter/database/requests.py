"""Queries as they are asked, one by one or those over the same facts in one statement. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from exporter.catalogue import Query, joined_statement
from exporter.database.link import Row
from exporter.errors import DatabaseError

Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """One query and the values of the parameters that are not shared by all queries."""

    query: Query
    values: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one query gave in one poll.

    Attributes:
        query: The catalogue entry.
        columns: Names of the columns returned; empty on failure.
        rows: Column name to value; empty on failure.
        error: Why there are no rows, or None.
        duration_s: Time from asking to the last row, network included.
    """

    query: Query
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    error: DatabaseError | None
    duration_s: float


def group_requests(
    requests: Sequence[QueryRequest], apart: Collection[str]
) -> Iterator[tuple[QueryRequest, ...]]:
    """Yield the requests over the same facts together, every other one alone.

    Args:
        requests: What is due.
        apart: Names of facts whose queries are asked one by one.
    """

    def key(request: QueryRequest) -> str:
        facts = request.query.facts
        return "" if facts is None or facts.name in apart else facts.name

    for name, group in itertools.groupby(sorted(requests, key=key), key):
        if name:
            yield tuple(group)
        else:
            yield from ((request,) for request in group)


def join_requests(requests: Sequence[QueryRequest]) -> QueryRequest:
    """Return one request for all of these; `split_outcome` takes its outcome apart."""
    queries = [request.query for request in requests]
    facts = queries[0].facts
    assert facts is not None  # noqa: S101  group_requests gave them
    statements = tuple((query.name, query.own_sql) for query in queries)
    joined = replace(
        queries[0],
        name=", ".join(query.name for query in queries),
        sql=_joined_statement(facts.name, facts.sql, statements),
        timeout_s=max(query.timeout_s for query in queries),
        needs=tuple(dict.fromkeys(need for query in queries for need in query.needs)),
        parameters=tuple(dict.fromkeys(name for query in queries for name in query.parameters)),
    )
    return QueryRequest(joined, {k: v for request in requests for k, v in request.values.items()})


@lru_cache(maxsize=32)
def _joined_statement(facts: str, facts_sql: str, statements: tuple[tuple[str, str], ...]) -> str:
    return joined_statement(facts, facts_sql, dict(statements))


def split_outcome(outcome: Outcome, requests: Sequence[QueryRequest]) -> tuple[Outcome, ...]:
    """Return each query's outcome; those of a joined request took equal shares of the time.

    Of a query without rows the columns are not known: those of its mapping stand in.
    """
    if len(requests) == 1:
        return (outcome,)
    share_s = outcome.duration_s / len(requests)
    if outcome.error is not None:
        return tuple(Outcome(request.query, (), (), outcome.error, share_s) for request in requests)
    (row,) = outcome.rows
    return tuple(
        Outcome(
            request.query,
            tuple(rows[0]) if rows else request.query.columns,
            tuple(rows),
            None,
            share_s,
        )
        for request, rows in zip(requests, row.values(), strict=True)
    )
