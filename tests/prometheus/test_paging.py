"""Prometheus, Alertmanager and a webhook, in real time: whom which trouble wakes, and how often."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from exporter.config import parse_duration
from exporter.demo.stack import Programs, Stack, run_stack
from tests.builders import add_operator, make_waiting_chat
from tests.postgres.test_cli_helpers import Command, run_daemon
from tests.prometheus.promtool import ALERTS
from tests.servers import Platform, crash, require_tool
from tests.watch import write_config
from tests.webhooks import Receiver

pytestmark = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)

RECEIVERS = ("page", "ticket", "watchdog")
DEADLINE_S = 200.0


class Pager(Receiver):
    """Receives what Alertmanager sends; one path a receiver."""

    @property
    def notes(self) -> list[tuple[str, dict[str, Any]]]:
        """Receiver and notification, as they came."""
        return [(each.path.strip("/"), each.document) for each in self.received]

    def receivers(self) -> list[dict[str, Any]]:
        """Alertmanager's receivers that lead here."""
        return [
            {"name": n, "webhook_configs": [{"url": f"{self.address}/{n}", "send_resolved": True}]}
            for n in RECEIVERS
        ]

    def pages(self, status: str, **labels: str) -> list[list[str]]:
        """Alerts of each page of that status whose group has these labels, and no more."""
        return [
            sorted(alert["labels"]["alertname"] for alert in note["alerts"])
            for path, note in self.notes
            if path == "page"
            and note["status"] == status
            and {**note["groupLabels"], "alertname": ""}
            == {"job": "chatqueue", **labels, "alertname": ""}
        ]


def wait_until(condition: Callable[[], Any], say: Callable[[], Any]) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, say()
        time.sleep(0.1)


def hurry(folder: Path) -> None:
    """Shorten every `for` to a tenth, and what Alertmanager waits for to a second."""
    for file in (folder / "rules").glob("*.yml"):
        document = yaml.safe_load(file.read_text())
        for rule in (rule for group in document["groups"] for rule in group["rules"]):
            if "for" in rule:
                seconds = parse_duration(rule["for"]).total_seconds()
                rule["for"] = f"{max(1, round(seconds / 10))}s"
        file.write_text(yaml.safe_dump(document))
    time_groups(folder, group_wait="1s", group_interval="1s")


def as_shipped(folder: Path) -> None:
    """Wait as the example says."""
    shipped = yaml.safe_load((ALERTS / "alertmanager.example.yml").read_text())["route"]
    time_groups(folder, **{key: shipped[key] for key in ("group_wait", "group_interval")})


def time_groups(folder: Path, **timing: str) -> None:
    """Change the timing of Alertmanager's groups."""
    file = folder / "alertmanager.yml"
    document = yaml.safe_load(file.read_text())
    document["route"] |= timing
    file.write_text(yaml.safe_dump(document))


def alert_and_instance(labels: Mapping[str, str]) -> tuple[str, str]:
    """What tells two pages of one database apart."""
    return labels["alertname"], labels.get("instance", "")


def reload_with(daemon: Command, config: Path, critical: str) -> None:
    """Change the limit of the oldest wait, and nothing in Prometheus."""
    document = yaml.safe_load(config.read_text())
    document["thresholds"]["oldest_age"] = {
        "waiting_assignment": {"warning": "off", "critical": critical}
    }
    config.write_text(yaml.safe_dump(document))
    assert daemon.post("/-/reload").status_code == 200


def firing(stack: Stack) -> set[tuple[str, str]]:
    """Alert and database of all that fires at this moment, as Prometheus says."""
    answer = requests.get(f"{stack.prometheus_url}/api/v1/alerts", timeout=10).json()
    return {
        (alert["labels"]["alertname"], alert["labels"].get("database", ""))
        for alert in answer["data"]["alerts"]
        if alert["state"] == "firing"
    }


