"""What every transaction begins with: its limits, and the settings that it pins.

A setting is pinned if it changes what a query means or how its values are read. All are SET
LOCAL, so they work through a transaction pooler and leave nothing behind.
tests/postgres/test_settings.py names every setting of PostgreSQL's "Client Connection Defaults"
and its compatibility settings, pinned or not, with the reason.
"""

from __future__ import annotations

from typing import LiteralString

PINNED: tuple[tuple[LiteralString, LiteralString], ...] = (
    # How values are written, and so how they are read here.
    ("client_encoding", "'UTF8'"),
    ("datestyle", "'ISO, MDY'"),
    ("intervalstyle", "'postgres'"),
    ("timezone", "'UTC'"),
    ("extra_float_digits", "1"),
    ("bytea_output", "'hex'"),
    ("lc_monetary", "'C'"),
    ("lc_numeric", "'C'"),
    ("lc_time", "'C'"),
    ("xmlbinary", "'base64'"),
    ("xmloption", "'content'"),
    # What a statement means.
    ("standard_conforming_strings", "on"),
    ("backslash_quote", "safe_encoding"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("quote_all_identifiers", "off"),
    ("gin_fuzzy_search_limit", "0"),
    # Off, a policy that lets every row through would be an error.
    ("row_security", "on"),
    # On, one failing query would end the session.
    ("exit_on_error", "off"),
)

PIN_ALL: LiteralString = (
    "; ".join("SET LOCAL {} = {}".format(name, value) for name, value in PINNED)  # noqa: UP032  stays literal
    # Functions may name tables without a schema: behind the role's own path they find public.
    + "; SELECT pg_catalog.set_config('search_path',"
    " coalesce(nullif(pg_catalog.current_setting('search_path'), '') || ', ', '')"
    " || 'public', true)"
)
"""All of it as one text of statements, to be sent with BEGIN."""

STATEMENT_TIMEOUT_S = 5.0
LOCK_TIMEOUT_S = 1.0
# A daemon that is stopped in mid-transaction must not hold back vacuum.
IDLE_TIMEOUT_S = 10.0
# What the client waits beyond statement_timeout, for a cancel that the server itself performs.
DEADLINE_GRACE_S = 1.0

# jit and parallel workers would buy a watch a little time at the cost of the platform's queries.
FRUGAL: LiteralString = "SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0"


def build_limits(*, statement_s: float, lock_s: float) -> str:
    """Return the statements that limit what comes next in the transaction."""
    return (
        f"SET LOCAL statement_timeout = {_ms(statement_s)}; SET LOCAL lock_timeout = {_ms(lock_s)}"
    )


def build_plan_mode(*, is_generic: bool) -> str:
    """Return the statement that says whether what comes next is planned once or at each run."""
    return f"SET LOCAL plan_cache_mode = {'force_generic_plan' if is_generic else 'auto'}"


def build_begin(
    mode: str,
    *,
    statement_s: float = STATEMENT_TIMEOUT_S,
    lock_s: float = LOCK_TIMEOUT_S,
) -> str:
    """Return the statements that begin a transaction, limited and with every setting pinned.

    Args:
        mode: Isolation level, and READ ONLY where nothing is written.
        statement_s: How long a statement may run.
        lock_s: How long it may wait for a lock; the shorter limit, or a locked table would pass
            for a slow query.
    """
    idle = f"SET LOCAL idle_in_transaction_session_timeout = {_ms(IDLE_TIMEOUT_S)}"
    limits = build_limits(statement_s=statement_s, lock_s=lock_s)
    return f"BEGIN ISOLATION LEVEL {mode}; {limits}; {idle}; {PIN_ALL}"


def _ms(seconds: float) -> int:
    """Whole milliseconds, at least one: 0 would mean no limit."""
    return max(1, round(seconds * 1000))
