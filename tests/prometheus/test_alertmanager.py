"""The example of an Alertmanager: whom an alert reaches, and which alert another silences."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import requests
import yaml

from exporter.config.durations import parse_duration
from exporter.demo.stack import Programs, run_stack
from tests.prometheus.promtool import ALERTS, RULES
from tests.prometheus.test_paging import wait_until
from tests.servers import require_tool

EXAMPLE = ALERTS / "alertmanager.example.yml"
RECEIVERS = {"critical": "page", "warning": "ticket", "info": "ticket", "none": "watchdog"}
HERE = {"instance": "a:1", "database": "main"}


def amtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run amtool to its end."""
    program = require_tool("amtool", "prometheus-alertmanager")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def labels_of(alert: str, severity: str, **labels: str) -> dict[str, str]:
    """Labels as Alertmanager sees them."""
    rule = RULES[alert, severity]["labels"]
    return {"alertname": alert, "job": "chatqueue", **rule, **labels}


def test_amtool_has_no_complaint() -> None:
    done = amtool("check-config", EXAMPLE)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_an_alert_reaches_the_right_receiver(key: tuple[str, str]) -> None:
    labels = [f"{name}={value}" for name, value in labels_of(*key, **HERE).items()]
    receiver = f"--verify.receivers={RECEIVERS[key[1]]}"
    done = amtool("config", "routes", "test", f"--config.file={EXAMPLE}", receiver, *labels)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_watchdog_calls_at_every_group_interval() -> None:
    # Equal to it, a call is left out whenever the last one was sent a moment after its interval.
    route = yaml.safe_load(EXAMPLE.read_text())["route"]
    (watchdog,) = (each for each in route["routes"] if each["receiver"] == "watchdog")

    assert parse_duration(watchdog["repeat_interval"]) < parse_duration(route["group_interval"])


def test_what_is_not_ours_becomes_a_ticket() -> None:
    receiver = "--verify.receivers=ticket"
    arguments = (f"--config.file={EXAMPLE}", receiver, "alertname=Other", "severity=critical")
    done = amtool("config", "routes", "test", *arguments)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running one with the example's routes and inhibitions."""
    programs = Programs(
        str(require_tool("prometheus", "prometheus")),
        str(require_tool("prometheus-alertmanager", "prometheus-alertmanager")),
    )
    with run_stack(programs, tmp_path_factory.mktemp("stack"), []) as stack:
        yield stack.alertmanager_url


def inhibited(url: str, alerts: Sequence[dict[str, str]], where: str) -> set[str]:
    """Post alerts under a job of their own; return those that others silence."""
    marked = [{**labels, "job": where} for labels in alerts]
    body = [{"labels": labels} for labels in marked]
    requests.post(f"{url}/api/v2/alerts", json=body, timeout=10).raise_for_status()

    def found() -> list[dict[str, object]]:
        known = requests.get(f"{url}/api/v2/alerts", timeout=10).json()
        return [alert for alert in known if alert["labels"]["job"] == where]

    # An inhibition is judged when the alert is about to be sent, and then shown.
    wait_until(lambda: len(found()) == len(alerts) and settled(found()), found)
    return {
        f"{alert['labels']['alertname']}-{alert['labels']['severity']}"
        for alert in found()
        if alert["status"]["inhibitedBy"]
    }


def settled(alerts: Sequence[dict[str, dict[str, object]]]) -> bool:
    """Whether each was judged."""
    return all(alert["status"]["state"] != "unprocessed" for alert in alerts)


