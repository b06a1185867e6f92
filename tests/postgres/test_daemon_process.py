"""`chatqueue run` as a process: its signals, its reloads and what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
import requests
import trustme

from tests.postgres.test_cli_helpers import COMMAND, find_address, run_daemon
from tests.proxy import Proxy
from tests.servers import Platform
from tests.watch import SLACK_S, write_config, write_query

pytestmark = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)

# The end a service manager may expect.
END_S = 2.0 + SLACK_S
SLEEP = "SELECT 1 AS value, pg_sleep(60)"
SLOW = {"timeout": "30s", "interval": "30s"}
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'chatqueue-exporter%'
"""
RELOADED = "chatqueue_exporter_config_last_reload_successful"


@pytest.fixture
def config(platform: Platform, tmp_path: Path) -> Path:
    """A configuration that polls the test's database each second."""
    return write_config(tmp_path, {"main": platform.dsn})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_end(platform: Platform, config: Path, number: int) -> None:
    with run_daemon(config) as daemon:
        daemon.wait_until(lambda: daemon.get("/-/ready").status_code == 200)
        page = daemon.page()
        landing = daemon.get("/").text
        healthy = daemon.get("/-/healthy").text
        took_s = daemon.end(signal.Signals(number))

        assert 'chatqueue_database_up{database="main"} 1.0' in page
        assert "<title>OK · All is well" in landing
        assert healthy == "chatqueue-exporter is healthy.\n"
        assert daemon.process.returncode == 0
        assert took_s < END_S
        assert daemon.stdout == ""
        assert f"event=stopping signal={signal.Signals(number).name}" in daemon.stderr
        assert daemon.stderr.splitlines()[-1].partition(" level=")[2].startswith("info event=stop")
    assert platform.value(SESSIONS) == 0


def test_sigterm_in_mid_query_leaves_nothing_running(platform: Platform, tmp_path: Path) -> None:
    folder = write_query(tmp_path / "own", "sleepy", SLEEP, SLOW)
    config = write_config(tmp_path, {"main": platform.dsn}, queries={"dirs": [str(folder)]})
    running = f"{SESSIONS} AND state = 'active' AND query LIKE '%%pg_sleep%%'"
    with run_daemon(config) as daemon:
        daemon.wait_until(lambda: platform.value(running) == 1)
        took_s = daemon.end()

        assert daemon.process.returncode == 0
        assert took_s < END_S
        assert platform.value(SESSIONS) == 0
        assert "level=error" not in daemon.stderr


def test_sigterm_while_connecting_to_a_black_hole_is_as_quick(
    platform: Platform, tmp_path: Path
) -> None:
    with Proxy(platform.server.port) as hole:
        hole.swallow()
        dsn = f"{platform.dsn.replace(str(platform.server.port), str(hole.port))}"
        with run_daemon(write_config(tmp_path, {"hole": dsn})) as daemon:
            assert daemon.get("/-/ready").status_code == 503
            took_s = daemon.end()

            assert daemon.process.returncode == 0
            assert took_s < END_S


def test_sighup_reloads_a_good_configuration_and_refuses_a_bad_one(
    platform: Platform, config: Path
) -> None:
    limit = 'chatqueue_threshold_data_age_seconds{database="main"}'
    with run_daemon(config) as daemon:
        write_config(config, {"main": platform.dsn}, thresholds={"data_age": "77s"})
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: f"{limit} 77.0" in daemon.page())
        config.write_text("databases: {}\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: f"{RELOADED} 0.0" in daemon.page())

        assert f"{limit} 77.0" in daemon.page()
        assert f'event="configuration reloaded" file={config} databases=1' in daemon.stderr
        assert f'event="reload failed" file={config} error="{config}:1: databases' in daemon.stderr
        write_config(config, {"main": platform.dsn})
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: f"{RELOADED} 1.0" in daemon.page())
        refused = daemon.post("/-/reload")

        assert refused.status_code == 403
        assert refused.text == "lifecycle API is not enabled, expected --web.enable-lifecycle\n"


def test_a_reload_by_http_answers_when_it_is_in_force(platform: Platform, config: Path) -> None:
    with run_daemon(config, "--web.enable-lifecycle") as daemon:
        write_config(config, {"renamed": platform.dsn})
        done = daemon.post("/-/reload")
        config.write_text("nothing: here\n")
        failed = daemon.post("/-/reload")

        assert (done.status_code, done.text) == (200, "")
        assert failed.status_code == 500
        assert failed.text.startswith(f"failed to reload configuration:\n{config}:1: ")
        daemon.wait_until(lambda: 'chatqueue_database_up{database="renamed"} 1' in daemon.page())
        assert 'database="main"' not in daemon.page()
        assert platform.value(SESSIONS) == 1


