"""Queries that read from the same facts, asked in one statement so that those are computed once.

Each query's rows come as records, which carry the type of every value, with the names of the
columns beside them, so that what is read is what the query alone would have given.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.catalogue import Facts, Query
from exporter.catalogue.statement import mark_statement
from exporter.database.link import Row

# One row at least, with the names of the columns, even where the query gives none: then what stands
# in front of its columns is NULL. clock_timestamp() is when the row was made; the parts of a UNION
# ALL run one after the other.
_PART = """SELECT
    {part},
    clock_timestamp(),
    (SELECT array_agg(n) FROM json_object_keys(row_to_json(r)) AS n),
    r
FROM (SELECT) AS o
LEFT JOIN (SELECT true, s.* FROM (
{sql}
) AS s) AS q ON true
CROSS JOIN LATERAL (SELECT q.*) AS r"""
# Reading them all once makes the time of the facts end before that of the first part begins.
_COUNTED = """SELECT
    -1 AS part,
    clock_timestamp() AS at,
    NULL AS names,
    NULL AS value
FROM (SELECT count(*) FROM {facts}) AS f"""


@dataclass(frozen=True, slots=True)
class Part:
    """What one query of several gave.

    Attributes:
        columns: Names of the columns returned.
        rows: Column name to value.
        own_s: Seconds the server spent on it, facts aside.
        is_readable: Whether psycopg knows the type of every value. One that it knows only as text,
            such as an enum's, cannot be read here, and the query has to be asked alone.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    own_s: float
    is_readable: bool


def group_by_facts(queries: Iterable[Query]) -> tuple[list[Query], ...]:
    """Return the queries that read the same facts, two or more each."""
    groups: dict[Facts, list[Query]] = {}
    for query in queries:
        if query.facts is not None:
            groups.setdefault(query.facts, []).append(query)
    return tuple(group for group in groups.values() if len(group) > 1)


def build_statement(queries: Sequence[Query]) -> str:
    """Return the statement that asks queries of the same facts; it is for `read_parts`.

    Its parameters are those of all queries; even without any, each % in it is doubled.
    """
    facts = queries[0].facts
    assert facts is not None  # noqa: S101 - the caller groups queries by their facts
    counted = _COUNTED.format(facts=facts.name)
    parts = [_PART.format(part=n, sql=query.own_sql) for n, query in enumerate(queries)]
    names = ", ".join(query.name for query in queries)
    return mark_statement(names, "\nUNION ALL\n".join((f"{facts.clause}\n{counted}", *parts)))


def read_parts(rows: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    """Return what each query gave, in the order of `build_statement`.

    Args:
        rows: Fetched in binary form.
    """
    parts = []
    before: datetime.datetime = rows[0]["at"]
    for _, group in itertools.groupby(rows[1:], lambda row: row["part"]):
        own = list(group)
        columns = tuple(own[0]["names"][1:])
        records = [row["value"][1:] for row in own if row["value"][0]]
        own_s = (own[-1]["at"] - before).total_seconds()
        before = own[-1]["at"]
        parts.append(
            Part(
                columns=columns,
                rows=tuple(dict(zip(columns, record, strict=True)) for record in records),
                own_s=max(own_s, 0.0),
                is_readable=not any(
                    isinstance(value, bytes) for record in records for value in record
                ),
            )
        )
    return tuple(parts)
