"""Every question of every dashboard, asked of a real Prometheus that scrapes a living platform."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from exporter.demo.postgres import LocalServer
from exporter.demo.simulation import Simulation
from tests.dashboards.documents import QUESTIONS, selectors
from tests.postgres.test_cli_helpers import run_daemon
from tests.prometheus.test_scrape import Prometheus, job, run_prometheus
from tests.release import install
from tests.servers import clone_platform
from tests.watch import BUILT_IN, write_config, write_query
from tools.dashboards.questions import interpolate

RIGHTLY_EMPTY: dict[str, str] = yaml.safe_load(
    Path(__file__).with_name("rightly_empty.yaml").read_text()
)
# Prometheus's own series, not the page's.
PROMETHEUS_OWN = {"up", "ALERTS", "scrape_duration_seconds"}
# One alert of each severity, always firing, beside the watchdog.
RULES = {
    "groups": [
        {
            "name": "always",
            "rules": [
                {"alert": alert, "expr": "vector(1)", "labels": {"severity": s, "job": "it"}}
                for alert, s in (
                    ("ChatQueueWatchdog", "none"),
                    ("ChatQueueOldestWait", "critical"),
                    ("ChatQueueInvalidChats", "warning"),
                )
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def prometheus(
    postgres_server: LocalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """It has scraped a platform with two hours of history and living people a few times."""
    folder = tmp_path_factory.mktemp("answers")
    rules = folder / "always.rules.yml"
    rules.write_text(yaml.safe_dump(RULES))
    started_at = (datetime.now(UTC) - timedelta(hours=7)).isoformat()
    (folder / "app.log").touch()
    sections = {
        "watch": {"started_at": started_at},
        "release": {"mode": "observe"},
        "logs": {"files": {"app": "app.log"}},
        "notify": {"webhooks": {"nobody": {"url": "http://127.0.0.1:9/"}}},
    }
    stop = threading.Event()
    with clone_platform(postgres_server) as platform:
        install(platform)
        simulation = Simulation(platform.dsn, seed=1)
        simulation.seed_history()
        people = threading.Thread(target=simulation.run, args=(stop,))
        people.start()
        # A reason of failures has no series before its first.
        own = write_query(folder / "own", "broken", "SELECT 1 / 0 AS value")
        config = write_config(
            folder, {"main": platform.dsn}, queries={"dirs": [str(own)]}, **sections
        )
        try:
            with (
                run_daemon(config) as daemon,
                run_prometheus(folder / "data", [job("it", daemon)], [rules]) as server,
            ):
                server.wait_until(lambda: has_seen_enough(server))
                yield server
        finally:
            stop.set()
            people.join(20)
    assert not people.is_alive()


def has_seen_enough(server: Prometheus) -> bool:
    """Whether each query has succeeded, rates have samples, a wait has ended, and alerts fire."""
    succeeded = server.query("count by (job) (chatqueue_exporter_query_success == 1)")
    scraped = server.query("min by (job) (count_over_time(chatqueue_assignments_total[5m]))")
    firing = server.query('count by (job) (ALERTS{alertstate="firing"})')
    waited = server.query("increase(chatqueue_waits_total[1h])").get("it", 0)
    return (
        succeeded == {"it": len(BUILT_IN)}
        and scraped.get("it", 0) >= 3
        and firing == {"it": 3}
        and waited > 0
    )


pytestmark = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)


def ask(server: Prometheus, expr: str) -> list[Any]:
    """The series of an expression now, all values of the variables chosen."""
    text = interpolate(expr, rate_interval="1m", time_range="1h")
    result: list[Any] = server.api("query", query=text)["result"]
    return result


@pytest.mark.slow
def test_every_question_has_an_answer_or_its_reason(prometheus: Prometheus) -> None:
    unanswered = {key for key, one in QUESTIONS.items() if not ask(prometheus, one.expr)}

    assert unanswered == set(RIGHTLY_EMPTY)


def test_every_selector_finds_series(prometheus: Prometheus) -> None:
    """Behind an `or`, too, where a misspelt name or value would never be missed."""
    every = {
        (selector.name, f"{{{','.join(written(m) for m in selector.matchers.matchers)}}}")
        for question in QUESTIONS.values()
        for selector, _ in selectors(question)
    }
    lost = {name + rest for name, rest in every if not ask(prometheus, name + rest)}

    assert lost == set()


def test_a_sum_leaves_no_series_out(prometheus: Prometheus) -> None:
    """`max by (database)` takes equal figures of two exporters once; any other label is summed."""
    forgotten = set()
    for question in QUESTIONS.values():
        for selector, parents in selectors(question):
            aggregates = [p for p in parents if isinstance(p, promql_parser.AggregateExpr)]
            if [str(a.op) for a in aggregates[:2]] != ["max", "sum"]:
                continue
            fixed = {m.name for m in selector.matchers.matchers if str(m.op).endswith("Equal")}
            kept = set(aggregates[0].modifier.labels)
            series = prometheus.api("series", **{"match[]": selector.name})
            labels = {label for one in series for label in one} - {"__name__", "job", "instance"}
            if labels - kept - fixed:
                forgotten.add((question.key, selector.name, *sorted(labels - kept - fixed)))

    assert forgotten == set()


def written(matcher: Any) -> str:
    """A matcher as PromQL."""
    sign = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
    name = re.sub(r".*\.|\(.*", "", str(matcher.op))
    return f'{matcher.name}{sign[name]}"{matcher.value}"'


def test_every_metric_is_on_the_page_or_prometheus_own(prometheus: Prometheus) -> None:
    asked = {s.name for question in QUESTIONS.values() for s, _ in selectors(question)}
    there = set(prometheus.api("label/__name__/values"))

    assert asked - there == set()
    assert {name for name in asked if not name.startswith(("chatqueue_", "process_"))} == (
        PROMETHEUS_OWN
    )
