"""Connection options as libpq knows them: the exporter hands them on and hides none of them."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import trustme

from exporter.demo.machine import unprivileged_account
from exporter.demo.postgres import LocalServer
from tests.builders import make_waiting_chat
from tests.proxy import Proxy
from tests.servers import Platform, clone_platform, find_bin_dir, memory_directory, run_server
from tests.watch import BUILT_IN, run_watch, write_config

PASSWORD = "a:b\\c d"
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class TlsServer:
    """A server that speaks TLS, asks `reader` for a password and `bearer` for a certificate.

    Attributes:
        platform: A platform database on it.
        folder: Holds `ca.pem`, `other.pem` (an authority it does not know), and `bearer.pem` with
            `bearer.key`.
    """

    platform: Platform
    folder: Path

    def dsn(self, user: str = "reader", **options: str) -> str:
        """Connection string in keyword form."""
        known = {
            "host": "127.0.0.1",
            "port": self.platform.server.port,
            "dbname": self.platform.database,
            "user": user,
            "password": PASSWORD if user == "reader" else None,
        }
        merged = {**known, **options}
        return psycopg.conninfo.make_conninfo(
            **{key: value for key, value in merged.items() if value is not None}
        )


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    # Debian's, because the embedded one is built without OpenSSL.
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    bearer = authority.issue_cert("bearer.test", common_name="bearer")
    bearer.cert_chain_pems[0].write_to_path(folder / "bearer.pem")
    bearer.private_key_pem.write_to_path(folder / "bearer.key")
    (folder / "bearer.key").chmod(0o600)
    with run_server("pg15") as server, clone_platform(server) as platform:
        for role in ("reader", "bearer"):
            platform.execute(f"CREATE ROLE {role} SUPERUSER LOGIN")
        platform.execute(
            psycopg.sql.SQL("ALTER ROLE reader PASSWORD {}").format(psycopg.sql.Literal(PASSWORD))
        )
        enable_tls(server, authority)
        expired = authority.issue_cert("127.0.0.1", common_name="bearer", not_after=PAST)
        expired.cert_chain_pems[0].write_to_path(folder / "expired.pem")
        expired.private_key_pem.write_to_path(folder / "expired.key")
        (folder / "expired.key").chmod(0o600)
        yield TlsServer(platform, folder)


@contextlib.contextmanager
def expire(tls_server: TlsServer, whose: str) -> Iterator[str]:
    """Let a certificate have expired; a connection string that meets it."""
    folder, server = tls_server.folder, tls_server.platform.server
    certificate, key = str(folder / "expired.pem"), str(folder / "expired.key")
    if whose == "the exporter's":
        yield tls_server.dsn("bearer", sslmode="require", sslcert=certificate, sslkey=key)
        return
    kept = {name: (server.data_dir / name).read_bytes() for name in ("server.crt", "server.key")}
    for name, source in (("server.crt", certificate), ("server.key", key)):
        (server.data_dir / name).write_bytes(Path(source).read_bytes())
    server.restart()
    yield tls_server.dsn(sslmode="verify-full", sslrootcert=str(folder / "ca.pem"))
    for name, content in kept.items():
        (server.data_dir / name).write_bytes(content)
    server.restart()


def enable_tls(server: LocalServer, authority: trustme.CA) -> None:
    """Give the server a certificate and make TLS the only way in for two roles."""
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.cert_chain_pems[0].write_to_path(server.data_dir / "server.crt")
    certificate.private_key_pem.write_to_path(server.data_dir / "server.key")
    authority.cert_pem.write_to_path(server.data_dir / "root.crt")
    account = unprivileged_account()
    for name in ("server.crt", "server.key", "root.crt"):
        (server.data_dir / name).chmod(0o600)
        if account:
            os.chown(server.data_dir / name, account.pw_uid, account.pw_gid)
    hba = server.data_dir / "pg_hba.conf"
    hba.write_text(
        "hostssl all reader 127.0.0.1/32 scram-sha-256\n"
        "hostssl all bearer 127.0.0.1/32 cert\n"
        "hostnossl all reader,bearer 127.0.0.1/32 reject\n"
        "local all reader trust\n" + hba.read_text()
    )
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET ssl = on")
        admin.execute("ALTER SYSTEM SET ssl_ca_file = 'root.crt'")
        admin.execute("SELECT pg_reload_conf()")


def assert_watched(dsn: str, tmp_path: Path) -> None:
    """Fail unless every query works on that database."""
    with run_watch(write_config(tmp_path, {"main": dsn})) as watch:
        success = watch.samples("chatqueue_exporter_query_success")

        assert watch.value("chatqueue_database_up") == 1
        assert list(success.values()) == [1.0] * len(BUILT_IN)


def refusal(dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What is logged of a database that cannot be reached."""
    with run_watch(write_config(tmp_path, {"main": dsn})) as watch:
        assert watch.value("chatqueue_database_up") == 0
    return capsys.readouterr().out


def test_tls_is_used_where_required(tls_server: TlsServer, tmp_path: Path) -> None:
    with run_watch(write_config(tmp_path, {"main": tls_server.dsn(sslmode="require")})) as watch:
        assert watch.value("chatqueue_database_up") == 1
        (encrypted,) = tls_server.platform.fetch(
            "SELECT s.ssl FROM pg_stat_ssl AS s INNER JOIN pg_stat_activity AS a USING (pid)"
            " WHERE a.application_name LIKE 'chatqueue-exporter%%'"
        )

        assert encrypted == (True,)


