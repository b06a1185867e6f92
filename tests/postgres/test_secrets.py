"""A password in a connection string is shown nowhere, whatever goes wrong with the connection."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import structlog
import yaml
from click.testing import CliRunner
from psycopg import sql

from exporter.cli import cli, main
from exporter.demo.postgres import LocalServer
from tests.postgres.test_cli_helpers import run_daemon
from tests.servers import find_bin_dir, memory_directory
from tests.watch import write_query

# Everything that some parser on the way takes for something else; every part must stay hidden.
PARTS = ("Zq7", "Xw8", "Vy9", "Ku6", "Jt5")
PASSWORD = "{}@{}:{}/{}?{}%# '\\&[]".format(*PARTS)
PLAIN = "".join(PARTS)
WRONG = "wrong-"


def as_uri(password: str, host: str, port: int) -> str:
    return f"postgresql://reader:{quote(password, '')}@{host}:{port}/postgres"


def as_query_string(password: str, host: str, port: int) -> str:
    return f"postgresql://{host}:{port}/postgres?user=reader&password={quote(password, '')}"


def as_keywords(password: str, host: str, port: int) -> str:
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    return f"host={host} port={port} dbname=postgres user=reader password='{quoted}'"


FORMS = {"uri": as_uri, "query": as_query_string, "keyword": as_keywords}
# A daemon takes seconds to try, so not every form is tried with each.
LOG_FORMATS = {"uri": "logfmt", "query": "json"}
# What libpq refuses to read at all, each with the password somewhere in it.
MALFORMED = {
    "bad-percent": f"postgresql://reader:{PLAIN}%zz@127.0.0.1:1/postgres",
    "unknown-option": f"postgresql://reader:{PLAIN}@127.0.0.1:1/postgres?colour={PLAIN}",
    "blank-in-keyword": f"host=127.0.0.1 port=1 password={PLAIN} {PLAIN}",
    "open-quote": f"host=127.0.0.1 port=1 password='{PLAIN}",
    "open-bracket": f"postgresql://reader:{PLAIN}@[::1/postgres",
}


@pytest.fixture(scope="module")
def asking_server() -> Iterator[LocalServer]:
    """A server that asks `reader` for a password."""
    with LocalServer(find_bin_dir("pg18"), parent=memory_directory()) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            create = sql.SQL("CREATE ROLE reader LOGIN PASSWORD {}")
            admin.execute(create.format(sql.Literal(PASSWORD)))
            hba = server.data_dir / "pg_hba.conf"
            trusted = hba.read_text()
            hba.write_text(f"host all reader 127.0.0.1/32 scram-sha-256\n{trusted}")
            admin.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def write(tmp_path: Path, dsn: object) -> Path:
    """A configuration of one database."""
    file = tmp_path / "chatqueue.yaml"
    file.write_text(yaml.safe_dump({"databases": {"main": {"dsn": dsn}}}))
    return file


def commands_say(config: Path, *more: str) -> str:
    """All that the commands which end by themselves say of a configuration, and `more` of them."""
    output = io.StringIO()
    flags = ("--config.file", str(config))
    commands = (
        ("status",),
        ("status", "--json"),
        ("check-config", "--live"),
        *((m,) for m in more),
    )
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        for command in commands:
            with contextlib.suppress(SystemExit):
                main([*command, *flags])
    return output.getvalue()


def daemon_says(config: Path, log_format: str) -> str:
    """All that the daemon logs and serves, reloads included."""
    flags = ("--log.level", "debug", "--log.format", log_format, "--web.enable-lifecycle")
    with run_daemon(config, *flags) as daemon:
        daemon.wait_until(lambda: daemon.get("/-/ready").status_code == 200)
        paths = ("/metrics", "/", "/-/healthy", "/-/ready", "/nothing")
        said = [daemon.get(path).text for path in paths]
        said.append(daemon.post("/-/reload").text)
        good = config.read_text()
        config.write_text(good.replace("dsn:", "dns:"))
        said.append(daemon.post("/-/reload").text)
        config.write_text(good)
        daemon.end()
        return "\n".join((*said, daemon.stdout, daemon.stderr))


def assert_hidden(said: str) -> None:
    """Fail where any part of the password is shown, however it was quoted."""
    shown = [part for part in PARTS if part in said]
    assert shown == [], [line for line in said.splitlines() if any(p in line for p in shown)]


@pytest.mark.parametrize("form", FORMS)
def test_a_password_that_is_right_is_used_and_not_shown(
    asking_server: LocalServer, tmp_path: Path, form: str
) -> None:
    config = write(tmp_path, FORMS[form](PASSWORD, "127.0.0.1", asking_server.port))
    said = commands_say(config)
    if form == "keyword":
        said += daemon_says(config, "json")
        assert 'chatqueue_database_up{database="main"} 1.0' in said
    assert "main: PostgreSQL 18" in said
    assert_hidden(said)


@pytest.mark.parametrize("form", FORMS)
def test_a_password_that_is_wrong_is_not_shown(
    asking_server: LocalServer, tmp_path: Path, form: str
) -> None:
    config = write(tmp_path, FORMS[form](WRONG + PASSWORD, "127.0.0.1", asking_server.port))
    said = commands_say(config)
    if form != "keyword":
        said += daemon_says(config, LOG_FORMATS[form])

    assert 'password authentication failed for user "reader"' in said
    assert_hidden(said)
    assert WRONG not in said


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_an_unreachable_host_does_not_bring_it_out(tmp_path: Path, form: str, host: str) -> None:
    said = commands_say(write(tmp_path, FORMS[form](PASSWORD, host, 1)))

    assert said.count("unavailable") == 3
    assert host in said
    assert_hidden(said)


def test_a_servers_message_with_a_connection_string_in_it_is_masked(
    asking_server: LocalServer, tmp_path: Path
) -> None:
    # As dblink and foreign servers quote theirs: another one's, and our own password bare.
    dsn = as_uri(PLAIN, "elsewhere", 5432)
    quoted = PASSWORD.replace("'", "''")
    own = write_query(tmp_path / "own", "odd", f"SELECT '{dsn} {quoted}'::integer AS value")
    own_dsn = as_keywords(PASSWORD, "127.0.0.1", asking_server.port)
    config = write(tmp_path, own_dsn)
    config.write_text(f"{config.read_text()}queries: {{dirs: [{own}]}}\n")
    said = commands_say(config)

    assert said.count("invalid input syntax for type integer") == 3
    assert_hidden(said)


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_connection_string_is_not_quoted(tmp_path: Path, kind: str) -> None:
    said = commands_say(write(tmp_path, MALFORMED[kind]), "run")

    assert said.count("databases.main.dsn: not a connection string libpq can read, expected") == 4
    assert_hidden(said)


def test_a_connection_string_of_the_wrong_type_is_not_quoted(tmp_path: Path) -> None:
    said = commands_say(write(tmp_path, {"password": PLAIN}), "run")

    assert said.count("databases.main.dsn") >= 4
    assert_hidden(said)


def test_no_help_shows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATQUEUE_DSN", as_uri(PASSWORD, "db", 5432))
    for command in ("run", "demo", "check-config", "status"):
        result = CliRunner().invoke(cli, [command, "--help"])
        assert result.exit_code == 0
        assert_hidden(result.output)