@contextmanager
def run_watched(folder: Path, databases: dict[str, Platform]) -> Iterator[dict[str, Command]]:
    """A daemon a database, each polling every second."""
    with ExitStack() as running:
        daemons = {}
        for name, platform in databases.items():
            quiet = {"customer_wait": {"warning": "off", "critical": "off"}}
            file = write_config(folder / f"{name}.yaml", {name: platform.dsn}, thresholds=quiet)
            daemons[name] = running.enter_context(run_daemon(file, "--web.enable-lifecycle"))
        for daemon in daemons.values():
            daemon.wait_until(lambda d=daemon: d.get("/-/ready").status_code == 200)
        yield daemons


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_trouble_is_one_page_and_a_reload_changes_what_pages(
    platform: Platform, own_platform: Platform, tmp_path: Path
) -> None:
    programs = Programs(
        str(require_tool("prometheus", "prometheus")),
        str(require_tool("prometheus-alertmanager", "prometheus-alertmanager")),
    )
    for each in (platform, own_platform):
        make_waiting_chat(each, age_s=600)
        add_operator(each)
    databases = {"lost": own_platform, "killed": platform, "tuned": platform}
    with run_watched(tmp_path, databases) as daemons, Pager() as pager:
        # What is killed had nothing to page for.
        reload_with(daemons["killed"], tmp_path / "killed.yaml", "1h")
        targets = [daemon.address for daemon in daemons.values()]
        folder = tmp_path / "stack"
        folder.mkdir()
        with run_stack(programs, folder, targets, pager.receivers(), edit=hurry) as stack:
            own_platform.close()
            crash(own_platform.server)
            daemons["killed"].process.kill()

            def say() -> Any:
                return firing(stack), pager.notes

            wait_until(lambda: pager.pages("firing", database="tuned"), say)
            reload_with(daemons["tuned"], tmp_path / "tuned.yaml", "1h")
            wait_until(lambda: pager.pages("resolved", database="tuned"), say)
            still = firing(stack)
            wait_until(lambda: pager.pages("firing"), say)
            wait_until(lambda: ("ChatQueueExporterDown", "") in firing(stack), say)
            own_platform.server.start()
            wait_until(lambda: ("ChatQueueDatabaseDown", "lost") not in firing(stack), say)

    assert pager.pages("firing", database="lost")[:1] == [["ChatQueueDatabaseDown"]]
    assert [p for p in pager.pages("firing", database="lost") if "ChatQueueDatabaseDown" in p] == [
        ["ChatQueueDatabaseDown"]
    ]
    assert pager.pages("firing") == [["ChatQueueExporterDown"]]
    assert pager.pages("firing", database="killed") == []
    assert pager.pages("firing", database="tuned") == [["ChatQueueOldestWait"]]
    assert ("ChatQueueOldestWait", "tuned") not in still
    assert any(path == "watchdog" for path, _ in pager.notes)


@pytest.mark.long
@pytest.mark.timeout(500)
def test_a_second_page_of_one_database_is_delivered_within_a_minute(
    platform: Platform, tmp_path: Path
) -> None:
    programs = Programs(
        str(require_tool("prometheus", "prometheus")),
        str(require_tool("prometheus-alertmanager", "prometheus-alertmanager")),
    )
    # Nobody is there: another kind of page, a minute behind the one for the wait.
    make_waiting_chat(platform, age_s=600)
    databases = {"first": platform, "second": platform}
    fired_s: dict[tuple[str, str], float] = {}
    with run_watched(tmp_path, databases) as daemons, Pager() as pager:
        for name, daemon in daemons.items():
            config = tmp_path / f"{name}.yaml"
            document = yaml.safe_load(config.read_text())
            # Two exporters of one database: their alerts differ by instance, and share a group.
            document["databases"] = {"main": document["databases"][name]}
            config.write_text(yaml.safe_dump(document))
            reload_with(daemon, config, "5m" if name == "first" else "1h")
        addresses = {name: daemon.address for name, daemon in daemons.items()}
        expected = {
            ("ChatQueueOldestWait", addresses["first"]),
            ("ChatQueueOldestWait", addresses["second"]),
            ("ChatQueueNoOperator", addresses["first"]),
        }
        folder = tmp_path / "stack"
        folder.mkdir()
        targets = list(addresses.values())
        with run_stack(programs, folder, targets, pager.receivers(), edit=as_shipped) as stack:

            def delivered() -> dict[tuple[str, str], float]:
                answer = requests.get(f"{stack.prometheus_url}/api/v1/alerts", timeout=10).json()
                for alert in answer["data"]["alerts"]:
                    if alert["state"] == "firing":
                        fired_s.setdefault(alert_and_instance(alert["labels"]), time.monotonic())
                return {
                    alert_and_instance(alert["labels"]): request.at_s
                    for request in reversed(pager.received)
                    if request.path == "/page"
                    for alert in request.document["alerts"]
                }

            wait_until(
                lambda: ("ChatQueueOldestWait", addresses["first"]) in delivered(), delivered
            )
            reload_with(daemons["second"], tmp_path / "second.yaml", "5m")
            wait_until(lambda: expected <= delivered().keys(), delivered)
            delays_s = {key: delivered()[key] - fired_s[key] for key in expected}

    assert max(delays_s.values()) < 60 + 5, delays_s
