"""With which connection string a command writes that a person runs."""

from __future__ import annotations

import os

from exporter.config import Config
from exporter.database import check_dsn
from exporter.errors import ChatqueueError


def writing_dsn(config: Config, database: str, variable: str | None) -> str:
    """Return the connection string in the environment variable, or else the releaser's.

    Raises:
        ChatqueueError: The variable holds no connection string.
    """
    if variable is None:
        section = config.databases[database]
        return (section.release_dsn or section.dsn).get_secret_value()
    dsn = os.environ.get(variable, "").strip()
    problem = check_dsn(dsn) if dsn else ("is not set", "a connection string")
    if problem:
        raise ChatqueueError(f"--dsn-from {variable}: {', expected '.join(problem)}")
    return dsn
