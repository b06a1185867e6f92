"""A real Prometheus scrapes the daemon, as it will in production."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import requests
import trustme
import yaml

from exporter.demo.machine import find_free_port
from tests.builders import make_waiting_chat
from tests.postgres.test_cli_helpers import Command, run_daemon
from tests.servers import Platform, crash, require_tool
from tests.watch import BUILT_IN, write_config

pytestmark = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)

DEADLINE_S = 30.0


class Prometheus:
    """A running server and its HTTP interface."""

    def __init__(self, port: int, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._process = process

    def api(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        answer.raise_for_status()
        return answer.json()["data"]

    def query(self, expression: str) -> dict[str, float]:
        """Job to value of an instant query without other labels."""
        result = self.api("query", query=expression)["result"]
        return {sample["metric"].get("job", ""): float(sample["value"][1]) for sample in result}

    def wait_until(self, condition: Callable[[], Any]) -> None:
        """Wait for something to come true."""
        started = time.monotonic()
        while True:
            with contextlib.suppress(requests.exceptions.RequestException):
                if condition():
                    return
            ended = self._process.poll() is not None
            late = time.monotonic() - started > DEADLINE_S
            assert not ended, self._log.read_text()
            assert not late, self._log.read_text()
            time.sleep(0.05)


@contextlib.contextmanager
def run_prometheus(
    folder: Path, jobs: list[dict[str, Any]], rules: Sequence[Path] = ()
) -> Iterator[Prometheus]:
    """Run a server that scrapes these jobs, and evaluates these rule files, each second."""
    program = require_tool("prometheus", "prometheus")
    folder.mkdir(exist_ok=True)
    config = folder / "prometheus.yml"
    timing = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    files = [str(file) for file in rules]
    document = {"global": timing, "scrape_configs": jobs, "rule_files": files}
    config.write_text(yaml.safe_dump(document))
    port, log = find_free_port(), folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=output,
            stderr=output,
            cwd=folder,
        )
    try:
        yield Prometheus(port, log, process)
    finally:
        process.terminate()
        process.wait(20)


def job(name: str, daemon: Command, **options: Any) -> dict[str, Any]:
    """A scrape job of one daemon."""
    return {"job_name": name, "static_configs": [{"targets": [daemon.address]}], **options}


@contextlib.contextmanager
def run_protected_daemon(config: Path, folder: Path) -> Iterator[Command]:
    """A daemon with TLS and a user; `ca.pem` and `password` for its clients lie in the folder."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "password").write_text("scrape me")
    hashed = bcrypt.hashpw(b"scrape me", bcrypt.gensalt(4)).decode()
    web = folder / "web.yml"
    web.write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
        f"basic_auth_users: {{prometheus: '{hashed}'}}\n"
    )
    with run_daemon(config, "--web.config.file", str(web)) as daemon:
        yield daemon


@pytest.mark.slow
def test_prometheus_scrapes_it_plain_and_protected(platform: Platform, tmp_path: Path) -> None:
    make_waiting_chat(platform, age_s=100)
    config = write_config(tmp_path, {"main": platform.dsn})
    with run_daemon(config) as plain, run_protected_daemon(config, tmp_path) as guarded:
        plain.wait_until(lambda: plain.get("/-/ready").status_code == 200)
        tls = {"ca_file": str(tmp_path / "ca.pem")}
        user = {"username": "prometheus", "password_file": str(tmp_path / "password")}
        jobs = [
            job("plain", plain),
            job("guarded", guarded, scheme="https", tls_config=tls, basic_auth=user),
            job("stranger", guarded, scheme="https", tls_config=tls),
        ]
        with run_prometheus(tmp_path / "prometheus", jobs) as prometheus:
            prometheus.wait_until(
                lambda: prometheus.query("up") == {"plain": 1, "guarded": 1, "stranger": 0}
            )
            # Nothing but `main` is there, so a job's figures are one database's.
            waiting = "chatqueue_chats{state='waiting_assignment',database='main'}"
            prometheus.wait_until(lambda: prometheus.query(waiting) == {"plain": 1, "guarded": 1})
            success = prometheus.query("sum by (job) (chatqueue_exporter_query_success)")
            scraped = prometheus.query("scrape_samples_scraped")
            overdue = prometheus.query(
                "sum by (job) (chatqueue_state_oldest_age_seconds{state='waiting_assignment'}"
                " > on (database, state, job) chatqueue_threshold_oldest_age_seconds"
                "{severity='warning'})"
            )
            kinds = {
                name: entries[0]["type"] for name, entries in prometheus.api("metadata").items()
            }
            targets = prometheus.api("targets")["activeTargets"]

        page = plain.page()
        lines = [line for line in page.splitlines() if not line.startswith("#")]
        assert success == {"plain": len(BUILT_IN), "guarded": len(BUILT_IN)}
        # The process's own figures vary by a line or two with what the process has done.
        assert scraped["plain"] == pytest.approx(len(lines), abs=3)
        assert scraped["guarded"] == pytest.approx(len(lines), abs=3)
        assert overdue == {}  # 100 s, and the warning is at 120 s: comparable, not crossed
        errors = {target["labels"]["job"]: target["lastError"] for target in targets}
        assert errors["plain"] == errors["guarded"] == ""
        assert errors["stranger"] == "server returned HTTP status 401 Unauthorized"
        # By OpenMetrics, which Prometheus prefers, a counter's family has no suffix.
        assert kinds["chatqueue_exporter_query_errors"] == "counter"
        assert kinds["chatqueue_chats"] == "gauge"
        assert all(
            kind in ("gauge", "counter", "histogram", "info", "unknown")
            for name, kind in kinds.items()
            if name.startswith("chatqueue_")
        )


def test_both_formats_hold_the_same_series(platform: Platform, tmp_path: Path) -> None:
    openmetrics = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    with run_daemon(write_config(tmp_path, {"main": platform.dsn})) as daemon:
        daemon.wait_until(lambda: daemon.get("/-/ready").status_code == 200)
        pages = {
            accept: daemon.get("/metrics", headers={"Accept": accept})
            for accept in ("text/plain;version=0.0.4", openmetrics)
        }

        text, modern = pages.values()
        assert text.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert modern.headers["Content-Type"].startswith(
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        )
        assert text.headers["Content-Encoding"] == modern.headers["Content-Encoding"] == "gzip"
        assert series(text.text) == series(modern.text)
        assert not re.search(r"_created(\{| )", text.text + modern.text)


def series(page: str) -> list[str]:
    """Names and labels of a page's samples, without the process's own."""
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    names = [line.rpartition(" ")[0] for line in lines]
    return sorted(name for name in names if name.startswith("chatqueue_"))


def test_a_database_that_dies_is_seen_by_prometheus_as_0_and_the_target_stays_up(
    own_platform: Platform, tmp_path: Path, platform: Platform
) -> None:
    with run_daemon(write_config(tmp_path, {"main": own_platform.dsn})) as daemon:
        daemon.wait_until(lambda: daemon.get("/-/ready").status_code == 200)
        with run_prometheus(tmp_path / "prometheus", [job("it", daemon)]) as prometheus:
            prometheus.wait_until(lambda: prometheus.query("chatqueue_database_up") == {"it": 1})
            own_platform.close()
            crash(own_platform.server)
            prometheus.wait_until(lambda: prometheus.query("chatqueue_database_up") == {"it": 0})
            prometheus.wait_until(lambda: prometheus.query("count(chatqueue_chats)") == {})

            assert prometheus.query("up") == {"it": 1}
        own_platform.server.start()
