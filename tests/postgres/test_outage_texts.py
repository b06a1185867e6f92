"""What the server says of an outage is what docs/troubleshooting.md explains, word for word."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from exporter.database import Connection
from exporter.demo.postgres import LocalServer
from exporter.errors import DatabaseUnavailable, Reason
from tests.postgres.test_connection_options import TlsServer, expire, tls_server
from tests.servers import run_server

__all__ = ["tls_server"]  # a fixture

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
Trouble = Callable[[LocalServer], contextlib.AbstractContextManager[str]]


def causes_of(error: DatabaseUnavailable) -> list[str]:
    """What the page's table says of a text."""
    rows = re.findall(r"^\| (`.*`) \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    return [
        cause
        for texts, cause in rows
        if any(text in str(error) for text in re.findall(r"`([^`]+)`", texts))
    ]


def refusal_of(dsn: str) -> DatabaseUnavailable:
    """Why there is no connection."""
    connection = Connection(dsn)
    with pytest.raises(DatabaseUnavailable) as caught:
        connection.poll((), (), {})
    assert caught.value.reason is Reason.CONNECTION
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.fixture(scope="module", params=["pg15", "pg18"])
def small_server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A server with few connections, of which two are a superuser's, and a role with one."""
    settings = {"max_connections": "6", "superuser_reserved_connections": "2"}
    with run_server(request.param, **settings) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("CREATE ROLE reader LOGIN PASSWORD 'correct horse'")
            admin.execute("CREATE ROLE single LOGIN CONNECTION LIMIT 1")
            admin.execute("CREATE DATABASE closed CONNECTION LIMIT 0")
        hba = server.data_dir / "pg_hba.conf"
        hba.write_text(f"host closed,template1 reader all scram-sha-256\n{hba.read_text()}")
        server.restart()
        yield server


@contextlib.contextmanager
def taken(server: LocalServer, user: str) -> Iterator[None]:
    """Take every connection that a role can have."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                held.enter_context(psycopg.connect(server.dsn(user=user)))
        yield


@contextlib.contextmanager
def slots(server: LocalServer) -> Iterator[str]:
    with taken(server, "reader"):
        yield server.dsn(user="reader")


@contextlib.contextmanager
def every_slot(server: LocalServer) -> Iterator[str]:
    with taken(server, "postgres"):
        yield server.dsn(user="reader")


@contextlib.contextmanager
def the_roles(server: LocalServer) -> Iterator[str]:
    with taken(server, "single"):
        yield server.dsn(user="single")


@contextlib.contextmanager
def the_databases(server: LocalServer) -> Iterator[str]:
    yield server.dsn("closed", "single")


@contextlib.contextmanager
def rotated(server: LocalServer) -> Iterator[str]:
    yield psycopg.conninfo.make_conninfo(server.dsn("template1", "reader"), password="old one")


@contextlib.contextmanager
def past_its_end(server: LocalServer) -> Iterator[str]:
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("ALTER ROLE reader VALID UNTIL '2020-01-01'")
        dsn = server.dsn("template1", "reader")
        yield psycopg.conninfo.make_conninfo(dsn, password="correct horse")
        admin.execute("ALTER ROLE reader VALID UNTIL 'infinity'")


@pytest.mark.parametrize("trouble", [slots, every_slot, the_roles, the_databases])
def test_connections_that_are_taken_are_explained(
    small_server: LocalServer, trouble: Trouble
) -> None:
    with trouble(small_server) as dsn:
        error = refusal_of(dsn)

    (cause,) = causes_of(error)
    assert re.search("connections of the server are taken|limit of the role", cause)


@pytest.mark.parametrize("trouble", [rotated, past_its_end])
def test_a_password_that_is_refused_is_explained(
    small_server: LocalServer, trouble: Trouble
) -> None:
    with trouble(small_server) as dsn:
        error = refusal_of(dsn)

    (cause,) = causes_of(error)
    assert "password was rotated" in cause
    assert "correct horse" not in str(error)


@pytest.mark.parametrize("whose", ["the server's", "the exporter's"])
def test_a_certificate_that_has_expired_is_explained(tls_server: TlsServer, whose: str) -> None:
    with expire(tls_server, whose) as dsn:
        error = refusal_of(dsn)

    (cause,) = causes_of(error)
    assert "certificate has expired" in cause


def test_a_promotion_is_seen_and_what_it_refuses_is_explained(own_server: LocalServer) -> None:
    standby, primary = (
        f"{own_server.dsn()}?target_session_attrs={a}" for a in ("standby", "primary")
    )
    writable = f"{own_server.dsn()}?target_session_attrs=read-write"
    readable = f"{own_server.dsn()}?target_session_attrs=read-only"
    own_server.stop()
    (own_server.data_dir / "standby.signal").touch()
    own_server.start()
    kept = Connection(standby)
    assert kept.poll((), (), {}).in_recovery
    before = [refusal_of(primary), refusal_of(writable)]

    with psycopg.connect(own_server.dsn(), autocommit=True) as admin:
        admin.execute("SELECT pg_promote()")

    poll = kept.poll((), (), {})
    kept.close()
    assert not poll.in_recovery
    assert not poll.reopened
    after = [refusal_of(standby), refusal_of(readable)]
    assert ["has become a replica" in cause for e in before for cause in causes_of(e)] == [True] * 2
    assert ["replica was promoted" in cause for e in after for cause in causes_of(e)] == [True] * 2