def test_every_address_is_served(config: Path) -> None:
    with run_daemon(config, "--web.listen-address", "localhost:0") as daemon:
        (line,) = (line for line in daemon.stderr.splitlines() if "event=serving" in line)
        addresses = line.partition('addresses="')[2].partition('"')[0].split(", ")

        assert len(addresses) >= 2
        for address in addresses:
            assert requests.get(f"http://{address}/-/healthy", timeout=5).status_code == 200


def test_json_logs_are_json_from_the_first_line_to_the_last(config: Path) -> None:
    with run_daemon(config, "--log.format", "json", "--log.level", "debug") as daemon:
        daemon.wait_for_log("query done")
        daemon.end()
        events = [json.loads(line) for line in daemon.stderr.splitlines()]

        assert {"ts", "level", "event"} <= set.intersection(*(set(event) for event in events))
        assert events[-1]["event"] == "stopped"
        assert find_address(daemon.stderr) == daemon.address


def test_a_log_nobody_reads_any_more_does_not_end_the_watch(
    platform: Platform, config: Path
) -> None:
    command = [*COMMAND, "run", "--config.file", str(config)]
    process = subprocess.Popen(
        [*command, "--web.listen-address", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr
        url = f"http://{find_address(process.stderr.readline())}"
        process.stderr.close()
        write_config(config, {"main": platform.dsn}, thresholds={"data_age": "77s"})
        process.send_signal(signal.SIGHUP)  # which logs
        for _ in range(500):
            page = requests.get(f"{url}/metrics", timeout=5).text
            if 'data_age_seconds{database="main"} 77.0' in page:
                break
        healthy = requests.get(f"{url}/-/healthy", timeout=5).status_code
    finally:
        process.terminate()

    assert process.wait(10) == 0
    assert 'data_age_seconds{database="main"} 77.0' in page
    assert healthy == 200


@contextlib.contextmanager
def idle_clients(address: str, count: int) -> Iterator[list[socket.socket]]:
    """Connections that have begun a request and go no further."""
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection((host, int(port)), 10))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
            clients.append(client)
        yield clients


def test_two_hundred_half_open_clients_delay_neither_a_scrape_nor_the_end(config: Path) -> None:
    with run_daemon(config) as daemon, idle_clients(daemon.address, 200):
        answer = daemon.get("/metrics")

        assert answer.status_code == 200
        assert answer.elapsed.total_seconds() < 1
        assert daemon.end() < END_S


def write_web_config(folder: Path, user: str, password: str, *, issue: bool = True) -> Path:
    """A web configuration with TLS and one user; `ca.pem` beside it."""
    if issue:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(folder / "ca.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        certificate.private_key_pem.write_to_path(folder / "key.pem")
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    web = folder / "web.yml"
    web.write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
        f"basic_auth_users: {{{user}: '{hashed}'}}\n"
    )
    return web


def test_tls_and_users_hold_and_a_reload_brings_new_ones(config: Path, tmp_path: Path) -> None:
    web = write_web_config(tmp_path, "prometheus", "first")
    with run_daemon(config, "--web.config.file", str(web), "--web.enable-lifecycle") as daemon:
        url = f"https://{daemon.address}"

        def status(user: str, password: str, path: str = "/metrics", method: str = "GET") -> int:
            # Not a Session: the connection of before a reload would hide new certificates.
            verify = str(tmp_path / "ca.pem")
            options = {"auth": (user, password), "verify": verify, "timeout": 10}
            return requests.request(method, f"{url}{path}", **options).status_code

        with pytest.raises(requests.exceptions.ConnectionError):
            daemon.get("/metrics")
        assert status("prometheus", "first") == 200
        assert status("prometheus", "wrong") == 401
        assert status("nobody", "first", "/-/reload", "POST") == 401

        write_web_config(tmp_path, "grafana", "second", issue=False)
        assert status("prometheus", "first", "/-/reload", "POST") == 200
        assert status("prometheus", "first") == 401
        assert status("grafana", "second") == 200

        write_web_config(tmp_path, "grafana", "second")  # by another authority
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: daemon.stderr.count("configuration reloaded") == 2)
        assert status("grafana", "second") == 200

        web.write_text("basic_auth_users: {x: y}\n")
        assert status("grafana", "second", "/-/reload", "POST") == 500
        assert status("grafana", "second") == 200
        assert "second" not in daemon.stderr