OTHERS = [key for key in RULES if key[0] != "ChatQueueWatchdog"]
# What an alert of its own silences of all others of the same exporter and database.
SILENCED: dict[str, set[str]] = {
    "ChatQueueExporterAbsent": {"queue", "release", "database", "exporter"},
    "ChatQueueExporterDown": {"queue", "release", "database", "exporter"},
    "ChatQueueDatabaseDown": {"queue", "release"},
    "ChatQueueDataStale": {"queue", "release"},
    "ChatQueueRowsHidden": set(),
}
BY_NAME: dict[str, set[str]] = {
    "ChatQueueExporterAbsent": set(),
    "ChatQueueExporterDown": set(),
    "ChatQueueDatabaseDown": {
        "ChatQueueDatabaseUnstable",
        "ChatQueueRowsHidden",
        "ChatQueueDataStale",
        "ChatQueueQueryFailing",
        "ChatQueueRuleInputsMissing",
    },
    "ChatQueueDataStale": {"ChatQueueQueryFailing", "ChatQueueRuleInputsMissing"},
    "ChatQueueRowsHidden": {
        "ChatQueueDataStale",
        "ChatQueueQueryFailing",
        "ChatQueueRuleInputsMissing",
    },
}


@pytest.mark.parametrize("source", SILENCED)
def test_a_cause_silences_what_follows_from_it(alertmanager: str, source: str) -> None:
    # Tickets only, besides the cause: twins and other causes have tests of their own.
    causes = {*SILENCED, "ChatQueueOldestWait", "ChatQueueCustomerWait"} - {source}
    targets = [key for key in OTHERS if key[0] not in causes | {source}]
    targets = [key for key in targets if key[1] == "warning" or (key[0], "warning") not in RULES]
    place = {} if source == "ChatQueueExporterAbsent" else {"instance": "a:1"}
    if "Exporter" not in source:
        place = HERE
    # What is absent has no instance to be equal in; its job is.
    alerts = [labels_of(source, "critical", **place)]
    alerts += [labels_of(*key, **HERE) for key in targets]
    silenced = {
        f"{alert}-{severity}"
        for alert, severity in targets
        if RULES[alert, severity]["labels"]["component"] in SILENCED[source]
        or alert in BY_NAME[source]
    }

    assert inhibited(alertmanager, alerts, f"job-of-{source}") == silenced - {f"{source}-critical"}


def test_another_database_exporter_or_cluster_is_not_silenced(alertmanager: str) -> None:
    elsewhere = [
        {**HERE, "database": "other"},
        {**HERE, "instance": "b:1"},
        {**HERE, "cluster": "us"},
    ]
    alerts = [labels_of("ChatQueueDatabaseDown", "critical", **HERE)]
    alerts += [labels_of("ChatQueueNoOperator", "critical", **place) for place in elsewhere]

    assert inhibited(alertmanager, alerts, "elsewhere") == set()


@pytest.mark.parametrize("alert", sorted({a for a, s in RULES if (a, "warning") in RULES}))
def test_a_page_silences_its_own_ticket_and_no_other(alertmanager: str, alert: str) -> None:
    if (alert, "critical") not in RULES:
        alerts = [labels_of("ChatQueueNoOperator", "critical", **HERE)]
        expected = set()
    else:
        alerts = [labels_of(alert, "critical", **HERE)]
        expected = {f"{alert}-warning"}
    alerts.append(labels_of(alert, "warning", **HERE))

    assert inhibited(alertmanager, alerts, f"twins-of-{alert}") == expected


def test_a_wait_in_the_queue_is_one_page(alertmanager: str) -> None:
    wait, answer = "ChatQueueOldestWait", "ChatQueueCustomerWait"
    alerts = [labels_of(wait, "critical", **HERE), labels_of(answer, "critical", **HERE)]
    elsewhere = {"instance": "a:1", "database": "other"}
    alerts.append(labels_of(answer, "critical", **elsewhere))

    assert inhibited(alertmanager, alerts[:2], "one-wait") == {f"{answer}-critical"}
    assert inhibited(alertmanager, alerts[::2], "two-waits") == set()


@pytest.mark.parametrize("alert", ["ChatQueueOldestWait", "ChatQueueCustomerWait"])
def test_a_wait_that_pages_silences_the_broken_promise(alertmanager: str, alert: str) -> None:
    alerts = [
        labels_of(alert, "critical", **HERE),
        labels_of("ChatQueueServiceLevelBurn", "critical", **HERE),
    ]

    assert inhibited(alertmanager, alerts, f"promise-{alert}") == {
        "ChatQueueServiceLevelBurn-critical"
    }
