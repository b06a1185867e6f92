"""The SQL of the two roles that the product works with, under names of one's own.

Source: deploy/postgresql/reader.sql, releaser.sql and repairs.sql, which hold the default names.
"""

from __future__ import annotations

import re

from exporter.config.resources import find_resource
from exporter.errors import ChatqueueError

READER = "chatqueue_reader"
RELEASER = "chatqueue_releaser"

# Quoted as it stands, in an identifier and in a string: so it must hold nothing that ends either.
# Names of policies are longer by `_update`, and PostgreSQL takes 63 bytes.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,55}")
_RESERVED = ("public", "none")


class UnsafeRoleName(ChatqueueError):
    """A name that no role of ours may have."""


def build_grants(
    reader: str = READER, releaser: str = RELEASER, *, with_repairs: bool = False
) -> str:
    """Return the SQL that makes both roles; it may be run again at any time.

    Args:
        reader: Name of the role that watches.
        releaser: Name of the role of `release_dsn`.
        with_repairs: Whether the latter may also do what `fix` and `verify --flow` do.

    Raises:
        UnsafeRoleName: Which one, and what was expected.
    """
    for name in (reader, releaser):
        if not _NAME.fullmatch(name) or name in _RESERVED or name.startswith("pg_"):
            raise UnsafeRoleName(
                f"{name!r} is no name for a role, expected a letter and then at most 55 letters, "
                f"digits, _ or -, and none of PostgreSQL's own ({', '.join(_RESERVED)}, pg_…)"
            )
    if reader == releaser:
        raise UnsafeRoleName(
            f"both roles are {reader!r}, expected two: the reader's transactions are read-only"
        )
    folder = find_resource("deploy") / "postgresql"
    parts = [("reader.sql", READER, reader), ("releaser.sql", RELEASER, releaser)]
    if with_repairs:
        parts.append(("repairs.sql", RELEASER, releaser))
    return "\n".join(
        (folder / file).read_text(encoding="utf-8").replace(default, name)
        for file, default, name in parts
    )
