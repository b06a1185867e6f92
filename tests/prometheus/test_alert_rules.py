"""Every alert fires when it must, on time, and never otherwise; promtool evaluates the real files.

The table is `alert_cases.py`; what belongs to one alert only stands below.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.config import burn_rates
from exporter.metrics.thresholds import PREFIX, build_thresholds
from tests.prometheus import promtool
from tests.prometheus.alert_cases import (
    ALL,
    ASSIGNED,
    AVAILABLE,
    CASES,
    CYCLE_AT,
    DATABASE,
    EVERY,
    GINI,
    INTERVAL_S,
    LATE,
    ON_CHAT,
    STALE,
    TAKEN,
    TARGET,
    UP,
    WAITING,
    Case,
    Series,
)
from tests.prometheus.promtool import FILES, RULE_FILES, RULES, expand, render, used_by_rules
from tests.servers import require_tool
from tools.reference.alerts import DEFAULTS, Input, find_inputs

# What rules count against: without so many events nothing is judged. It has no off.
COUNTED = ("slo_objective_ratio", "slo_breaches", "operator_window_assignments")


def thresholds() -> Series:
    """All that rules compare with; off, unless a test is about it."""
    series = {}
    for family in build_thresholds(DEFAULTS):
        for sample in family.samples:
            pairs = ", ".join(f'{name}="{value}"' for name, value in sample.labels)
            is_counted = family.name.removeprefix(PREFIX) in COUNTED
            name = f"{family.name}{{{pairs}}}" if pairs else family.name
            series[name] = f"{sample.value:g}" if is_counted else "+Inf"
    return series


THRESHOLDS = thresholds()


def label(series: str, labels: Mapping[str, str]) -> str:
    """A series with more labels."""
    name, _, own = series.partition("{")
    pairs = [*filter(None, [own.rstrip("}")]), *(f'{k}="{v}"' for k, v in labels.items())]
    return f"{name}{{{', '.join(pairs)}}}"


def labels_of(case: Case) -> dict[str, str]:
    """Labels that every series of a case carries."""
    return {**TARGET, **(DATABASE if case.has_database else {})}


def build_test(
    case: Case,
    series: Series,
    fires: Mapping[int, bool],
    thresholds: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A test of promtool.

    Args:
        case: The alert.
        series: Series to values, without the labels of the target.
        fires: Second to whether it fires then.
        thresholds: Threshold series to values.
    """
    length = max((len(expand(values)) for values in series.values()), default=80)
    known = THRESHOLDS | ({case.threshold: case.limit} if case.threshold else {})
    constants = {
        label(name, {**TARGET, **DATABASE}): " ".join([value] * length)
        for name, value in (known if thresholds is None else thresholds).items()
    }
    given = {label(name, labels_of(case)): values for name, values in series.items()}
    return {
        "interval": f"{INTERVAL_S}s",
        "input_series": [
            {"series": name, "values": values} for name, values in {**constants, **given}.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": f"{at_s}s",
                "alertname": case.alert,
                "exp_alerts": [expectation(case)] if does else [],
            }
            for at_s, does in fires.items()
        ],
    }


def expectation(case: Case) -> dict[str, Any]:
    """The alert as Alertmanager gets it."""
    rule = RULES[case.alert, case.severity]
    labels = {**labels_of(case), **case.labels}
    if case.alert == "ChatQueueExporterAbsent":
        labels = {}
    annotations = {
        name: render(text, labels)
        for name, text in rule["annotations"].items()
        if name != "description"
    }
    return {
        "exp_labels": {**labels, **rule["labels"]},
        "exp_annotations": {**annotations, "description": case.description},
    }


def broken(series: Series, at: int, missing: int, *, restarted: bool = False) -> dict[str, str]:
    """Series with scrapes missing from sample `at` on; a restarted daemon counts from 0."""
    result = {}
    for name, values in series.items():
        tokens = expand(values)
        rest = tokens[at + missing :]
        if restarted and "_total" in name:
            rest = [f"{float(token) - float(rest[0]):g}" for token in rest]
        result[name] = " ".join([*tokens[:at], *["stale"] * missing, *rest])
    return result


