"""The least right that is missing, as the GRANT that gives it.

Source: deploy/postgresql/reader.sql, which says by column what the watching role reads.
"""

from __future__ import annotations

import re
from functools import cache

from exporter.config.resources import find_resource

# Where the scripts say nothing of a relation, only its owner knows what it shows.
_COLUMNS = "the columns that the query reads"
_GRANT = re.compile(r"^GRANT (\w+)\s*(\([^)]*\))?\s*ON (?:FUNCTION )?(.+?) TO ", re.MULTILINE)
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


def missing_grant(kind: str, name: str, role: str) -> str:
    """Return the GRANT that a role lacks: never more than the role that watches is given.

    Args:
        kind: `relation` or `function`.
        name: `schema.relation` or `schema.function(types)`.
        role: Who reads it, or calls it.
    """
    grantee = role if _PLAIN.fullmatch(role) else '"{}"'.format(role.replace('"', '""'))
    if kind != "relation":
        return f"GRANT EXECUTE ON FUNCTION {name} TO {grantee}"
    columns = _read_columns().get(name, f"({_COLUMNS})")
    return f"GRANT SELECT {columns + ' ' if columns else ''}ON {name} TO {grantee}"


@cache
def _read_columns() -> dict[str, str]:
    """Relation to its columns in brackets; empty where all of them may be read."""
    script = (find_resource("deploy") / "postgresql" / "reader.sql").read_text(encoding="utf-8")
    return {
        name: re.sub(r"\(\s+|\s+\)", lambda m: m[0].strip(), " ".join((columns or "").split()))
        for privilege, columns, name in _GRANT.findall(script)
        if privilege == "SELECT"
    }
