"""The rules over the series of several Prometheus servers, told apart by external labels alone.

Job, instance and database are the same in both clusters, as pods and compose files have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.prometheus import promtool
from tests.prometheus.alert_cases import CASES, INTERVAL_S, Case, Series
from tests.prometheus.test_alert_rules import THRESHOLDS, build_test, expectation, label

EU, US = {"cluster": "eu"}, {"cluster": "us"}
# absent() has nothing to say of a cluster while another is there; operating-at-scale.md has a rule.
ANYWHERE = "ChatQueueExporterAbsent"


def view(case: Case, *servers: tuple[Mapping[str, str], Series, Mapping[str, str]]) -> list[Any]:
    """The series of several servers in one place.

    Args:
        case: The alert.
        servers: External labels, the case's series, the thresholds.
    """
    return [
        {**entry, "series": label(entry["series"], external)}
        for external, series, limits in servers
        for entry in build_test(case, series, {}, limits)["input_series"]
    ]


def expect(case: Case, series: list[Any], *externals: Mapping[str, str]) -> dict[str, Any]:
    """A test of promtool: whose alerts there are when the case fires, and which there are not."""
    alert = expectation(case)
    alerts = [{**alert, "exp_labels": {**alert["exp_labels"], **labels}} for labels in externals]
    at = f"{case.fires_s}s"
    return {
        "interval": f"{INTERVAL_S}s",
        "input_series": series,
        "alert_rule_test": [{"eval_time": at, "alertname": case.alert, "exp_alerts": alerts}],
    }


@pytest.mark.parametrize("case", [c for c in CASES if c.alert != ANYWHERE], ids=str)
def test_each_cluster_is_judged_by_its_own_series_and_thresholds(
    case: Case, tmp_path: Path
) -> None:
    limits = THRESHOLDS | ({case.threshold: case.limit} if case.threshold else {})
    firing = (EU, case.firing, limits)
    tests = {
        "one is calm": expect(case, view(case, firing, (US, case.quiet, limits)), EU),
        "both fire": expect(case, view(case, firing, (US, case.firing, limits)), EU, US),
    }
    if case.threshold:
        off = {**limits, case.threshold: "+Inf"}
        tests["one is off"] = expect(case, view(case, firing, (US, case.firing, off)), EU)

    assert promtool.run_tests(tmp_path, tests, promtool.only(tmp_path, case.alert)) == ""


def test_two_replicas_of_a_prometheus_say_the_same_but_for_their_own_label(tmp_path: Path) -> None:
    # Nothing is matched across replicas; Alertmanager takes both for one once the label is dropped.
    replicas = [{"cluster": "eu", "replica": name} for name in ("a", "b")]
    tests = {}
    for case in (case for case in CASES if case.alert != ANYWHERE):
        limits = THRESHOLDS | ({case.threshold: case.limit} if case.threshold else {})
        series = view(case, *((labels, case.firing, limits) for labels in replicas))
        tests[str(case)] = expect(case, series, *replicas)

    assert promtool.run_tests(tmp_path, tests) == ""
