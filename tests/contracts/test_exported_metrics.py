"""Every exported name, its type and its labels, as promised to alerts, panels and other people.

The page of the demo's platform is compared with `exported_metrics.txt`; `make exported-metrics`
writes that file anew.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.demo.simulation import Simulation
from exporter.errors import Reason
from tests.contracts.exported import FILE, render_exported
from tests.release import install
from tests.servers import Platform, require_tool
from tests.watch import Watch, run_watch, write_config

pytestmark = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)


@pytest.fixture
def watch(platform: Platform, tmp_path: Path) -> Iterator[Watch]:
    """A daemon with all its parts, on a platform where much has happened."""
    Simulation(platform.dsn, seed=1, scenario="rush").seed_history()
    install(platform)
    config = write_config(
        tmp_path,
        {"main": platform.dsn},
        watch={"started_at": "2026-11-23T08:00:00Z"},
        notify={"webhooks": {"ops": {"url": "http://127.0.0.1:1/"}}},
        logs={"files": {"app": "app.log"}},
        release={"mode": "observe"},
    )
    with run_watch(config) as watch:
        watch.wait_until(lambda: watch.value("chatqueue_release_tokens") is not None)
        yield watch


def test_names_types_and_labels_are_the_promised_ones(
    watch: Watch, request: pytest.FixtureRequest
) -> None:
    text = render_exported(_with_every_reason(watch.page()))
    if request.config.getoption("--write-exported-metrics"):
        FILE.write_text(text, encoding="utf-8")

    assert text.splitlines() == FILE.read_text(encoding="utf-8").splitlines()


def _with_every_reason(page: str) -> str:
    """The page as it is once a query has failed for every reason there is."""
    name = "chatqueue_exporter_query_errors_total"
    heading = f"# TYPE {name} counter\n"
    assert heading in page
    lines = (f'{name}{{database="main",query="q",reason="{reason}"}} 1.0\n' for reason in Reason)
    return page.replace(heading, heading + "".join(lines))


def test_labels_of_ones_own_stand_on_every_series_of_the_database(
    platform: Platform, tmp_path: Path
) -> None:
    config = write_config(tmp_path, {"main": platform.dsn})
    config.write_text(
        config.read_text().replace("    dsn:", "    labels: {region: eu}\n    dsn:", 1)
    )
    with run_watch(config) as watch:
        for family in text_string_to_metric_families(watch.page()):
            for sample in family.samples:
                if "database" in sample.labels:
                    assert sample.labels["region"] == "eu"


def test_promtool_has_no_complaint(watch: Watch) -> None:
    promtool = require_tool("promtool", "prometheus")
    page = watch.page().encode()
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
