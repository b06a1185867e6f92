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
    found = check_dsn(dsn)

    assert (found and found[0]) == problem


LEAVE_OUT = "that it is left out"


@pytest.mark.parametrize(
    ("dsn", "found", "expected"),
    [
        ("postgresql://u:s3cr3t@h/db?schema=public", "the parameter schema,", LEAVE_OUT),
        ("postgresql://u:s3cr3t@h/db?currentSchema=x", "the parameter currentSchema,", LEAVE_OUT),
        ("postgresql://u:s3cr3t@h/db?pgbouncer=true", "the parameter pgbouncer,", LEAVE_OUT),
        ("postgres://u:s3cr3t@h/db?sslmode=require&connection_limit=1", "connection_limit", "left"),
        ("postgresql://u:s3cr3t@h/db?pool_timeout=0", "the parameter pool_timeout,", LEAVE_OUT),
        ("postgresql://u:s3cr3t@h/db?prepareThreshold=0", "prepareThreshold", LEAVE_OUT),
        ("postgresql://u:s3cr3t@h/db?ssl=true&x=1", "the parameter ssl,", "sslmode=require"),
        ("postgresql://u:s3cr3t@h/db?sslaccept=strict", "sslaccept", "sslmode=require"),
        ("postgresql://u:s3cr3t@h/db?sslmod=require", "close to sslmode", "sslmode"),
        ("postgresql://u:s3cr3t@h/db?ssl_mode=require", "close to sslmode", "sslmode"),
        ("postgresql://u:s3cr3t@h/db?SSLMODE=require", "close to sslmode", "sslmode"),
        ("postgresql://u:s3cr3t@h/db?conect_timeout=3", "close to connect_timeout", "connect_t"),
        ("postgresql://u:s3cr3t@h/db?sslmode=required", "a value of sslmode", "one of disable"),
        ("host=h sslmode=true", "a value of sslmode", "verify-full"),
        ("host=h channel_binding=yes", "a value of channel_binding", "prefer"),
        ("postgresql://u@h/db?connect_timeout=5s", "a value of connect_timeout", "=5"),
        ("postgresql://u@h/db?target_session_attrs=master", "target_session_attrs", "primary"),
        ("host=h username=u password=s3cr3t", "the parameter username,", "user in its place"),
        ("host=h database=x password=s3cr3t", "the parameter database,", "dbname in its place"),
        ("Host=h;Username=u;Password=s3cr3t;Database=d", "semicolons", "blanks"),
        ("postgresql+psycopg2://u:s3cr3t@h/db", "scheme postgresql+psycopg2://", "postgresql://"),
        ("postgresql+asyncpg://u:s3cr3t@h/db", "scheme postgresql+asyncpg://", "postgresql://"),
        ("postgres+pg8000://u:s3cr3t@h/db", "scheme postgres+pg8000://", "postgresql://"),
        ("jdbc:postgresql://h/db?user=u&password=s3cr3t", "jdbc:postgresql://", "before an @"),
        ("jdbc:postgresql://h:5432/db", "scheme jdbc:postgresql://", "postgresql:// in its place"),
        ("r2dbc:postgresql://u:s3cr3t@h/db", "scheme r2dbc:postgresql://", "postgresql://"),
        ("PostgreSQL://u:s3cr3t@h/db", "scheme PostgreSQL://", "postgresql://"),
        ("postgis://u:s3cr3t@h/db", "the scheme postgis://", "postgresql://"),
        ("mysql://u:s3cr3t@h/db", "the scheme mysql://", "postgresql://"),
        ("s3cr3t://u:s3cr3t@h/db", "an unknown scheme", "postgresql://"),
        ("postgresql:/u:s3cr3t@h/db", "no // behind", "postgresql://"),
        ("'postgresql://u:s3cr3t@h/db'", "quotes around", "without them"),
        ("DATABASE_URL=postgresql://u:s3cr3t@h/db", "the name of a variable", "follows its ="),
        ("psql 'postgresql://u:s3cr3t@h/db'", "the command psql", "without quotes"),
        ("postgresql://u:s3cr3t@h\n/db", "a line break within", "one line"),
        ("postgresql://u:[YOUR-PASSWORD]@h/db", "a placeholder", "the password"),
        ("postgresql://u:p@h/db?s3cr3t=x", UNREADABLE, "a postgresql:// URI"),
    ],
)
def test_a_refusal_names_the_part_and_what_to_write(dsn: str, found: str, expected: str) -> None:
    problem = check_dsn(dsn)

    assert problem is not None
    assert found in problem[0]
    assert expected in problem[1]
    assert "s3cr3t" not in "".join(problem)


@pytest.mark.parametrize("end", ["\n", "\r\n", " \t\n\n"])
@pytest.mark.parametrize("key", ["dsn", "release_dsn", "dsn_file", "release_dsn_file"])
@pytest.mark.parametrize("way", ["environment", "block"])
def test_blanks_at_the_end_are_no_part_of_the_database(
    tmp_path: Path, end: str, key: str, way: str
) -> None:
    dsn = "postgresql://u@h/chat"
    (tmp_path / "secret").write_text(dsn + end)
    value = "secret" if key.endswith("_file") else "${DSN}" if way == "environment" else None
    written = f"{key}: {value}" if value else f"{key}: |\n      {dsn}\n"
    other = "" if key.startswith("dsn") else "    dsn: host=h\n"
    (tmp_path / "c.yaml").write_text(f"databases:\n  main:\n{other}    {written}\n")
    main = load_config(tmp_path / "c.yaml", {"DSN": dsn + end}, check_dsn).databases["main"]
    secret = main.dsn if key.startswith("dsn") else main.release_dsn

    assert secret is not None
    assert secret.get_secret_value() == dsn


@pytest.mark.parametrize("key", ["dsn", "dsn_file"])
def test_a_scheme_of_another_driver_is_named_wherever_it_stands(tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_text("postgresql+asyncpg://u:s3cr3t@h/db\n")
    value = "secret" if key == "dsn_file" else (tmp_path / "secret").read_text().strip()
    (tmp_path / "c.yaml").write_text(f"databases:\n  main:\n    {key}: {value}\n")

    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml", {}, check_dsn)
    assert str(caught.value) == (
        f"{tmp_path}/c.yaml:3: databases.main.{key}: the driver's scheme postgresql+asyncpg://, "
        "expected postgresql:// in its place"
    )


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
