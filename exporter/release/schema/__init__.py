"""Our own objects in the watched database: versioned SQL, applied in the order of the files."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
VERSION = max(int(file.name[:3]) for file in _FOLDER.glob("[0-9]*.sql"))
"""The version this release needs."""

_NOTE_VERSION = """
INSERT INTO chatqueue.schema_version (version) VALUES ({version})
ON CONFLICT (only_row) DO UPDATE
SET version = greatest(chatqueue.schema_version.version, excluded.version), installed_at = now();
"""


def build_script(installed: int = 0, folder: Path = _FOLDER) -> str:
    """Return the SQL that brings the schema up to date, to be run as one transaction.

    Args:
        installed: Version that is there; 0 for none. Applying a version again changes nothing.
        folder: Where the versions lie, `001_….sql` and on.

    Returns:
        The statements without BEGIN and COMMIT; empty where nothing is to do.
    """
    parts = []
    for file in sorted(folder.glob("[0-9]*.sql")):
        version = int(file.name[:3])
        if version > installed:
            text = file.read_text(encoding="utf-8")
            parts.append(text + _NOTE_VERSION.format(version=version))
    return "\n".join(parts)
