"""The example for blackbox_exporter: its modules on a real one, its alerts in promtool."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from exporter.demo.machine import find_free_port
from tests.servers import require_tool

DEPLOY = Path(__file__).parents[2] / "deploy"
MODULES = DEPLOY / "prometheus" / "blackbox.example.yml"
RULES = DEPLOY / "prometheus" / "blackbox.rules.yml"
DEADLINE_S = 20.0
INSTANCE = "https://h/login"
TARGET = f'job="chat-endpoints", instance="{INSTANCE}"'
# Alert: series that fire it, minutes until it does, values that do not, `$value` in words.
CASES: dict[str, tuple[str, str, int, str, str]] = {
    "ChatEndpointDown": ("probe_success", "0x60", 2, "1 0 1x60", ""),
    "ChatEndpointSlow": ("probe_duration_seconds", "3x60", 20, "0.2x20 3 0.2x40", "3s"),
    "ChatEndpointUnwatched": ("up", "0x60", 6, "1 0 0 1x60", ""),
    "ChatEndpointCertificateExpires": (
        "probe_ssl_earliest_cert_expiry",
        f"{6 * 86400}x90",
        80,
        f"{9 * 86400}x90",
        "5d 22h 40m 0s",
    ),
}


class _Application(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = {"/login": b"Sign in", "/health": b'{"status": "ok"}'}.get(self.path, b"")
        self.send_response(302 if self.path == "/moved" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def application() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Application) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def blackbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    name = "prometheus-blackbox-exporter"
    address = f"127.0.0.1:{find_free_port()}"
    command = [
        *(require_tool(name, name), f"--config.file={MODULES}"),
        f"--web.listen-address={address}",
    ]
    log = tmp_path_factory.mktemp("blackbox") / "log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            started = time.monotonic()
            while True:
                try:
                    requests.get(f"http://{address}/", timeout=1)
                    break
                except requests.ConnectionError:
                    assert process.poll() is None, log.read_text()
                    assert time.monotonic() - started < DEADLINE_S, log.read_text()
                    time.sleep(0.05)
            yield f"http://{address}/probe"
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("module", "path", "is_good"),
    [
        ("chat_page", "/login", True),
        ("chat_page", "/health", False),
        ("chat_page", "/moved", False),
        ("chat_health", "/health", True),
        ("chat_health", "/login", False),
    ],
)
def test_a_module_takes_the_expected_answer_alone(
    blackbox: str, application: str, module: str, path: str, *, is_good: bool
) -> None:
    target = application + path
    page = requests.get(blackbox, {"module": module, "target": target}, timeout=10).text
    assert f"\nprobe_success {int(is_good)}\n" in page


def rule(alert: str) -> dict[str, Any]:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return next(each for each in rules if each["alert"] == alert)


def test_every_alert_has_its_case() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert [each["alert"] for each in rules] == list(CASES)


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_should_and_only_then(tmp_path: Path, alert: str) -> None:
    name, firing, minutes, quiet, value = CASES[alert]
    labels = {"job": "chat-endpoints", "instance": INSTANCE, **rule(alert)["labels"]}
    annotations = {
        key: text.replace("{{ $labels.instance }}", INSTANCE).replace(
            "{{ $value | humanizeDuration }}", value
        )
        for key, text in rule(alert)["annotations"].items()
    }

    def build(values: str, at: str, *alerts: dict[str, Any]) -> dict[str, Any]:
        series = [{"series": f"{name}{{{TARGET}}}", "values": values}]
        test = [{"eval_time": at, "alertname": alert, "exp_alerts": list(alerts)}]
        return {"interval": "1m", "input_series": series, "alert_rule_test": test}

    document = {
        "rule_files": [str(RULES)],
        "tests": [
            build(firing, "0m"),
            build(firing, f"{minutes}m", {"exp_labels": labels, "exp_annotations": annotations}),
            *(build(quiet, f"{minute}m") for minute in range(0, 90, 5)),
        ],
    }
    text = yaml.safe_dump(document)
    (tmp_path / "t.yml").write_text(text)
    promtool = require_tool("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "t.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_asks_for_the_metrics_of_the_job(tmp_path: Path) -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "endpoints.json").read_text())
    expressions = [each["expr"] for panel in dashboard["panels"] for each in panel["targets"]]
    assert len(expressions) == 2
    rules = [{"record": f"r{n}", "expr": each} for n, each in enumerate(expressions)]
    (tmp_path / "r.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    promtool = require_tool("promtool", "prometheus")
    subprocess.run(
        [promtool, "check", "rules", tmp_path / "r.yml"], check=True, capture_output=True
    )
    assert all('job="chat-endpoints"' in each for each in expressions)
