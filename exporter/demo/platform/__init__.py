"""The reference platform: the schema that the exporter watches, for the demo and the tests.

The `.sql` files beside this module are the schema, applied in the order of their names.
`application` holds the writes that the platform's own application does around its functions.
"""

from __future__ import annotations

from pathlib import Path

import psycopg


def read_schema() -> str:
    """Return the whole schema as one script."""
    files = sorted(Path(__file__).parent.glob("*.sql"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def install_platform(dsn: str) -> None:
    """Create the platform's schema in an empty database, in one transaction.

    Args:
        dsn: A superuser's connection string; this role will own the objects and bypass their
            row-level security. Works on PostgreSQL 14 and later; on 13 one function fails when
            called, as the platform's own does.

    Raises:
        psycopg.Error: The server is unreachable or the database is not empty.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute(read_schema().encode())