def test_the_files_are_sound() -> None:
    program = require_tool("promtool", "prometheus")
    done = subprocess.run(
        [program, "check", "rules", "--lint-fatal", *RULE_FILES],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_fires_when_it_must_and_only_then(case: Case, tmp_path: Path) -> None:
    on_time = {case.fires_s - INTERVAL_S: False, case.fires_s: True}
    length = max(len(expand(values)) for values in case.quiet.values())
    ever = range(0, length * INTERVAL_S, 4 * INTERVAL_S)
    tests = {
        "fires on time": build_test(case, case.firing, on_time),
        "stays quiet just below": build_test(case, case.quiet, dict.fromkeys(ever, False)),
    }
    # What a missed scrape and a restart do to the alerts on the scrape itself stands below.
    if not case.alert.startswith("ChatQueueExporter"):
        middle = case.fires_s // 2 // INTERVAL_S
        missed = broken(case.firing, middle, 1)
        restarted = case.restart or broken(case.firing, middle, 2, restarted=True)
        tests["survives a missed scrape"] = build_test(case, missed, on_time)
        tests["survives a restart"] = build_test(case, restarted, {case.fires_s: True})
    if case.threshold:
        later = {case.fires_s: False, case.fires_s + 4 * INTERVAL_S: False}
        off = {**THRESHOLDS, case.threshold: "+Inf"}
        gone = {name: value for name, value in off.items() if name != case.threshold}
        tests["is off"] = build_test(case, case.firing, later, off)
        tests["has no threshold"] = build_test(case, case.firing, later, gone)

    assert promtool.run_tests(tmp_path, tests, promtool.only(tmp_path, case.alert)) == ""


def missing(name: str, query: str = "") -> Case:
    """The alert that says that a figure of a query, or a threshold, is not there."""
    series = {UP: "1x40"}
    if query:
        series[f'chatqueue_exporter_query_success{{query="{query}"}}'] = "0x40"
    return Case(
        "ChatQueueRuleInputsMissing",
        "critical",
        300,
        series,
        {},
        f"main is up and gives no {name}; the alerts that need it are blind.",
        labels={"input": name, **({"query": query} if query else {})},
    )


INPUTS = find_inputs([*RULES.values()])


def test_the_inputs_are_every_threshold_compared_with_and_what_pages_need() -> None:
    compared = {name for name in used_by_rules() if name.startswith(PREFIX)}
    given = {needed.query: needed.selector for needed in INPUTS if needed.query}

    assert {needed.metric for needed in INPUTS if not needed.query} == compared
    assert given == {
        "assignments": "chatqueue_assignments_total",
        "customer_wait": "chatqueue_customer_oldest_wait_seconds",
        "disagreement": "chatqueue_platform_disagreement",
        "invalid_states": 'chatqueue_invalid_chats{check="lost_reply"}',
        "invalid_users": 'chatqueue_invalid_chats{check="closed_but_written_to"}',
        "operators": "chatqueue_operators",
        "state_clock": WAITING,
        "waits": "chatqueue_waits_breached_total",
    }


@pytest.mark.parametrize("name", [needed.metric for needed in INPUTS if not needed.query])
def test_a_threshold_that_is_not_there_is_an_alert_of_its_own(name: str, tmp_path: Path) -> None:
    case = missing(name)
    rest = {known: value for known, value in THRESHOLDS.items() if not known.startswith(name)}
    alone = build_test(case, case.firing, {300: True}, rest)
    complete = build_test(case, case.firing, {300: False}, THRESHOLDS)

    tests = {"gone": alone, "there": complete}
    assert promtool.run_tests(tmp_path, tests, promtool.only(tmp_path, case.alert)) == ""


@pytest.mark.parametrize("needed", [n for n in INPUTS if n.query], ids=lambda n: n.query)
def test_a_figure_that_pages_and_is_not_there_is_an_alert_of_its_own(
    needed: Input, tmp_path: Path
) -> None:
    figure = needed.selector
    case = missing(needed.metric, needed.query)
    series = {
        "gone": case.firing,
        "there": {**case.firing, figure: "0x40"},
        "disabled": {UP: "1x40"},
        "down": {**case.firing, UP: "0x40"},
    }
    tests = {name: build_test(case, given, {300: name == "gone"}) for name, given in series.items()}

    assert promtool.run_tests(tmp_path, tests, promtool.only(tmp_path, case.alert)) == ""


def find_case(alert: str, severity: str) -> Case:
    """The table's entry."""
    (case,) = (case for case in CASES if (case.alert, case.severity) == (alert, severity))
    return case


QUIET: dict[str, tuple[str, str, Series]] = {
    "few users do not burn, however late they are answered": (
        "ChatQueueServiceLevelBurn",
        "critical",
        {LATE: "0x10 1x10 2x10 3x20", ALL: "0x10 1x10 2x10 3x20"},
    ),
    "a handful of assignments is not judged": (
        "ChatQueueUnfairDistribution",
        "warning",
        {GINI: "0.9x80", TAKEN: "99x80"},
    ),
    "laptops may be closed while nobody has a chat": (
        "ChatQueueHeartbeatsStale",
        "warning",
        {AVAILABLE: "0x40", ON_CHAT: "0x40", STALE: "5x40", ASSIGNED: "0x40"},
    ),
    "nobody needs to be there for an empty queue": (
        "ChatQueueNoOperator",
        "critical",
        {AVAILABLE: "0x40", ON_CHAT: "0x40", WAITING: "0x40"},
    ),
    "operators who are all busy are operators": (
        "ChatQueueNoOperator",
        "critical",
        {AVAILABLE: "0x40", ON_CHAT: "5x40", WAITING: "90x40"},
    ),
    "a queue that was empty for a moment drains": (
        "ChatQueueNotDraining",
        "critical",
        {"chatqueue_assignments_total": "7x80", WAITING: "20x39 0 20x40", AVAILABLE: "1x80"},
    ),
    "operators who were all busy for a moment work": (
        "ChatQueueNotDraining",
        "critical",
        {"chatqueue_assignments_total": "7x80", WAITING: "20x80", AVAILABLE: "1x39 0 1x40"},
    ),
    "a watch that has just begun knows no pace": (
        "ChatQueueNotDraining",
        "critical",
        {"chatqueue_assignments_total": "_x50 7x30", WAITING: "20x80", AVAILABLE: "1x80"},
    ),
    "a counter that a restart set back did not rise": (
        "ChatQueueChatClosed",
        "warning",
        {'chatqueue_releases_total{outcome="closed"}': "3x20 stale stale 0x40"},
    ),
    "a pause that has ended is none": (
        "ChatQueueReleasePausedTooLong",
        "warning",
        {"chatqueue_release_paused": "1x239 0x60"},
    ),
    "a daemon that restarts answers again within two minutes": (
        "ChatQueueExporterDown",
        "critical",
        {"up": "1x20 0x6 1x20"},
    ),
    "a daemon that restarts has not polled yet": (
        "ChatQueueDatabaseDown",
        "critical",
        {UP: "1x20 stale stale 0 1x20"},
    ),
    "a release that enforces on a database that is down has no tokens": (
        "ChatQueueReleaseWithoutControl",
        "warning",
        {'chatqueue_release_mode{mode="enforce"}': "1x40", UP: "0x40"},
    ),
    "a releaser that is off has no cycle to finish": (
        "ChatQueueReleaseStalled",
        "warning",
        {
            CYCLE_AT: "0x40",
            UP: "1x40",
            'chatqueue_release_mode{mode="off"}': "1x40",
            EVERY: "15x40",
            "chatqueue_threshold_data_age_seconds": "120x40",
        },
    ),
    "a releaser whose database is down is not to blame": (
        "ChatQueueReleaseStalled",
        "warning",
        {
            CYCLE_AT: "0x40",
            UP: "0x40",
            EVERY: "15x40",
            "chatqueue_threshold_data_age_seconds": "120x40",
        },
    ),
    "one slow query that is fresh enough keeps the watch alive": (
        "ChatQueueDataStale",
        "critical",
        {
            'chatqueue_exporter_query_last_success_timestamp_seconds{query="a"}': "0x40",
            'chatqueue_exporter_query_interval_seconds{query="a"}': "15x40",
            'chatqueue_exporter_query_last_success_timestamp_seconds{query="b"}': "0x20 300x20",
            'chatqueue_exporter_query_interval_seconds{query="b"}': "300x40",
        },
    ),
}


@pytest.mark.parametrize("file", sorted({FILES[alert] for alert, _, _ in QUIET.values()}))
def test_it_stays_quiet_where_there_is_nothing_to_do(file: Path, tmp_path: Path) -> None:
    tests = {}
    for story, (alert, severity, series) in QUIET.items():
        length = max(len(expand(values)) for values in series.values())
        times = dict.fromkeys(range(0, length * INTERVAL_S, 2 * INTERVAL_S), False)
        case = find_case(alert, severity)
        limits = {**THRESHOLDS, case.threshold: case.limit} if case.threshold else THRESHOLDS
        if FILES[alert] == file:
            tests[story] = build_test(case, series, times, limits)

    assert promtool.run_tests(tmp_path, tests, [file]) == ""


def test_a_frozen_queue_breaches_though_nobody_is_answered(tmp_path: Path) -> None:
    # Every wait that counts is one that is still open: 5 of 5, and not 0 of 0.
    case = replace(
        find_case("ChatQueueServiceLevelBurn", "critical"),
        description="Over the last hour users of main waited too long 10.0 times as often as the "
        "objective allows.",
    )
    series = {LATE: "0 0+1x40", ALL: "0 0+1x40"}

    assert promtool.run_tests(tmp_path, {"frozen": build_test(case, series, {600: True})}) == ""


def test_at_an_objective_of_80_percent_it_fires_where_the_usual_factors_never_can(
    tmp_path: Path,
) -> None:
    rates = burn_rates(0.8)
    case = replace(
        find_case("ChatQueueServiceLevelBurn", "critical"),
        limit=str(rates["critical"]),
        description="Over the last hour users of main waited too long 4.0 times as often as the "
        "objective allows.",
    )
    series = {LATE: "0+8x40", ALL: "0+10x40"}
    objective = {"chatqueue_threshold_slo_objective_ratio": "0.8"}
    ours = {**THRESHOLDS, **objective, case.threshold: case.limit}
    usual = {**THRESHOLDS, **objective, case.threshold: "14.4"}
    all_breached = {LATE: "0+10x40", ALL: "0+10x40"}
    tests = {
        "ours": build_test(case, series, {300: True}, ours),
        "the usual": build_test(case, all_breached, {300: False, 600: False}, usual),
    }

    assert promtool.run_tests(tmp_path, tests) == ""


def test_an_exporter_that_was_there_once_is_absent_when_its_target_goes(tmp_path: Path) -> None:
    case = find_case("ChatQueueExporterAbsent", "critical")
    times = {20 * INTERVAL_S: False, 40 * INTERVAL_S: False, 41 * INTERVAL_S: True}
    series = {"up": "1x20 stale _x40"}

    assert promtool.run_tests(tmp_path, {"gone": build_test(case, series, times)}) == ""


def test_another_job_that_is_down_is_not_ours(tmp_path: Path) -> None:
    case = find_case("ChatQueueExporterDown", "critical")
    test = build_test(case, {}, {300: False, 600: False})
    test["input_series"] = [{"series": 'up{job="other", instance="x"}', "values": "0x60"}]

    assert promtool.run_tests(tmp_path, {"one": test}) == ""


def test_the_watchdog_fires_with_nothing_to_watch(tmp_path: Path) -> None:
    rule = RULES["ChatQueueWatchdog", "none"]
    annotations = dict(rule["annotations"])
    test = {
        "interval": "15s",
        "input_series": [],
        "alert_rule_test": [
            {
                "eval_time": at,
                "alertname": "ChatQueueWatchdog",
                "exp_alerts": [{"exp_labels": rule["labels"], "exp_annotations": annotations}],
            }
            for at in ("0s", "5m")
        ],
    }

    assert promtool.run_tests(tmp_path, {"one": test}) == ""