@pytest.mark.parametrize("sslmode", ["verify-ca", "verify-full"])
def test_the_servers_certificate_is_verified(
    tls_server: TlsServer, tmp_path: Path, sslmode: str
) -> None:
    root = str(tls_server.folder / "ca.pem")

    assert_watched(tls_server.dsn(sslmode=sslmode, sslrootcert=root, host="localhost"), tmp_path)


def test_another_authoritys_certificate_is_refused(
    tls_server: TlsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tls_server.folder / "other.pem")
    dsn = tls_server.dsn(sslmode="verify-full", sslrootcert=root)

    assert "certificate verify failed" in refusal(dsn, tmp_path, capsys)


def test_a_certificate_for_another_name_is_refused(
    tls_server: TlsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tls_server.folder / "ca.pem")
    dsn = tls_server.dsn(
        sslmode="verify-full", sslrootcert=root, host="db.example", hostaddr="127.0.0.1"
    )

    assert 'does not match host name "db.example"' in refusal(dsn, tmp_path, capsys)


def test_without_tls_such_a_server_is_closed(
    tls_server: TlsServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged = refusal(tls_server.dsn(sslmode="disable"), tmp_path, capsys)

    assert "pg_hba.conf rejects connection" in logged


def test_a_client_certificate_stands_for_a_password(tls_server: TlsServer, tmp_path: Path) -> None:
    dsn = tls_server.dsn(
        "bearer",
        sslmode="require",
        sslcert=str(tls_server.folder / "bearer.pem"),
        sslkey=str(tls_server.folder / "bearer.key"),
    )

    assert_watched(dsn, tmp_path)


def test_the_password_may_stand_in_a_passfile(tls_server: TlsServer, tmp_path: Path) -> None:
    passfile = tmp_path / "pgpass"
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    passfile.write_text(f"127.0.0.1:*:*:reader:{escaped}\n")
    passfile.chmod(0o600)

    assert_watched(tls_server.dsn(password=None, passfile=str(passfile)), tmp_path)


def test_a_service_file_is_read(
    tls_server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = tmp_path / "pg_service.conf"
    server = tls_server.platform.server
    service.write_text(
        f"[chats]\nhost=127.0.0.1\nport={server.port}\nuser=reader\npassword={PASSWORD}\n"
        f"dbname={tls_server.platform.database}\nsslmode=require\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(service))

    assert_watched("service=chats", tmp_path)


def test_a_unix_socket_is_used(tls_server: TlsServer, tmp_path: Path) -> None:
    directory = str(tls_server.platform.server.directory)

    assert_watched(tls_server.dsn(host=directory, password=None), tmp_path)


def test_a_dead_first_host_is_passed_over(tls_server: TlsServer, tmp_path: Path) -> None:
    with Proxy(1) as closed:
        port = f"{closed.port},{tls_server.platform.server.port}"
    dsn = tls_server.dsn(host="127.0.0.1,127.0.0.1", port=port, sslmode="require")

    assert_watched(dsn, tmp_path)


def test_a_dsn_file_is_read_again_at_a_reload(tls_server: TlsServer, tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("host=127.0.0.1 port=1\n")
    config = write_config(tmp_path, {"main": "x"})
    config.write_text(config.read_text().replace("dsn: x", "dsn_file: dsn"))
    with run_watch(config) as watch:
        assert watch.value("chatqueue_database_up") == 0
        secret.write_text(f"{tls_server.dsn(sslmode='require')}\n")
        watch.daemon.reload()

        watch.wait_until(lambda: watch.value("chatqueue_database_up") == 1)


@pytest.fixture
def standby(own_server: LocalServer, own_platform: Platform) -> Iterator[LocalServer]:
    """A copy of `own_server` in recovery, with one waiting chat in it."""
    make_waiting_chat(own_platform, age_s=100)
    own_platform.close()
    copy = LocalServer(find_bin_dir("pg18"), parent=memory_directory())
    own_server.stop()
    shutil.copytree(own_server.data_dir, copy.data_dir)
    own_server.start()
    (copy.data_dir / "standby.signal").touch()
    account = unprivileged_account()
    if account:
        for path in (copy.data_dir, *copy.data_dir.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
    with copy:
        yield copy


def test_a_standby_is_watched_like_a_primary_and_says_what_it_is(
    own_server: LocalServer, own_platform: Platform, standby: LocalServer, tmp_path: Path
) -> None:
    dsns = {"main": own_platform.dsn, "copy": standby.dsn(own_platform.database)}
    with run_watch(write_config(tmp_path, dsns)) as watch:
        success = watch.samples("chatqueue_exporter_query_success", database="copy")

        assert list(success.values()) == [1.0] * len(BUILT_IN)
        assert watch.value("chatqueue_database_in_recovery", database="copy") == 1
        assert watch.value("chatqueue_database_in_recovery", database="main") == 0
        labels = {"database": "copy", "state": "waiting_assignment"}
        watch.wait_until(lambda: watch.value("chatqueue_chats", **labels) == 1)
        age_s = watch.value("chatqueue_state_oldest_age_seconds", **labels)
        assert age_s == pytest.approx(100, abs=15)


def test_read_write_alone_leaves_a_standby_aside(
    own_server: LocalServer, own_platform: Platform, standby: LocalServer, tmp_path: Path
) -> None:
    dsn = (
        f"host=127.0.0.1,127.0.0.1 port={standby.port},{own_server.port} user=postgres"
        f" dbname={own_platform.database} target_session_attrs=read-write"
    )
    with run_watch(write_config(tmp_path, {"main": dsn})) as watch:
        assert watch.value("chatqueue_database_up") == 1
        assert watch.value("chatqueue_database_in_recovery") == 0
