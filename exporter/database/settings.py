"""What the role, the database or the environment may have set, and every transaction pins.

A setting belongs here if it changes what a query means or how its values are read. All are SET
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
