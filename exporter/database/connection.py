"""One polling connection to one database, and the transaction a poll runs in.

A poll is one READ ONLY REPEATABLE READ transaction, so its metrics agree with each other and stand
on the database's clock.
"""

from __future__ import annotations

import datetime
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import errors

from exporter.catalogue import Need, Query
from exporter.database.failures import UNREADABLE, query_failure
from exporter.database.link import Link
from exporter.database.probe import Ask, Proof, find_locked, probe_needs, read_opening
from exporter.database.requests import (
    Outcome,
    Parameters,
    QueryRequest,
    group_requests,
    join_requests,
    split_outcome,
)
from exporter.database.settings import (
    DEADLINE_GRACE_S,
    FRUGAL,
    LOCK_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
    build_begin,
    build_limits,
)
from exporter.database.watchdog import Watchdog
from exporter.errors import DatabaseError, DatabaseUnavailable, QueryFailed, Reason


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
        lost_at: The query that was being asked then; None where none was.
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
    reopened: bool = False


class Connection(Link):
    """The connection that polls; not thread-safe but for `abort`. Args: those of `Link`."""

    def __init__(self, dsn: str, **options: Any) -> None:
        super().__init__(dsn, **options)
        # Facts whose queries are not asked in one statement, for one of them fails.
        self._apart: set[str] = set()
        self._proof: Proof | None = None
        self._limits = _FIRST_LIMITS

    def poll(
        self, requests: Sequence[QueryRequest], needs: Sequence[Need], parameters: Parameters
    ) -> Poll:
        """Run the queries in one read-only snapshot of the database.

        Args:
            requests: What is due.
            needs: Relations and functions to look at first; at least those of the queries.
            parameters: Values for the `%(name)s` that all queries share.

        Returns:
            An outcome for each query. One that fails leaves the others untouched.

        Raises:
            DatabaseUnavailable: There is no connection, or it broke before the first query.
        """
        try:
            return self._poll(requests, needs, parameters)
        except _DeadAtOnce:
            # Closed while idle, by a limit of the server or of something between: a new
            # connection is opened at once, and only if that fails is anything wrong.
            return replace(self._poll(requests, needs, parameters), reopened=True)

    def close(self) -> None:
        """Close the connection, if there is one, and trust nothing that was found over it."""
        super().close()
        self._proof = None

    def _poll(
        self, requests: Sequence[QueryRequest], needs: Sequence[Need], parameters: Parameters
    ) -> Poll:
        """One try of a poll."""
        self._on_step()
        was_kept = self._connection is not None
        connection = self._connect()
        with Watchdog(connection) as watchdog:
            self._watchdog = watchdog
            try:
                if self._is_stopped():  # while connecting, when there was no watchdog yet
                    raise DatabaseUnavailable("stopped")
                watchdog.arm(STATEMENT_TIMEOUT_S + DEADLINE_GRACE_S)
                try:
                    opening = build_begin("REPEATABLE READ READ ONLY", lock_s=LOCK_TIMEOUT_S)
                    # All queries share the savepoint: it stays when one is undone back to it.
                    connection.execute(f"{opening}; {FRUGAL}; SAVEPOINT query".encode())
                    self._limits = _FIRST_LIMITS
                except psycopg.Error as error:
                    unavailable = self._unavailable(error, watchdog)
                    if was_kept and not watchdog.fired:
                        raise _DeadAtOnce(str(unavailable)) from error
                    raise unavailable from error
                return self._transact(connection, watchdog, requests, needs, parameters)
            except (psycopg.Error, *UNREADABLE) as error:
                raise self._unavailable(error, watchdog) from error
            finally:
                self._watchdog = None
                if watchdog.fired or connection.closed:
                    self.close()

    def _transact(
        self,
        connection: psycopg.Connection[dict[str, Any]],
        watchdog: Watchdog,
        requests: Sequence[QueryRequest],
        needs: Sequence[Need],
        parameters: Parameters,
    ) -> Poll:
        """The transaction of one poll; psycopg's errors before the first query come out."""
        asked_s = time.time()
        reached = self._proof.reached if self._proof is not None else ()
        server = read_opening(_asking(connection), needs, reached)
        answered_s = time.time()
        # A pooler makes up the process id that it tells its clients, and may change the backend
        # between two transactions: then nothing is left prepared there.
        is_direct = server["backend_pid"] == connection.info.backend_pid
        connection.prepare_threshold = _PREPARED_AFTER if is_direct else None
        proof, fingerprint, now_s = self._proof, server["fingerprint"], time.monotonic()
        if proof is None or not proof.holds(needs, fingerprint, now_s):
            proof = probe_needs(_asking(connection), needs, reached, fingerprint, now_s)
        self._proof = proof
        faults = dict(proof.faults)
        outcomes: dict[str, Outcome] = {}
        lost: DatabaseUnavailable | None = None
        lost_at: str | None = None
        groups = deque(group_requests(requests, self._apart))
        while groups:
            group = groups.popleft()
            request = group[0] if len(group) == 1 else join_requests(group)
            if lost is None:
                outcome = self._ask(connection, watchdog, request, needs, faults, parameters)
            else:
                outcome = _failed(request.query, lost)
            if len(group) > 1 and outcome.error is not None and lost is None:
                # One by one, in the next polls too, until none of them fails any more.
                self._apart |= {each.query.facts.name for each in group if each.query.facts}
                if not isinstance(outcome.error, DatabaseUnavailable):
                    groups.extendleft((each,) for each in reversed(group))
                    continue
            if isinstance(outcome.error, DatabaseUnavailable) and lost is None:
                # The first one says why it broke; for the others the connection was gone.
                lost_at = request.query.name if len(group) == 1 else None
                lost = DatabaseUnavailable(str(outcome.error), outcome.error.reason)
            outcomes |= {each.query.name: each for each in split_outcome(outcome, group)}
        if lost is None:
            self._apart &= {
                each.query.facts.name
                for each in outcomes.values()
                if each.error and each.query.facts
            }
        if lost is None:
            lost = self._finish(connection, watchdog)
        return Poll(
            outcomes=tuple(outcomes[request.query.name] for request in requests),
            began_at=server["began_at"],
            clock_skew_s=float(server["now_s"]) - (asked_s + answered_s) / 2,
            in_recovery=bool(server["in_recovery"]),
            version_num=int(server["version_num"]),
            hidden=proof.hidden,
            lost=lost,
            lost_at=lost_at,
        )

    def _ask(
        self,
        connection: psycopg.Connection[dict[str, Any]],
        watchdog: Watchdog,
        request: QueryRequest,
        needs: Sequence[Need],
        faults: dict[Need, QueryFailed],
        parameters: Parameters,
        *,
        is_replanned: bool = False,
    ) -> Outcome:
        """One query within its limits, isolated by a savepoint.

        After a lock timeout, other queries that need the locked relation are not run. A prepared
        statement whose columns a migration has changed is planned again and asked once more.
        """
        query = request.query
        for need in query.needs:
            if need in faults:
                return _failed(query, faults[need])
        self._on_step()
        watchdog.arm(query.timeout_s + DEADLINE_GRACE_S)
        shared_and_own = {**parameters, **request.values}
        values = {name: shared_and_own[name] for name in query.parameters}
        started = time.perf_counter()
        try:
            lock_s = min(LOCK_TIMEOUT_S, query.timeout_s / 2)
            limits = build_limits(statement_s=query.timeout_s, lock_s=lock_s)
            if limits != self._limits:
                connection.execute(limits.encode())
                self._limits = limits
            # Without parameters psycopg leaves a % in the text alone.
            cursor = connection.execute(query.sql.encode(), values or None)
            rows = tuple(cursor.fetchall()) if cursor.description else ()
            columns = tuple(column.name for column in cursor.description or ())
            duration_s = time.perf_counter() - started
        except (psycopg.Error, *UNREADABLE) as error:
            self._proof = None  # what is wrong may be what the probe looks at
            duration_s = time.perf_counter() - started
            if connection.closed or watchdog.fired:
                return _failed(query, self._unavailable(error, watchdog), duration_s)
            failure = query_failure(error, query.timeout_s, self._secrets)
            try:
                # psycopg then forgets what it has prepared, and the limits are those of BEGIN.
                connection.execute("ROLLBACK TO SAVEPOINT query")
                self._limits = _FIRST_LIMITS
                if isinstance(error, _NOT_PREPARED_ANY_MORE) and not is_replanned:
                    request_again = (request, needs, faults, parameters)
                    return self._ask(connection, watchdog, *request_again, is_replanned=True)
                if failure.reason is Reason.LOCKED:
                    faults.update(find_locked(_asking(connection), faults, needs))
            except psycopg.Error as second:
                return _failed(query, self._unavailable(second, watchdog), duration_s)
            return _failed(query, failure, duration_s)
        return Outcome(query, columns, rows, None, duration_s)

    def _finish(
        self, connection: psycopg.Connection[dict[str, Any]], watchdog: Watchdog
    ) -> DatabaseUnavailable | None:
        """End the transaction; what it read stands even if that fails."""
        watchdog.arm(STATEMENT_TIMEOUT_S)
        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            return self._unavailable(error, watchdog)
        return None

    def _unavailable(self, error: Exception, watchdog: Watchdog) -> DatabaseUnavailable:
        """A psycopg error that ends the connection, as ours."""
        self.close()
        if watchdog.fired:
            return DatabaseUnavailable(
                "the server did not answer in time and the connection was cut", Reason.TIMEOUT
            )
        return DatabaseUnavailable(self._explain(error))


# Runs of a statement before it is prepared, so that what is asked once is not.
_PREPARED_AFTER = 2
_NOT_PREPARED_ANY_MORE = (
    errors.FeatureNotSupported,  # its columns have changed
    errors.InvalidSqlStatementName,  # somebody between has sent DISCARD ALL
    errors.DuplicatePreparedStatement,
)
_FIRST_LIMITS = build_limits(statement_s=STATEMENT_TIMEOUT_S, lock_s=LOCK_TIMEOUT_S)


class _DeadAtOnce(DatabaseUnavailable):
    """A kept connection turned out to be dead before anything was asked."""


def _asking(connection: psycopg.Connection[dict[str, Any]]) -> Ask:
    """How the probe asks; psycopg's errors come out."""
    return lambda sql, values: connection.execute(sql.encode(), values).fetchall()


def _failed(query: Query, error: DatabaseError, duration_s: float = 0.0) -> Outcome:
    """An outcome without rows."""
    return Outcome(query, (), (), error, duration_s)
