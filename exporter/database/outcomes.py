"""What is asked in a poll, and what comes of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.catalogue import Query
from exporter.config.watch import WatchTimes
from exporter.database.link import Row
from exporter.errors import DatabaseError, DatabaseUnavailable

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
        duration_s: Time from asking to the last row, network included; of queries asked together,
            its own time on the server and an equal share of the rest.
    """

    query: Query
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    error: DatabaseError | None
    duration_s: float


@dataclass(frozen=True, slots=True)
class Poll:
    """What one transaction saw.

    Attributes:
        outcomes: One per query, in the order of the requests.
        began_at: The database's `now()`, which all queries of the poll share.
        clock_skew_s: Database clock minus this host's.
        in_recovery: Whether the server is a standby.
        version_num: `server_version_num`, e.g. 150018.
        hidden: Relation and whether row-level security hides rows of it from this role.
        lost: Why the connection broke during the poll, or None; the outcomes before it stand.
        lost_at: The query that was being asked then; None where none was, or several together.
        watch: The watch that was started by command; None where none was.
        reopened: Whether a kept connection had died since, and a new one was opened for this poll.
    """

    outcomes: tuple[Outcome, ...]
    began_at: datetime.datetime
    clock_skew_s: float
    in_recovery: bool
    version_num: int
    hidden: tuple[tuple[str, bool], ...]
    lost: DatabaseUnavailable | None
    lost_at: str | None = None
    watch: WatchTimes | None = None
    reopened: bool = False
