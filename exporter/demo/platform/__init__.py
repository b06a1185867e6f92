"""The reference platform: the schema that the exporter watches, for the demo and the tests.

The `.sql` files beside this module are the platform before the assignment fix, applied in the order
of their names, and those in `migrations` are the fix. `application` holds the writes that the
platform's own application does around its functions.
"""

from __future__ import annotations

from pathlib import Path

import psycopg

_FOLDER = Path(__file__).parent
MIGRATIONS = _FOLDER / "migrations"
"""The three files of the fix."""


def read_schema(*, is_fixed: bool = True) -> str:
    """Return the whole schema as one script, with the fix or as it was before."""
    files = sorted(_FOLDER.glob("*.sql"))
    if is_fixed:
        files += sorted(MIGRATIONS.glob("*.sql"))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def install_platform(dsn: str, *, is_fixed: bool = True) -> None:
    """Create the platform's schema in an empty database, in one transaction.

    Args:
        dsn: A superuser's connection string; this role will own the objects and bypass their
            row-level security. Works on PostgreSQL 14 and later; on 13 one function fails when
            called, as the platform's own does.
        is_fixed: Whether the assignment fix is applied.

    Raises:
        psycopg.Error: The server is unreachable or the database is not empty.
    """
    with psycopg.connect(dsn) as connection:
        connection.execute(read_schema(is_fixed=is_fixed).encode())


def add_old_chats(dsn: str, count: int) -> None:
    """Fill a platform that does not have the fix yet, in one transaction.

    Args:
        dsn: A superuser's connection string.
        count: Number of chats, of three messages each; of users too.
    """
    script = (_FOLDER / "samples" / "old_chats.sql").read_text(encoding="utf-8")
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT set_config('chatqueue.chats', %s, true)", (str(count),))
        connection.execute(script.encode())
        connection.execute("COMMIT; ANALYZE")
