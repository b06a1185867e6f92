"""Connection strings that are refused before anything is said to a server, or to a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import load_config
from exporter.database import Connection, check_dsn
from exporter.errors import ConfigError, DatabaseUnavailable

UNREADABLE = "not a connection string libpq can read"
TORN = "a host, port or database that cannot be one"


@pytest.mark.parametrize(
    ("dsn", "problem"),
    [
        ("postgresql://u:s3cr3t@h/db", None),
        ("postgresql://u:s3cr%40t@h:5432,i:5433/db?sslmode=require", None),
        ("host=/run/postgresql dbname=a@b", None),
        ("host=@abstract", None),
        ("service=chat", None),
        ("host=a pass word=s3cr3t", UNREADABLE),
        ("postgresql://u:s3%zzcr3t@h/db", UNREADABLE),
        ("postgresql://u:s3@cr3t@h/db", TORN),
        ("postgresql://u:s3/cr3t@h/db", TORN),
        ("postgresql://u:12/cr3t@h", TORN),
        ("host=h port=s3cr3t", TORN),
    ],
)
def test_a_torn_connection_string_is_refused(dsn: str, problem: str | None) -> None:
    assert check_dsn(dsn) == problem


def test_the_refusal_names_file_line_and_key_and_shows_nothing(tmp_path: Path) -> None:
    config = tmp_path / "chatqueue.yaml"
    config.write_text(
        "databases:\n  main:\n    dsn: postgresql://u:s3@cr3t@h/db\npoll: {every: 1s}\n"
    )

    with pytest.raises(ConfigError) as caught:
        load_config(config, {}, check_dsn)

    first, second = str(caught.value).splitlines()
    assert first == (
        f"{config}:3: databases.main.dsn: {TORN}, expected a postgresql:// URI, its password "
        "percent-encoded, or key=value pairs"
    )
    assert second.startswith(f"{config}:4: poll.every: unknown key")


def test_a_host_that_is_no_name_is_unavailable_and_no_crash() -> None:
    with pytest.raises(DatabaseUnavailable, match="host is not a host name"):
        Connection("host=a..b").poll([], [], {})
