"""The compose stack: its file by the schema, its parts on exactly the mounted files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from exporter.demo.machine import find_free_port
from tests.postgres.test_cli_helpers import run_daemon
from tests.servers import Platform, require_tool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DEADLINE_S = 30.0


def test_the_file_is_valid_by_the_schema_of_compose() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
         FOLDER / "compose.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_mounted_file_is_there_and_every_image_has_a_version() -> None:
    for name, service in SERVICES.items():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in COMPOSE["volumes"] or (FOLDER / source).exists(), (name, mount)
        image = service["image"]
        assert re.search(r":v?\d+\.\d+\.\d+$", image) or image.startswith("chatqueue-exporter")
        assert service["read_only"] is True
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize("profile", ["own", "demo"])
def test_a_profile_has_one_exporter_and_all_that_shows_it(profile: str) -> None:
    names = {name for name, service in SERVICES.items() if profile in service["profiles"]}
    assert names - {"exporter", "demo"} == {"prometheus", "alertmanager", "grafana"}
    (exporter,) = names & {"exporter", "demo"}
    networks = SERVICES[exporter].get("networks", {})
    aliases = networks.get("default", {}).get("aliases", [exporter])
    assert aliases == ["exporter"], "what Prometheus scrapes"


def test_grafana_finds_its_data_source_and_its_dashboards() -> None:
    provisioning = FOLDER / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources/chatqueue.yaml").read_text())
    uids = {source["uid"] for source in sources["datasources"]}
    shown = yaml.safe_load(
        (ROOT / "deploy/grafana/provisioning/dashboards/chatqueue.yaml").read_text()
    )
    path = shown["providers"][0]["options"]["path"]
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    assert mounts["../../dashboards"] == path
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "dashboards" / Path(home).name).exists()
    assert "chatqueue-prometheus" in uids
    contact = yaml.safe_load((provisioning / "alerting/chatqueue.yaml").read_text())
    assert contact["contactPoints"][0]["receivers"][0]["type"] == "prometheus-alertmanager"


def wait_until(condition: Callable[[], Any]) -> None:
    started = time.monotonic()
    while True:
        try:
            if condition():
                return
        except requests.RequestException:
            pass
        assert time.monotonic() - started < DEADLINE_S
        time.sleep(0.1)


@pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)
def test_what_is_to_be_had_here_runs_on_the_mounted_files(
    platform: Platform, tmp_path: Path
) -> None:
    ports = {"alertmanager": find_free_port(), "prometheus": find_free_port()}
    config = tmp_path / "chatqueue.yaml"
    text = (FOLDER / "chatqueue.yaml").read_text()
    config.write_text(text.replace("/var/lib/chatqueue", str(tmp_path)))
    environment = {"CHATQUEUE_DSN": platform.dsn}
    with run_daemon(config, env=environment) as daemon:
        # Names of services become addresses, and the rules lie where they lie here.
        text = (FOLDER / "prometheus/prometheus.yml").read_text()
        text = text.replace("exporter:10847", daemon.address)
        text = text.replace("alertmanager:9093", f"127.0.0.1:{ports['alertmanager']}")
        text = text.replace("/etc/prometheus/rules", str(ROOT / "alerts")).replace("15s", "1s")
        (tmp_path / "prometheus.yml").write_text(text)
        commands = (
            [
                require_tool("prometheus", "prometheus"),
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            ],
            [
                require_tool("prometheus-alertmanager", "prometheus-alertmanager"),
                f"--config.file={FOLDER}/alertmanager/alertmanager.yml",
                f"--storage.path={tmp_path}/alertmanager",
                "--cluster.listen-address=",
                f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
            ],
        )
        url = f"http://127.0.0.1:{ports['prometheus']}/api/v1"
        processes = []
        with (tmp_path / "log").open("wb") as log:
            try:
                processes += [
                    subprocess.Popen(command, stdout=log, stderr=log) for command in commands
                ]
                wait_until(lambda: up(url) == "1")
                rules = requests.get(f"{url}/rules", timeout=5).json()["data"]["groups"]
                assert {group["name"] for group in rules} >= {"chatqueue-release"}
                wait_until(lambda: "/api/v2/alerts" in json.dumps(managers(url)))
            finally:
                for process in processes:
                    process.terminate()
                for process in processes:
                    process.wait(20)


def up(url: str) -> str:
    """The value of `up` of the job chatqueue; empty before there is one."""
    answer = requests.get(f"{url}/query", {"query": 'up{job="chatqueue"}'}, timeout=5).json()
    found = answer["data"]["result"]
    return found[0]["value"][1] if found else ""


def managers(url: str) -> Any:
    return requests.get(f"{url}/alertmanagers", timeout=5).json()["data"]["activeAlertmanagers"]
