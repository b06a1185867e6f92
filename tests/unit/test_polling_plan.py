"""The configuration becomes parameters, thresholds and one plan a database."""

# ruff: noqa: ISC004  # messages stand whole, as an operator reads them
from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from exporter.config import Config, burn_rates, load_config
from exporter.config.exported import Exported, find_marked, plain_values
from exporter.errors import ConfigError
from exporter.metrics.snapshot import Family
from exporter.metrics.thresholds import build_thresholds
from exporter.polling.plan import build_parameters, build_plans
from tests.watch import BUILT_IN

DATABASES = "databases: {main: {dsn: host=db}}\n"


def config_of(folder: Path, text: str = "", databases: str = DATABASES) -> Config:
    file = folder / "chatqueue.yaml"
    file.write_text(databases + text)
    return load_config(file, {})


def faults_of(config: Config) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build_plans(config)
    return str(caught.value).split("\n")


def values_of(families: tuple[Family, ...]) -> dict[str, dict[str, float]]:
    return {
        family.name: {
            ",".join(value for _, value in sample.labels): sample.value for sample in family.samples
        }
        for family in families
    }


def test_parameters_are_seconds(tmp_path: Path) -> None:
    parameters = build_parameters(config_of(tmp_path))

    expected = {
        "stuck_hours": 1,
        "idle_grace": 120.0,
        "operators_max_series": 200,
        "operators_label": "name",
        "event_overlap": 30.0,
        "release_patterns": [
            "% - max reassignments reached",
            "operator_sent_message",
            "real_user_replied_after_operator",
            "idle_timeout",
            "operator_idle_timeout",
            "auto_release:%",
            "manual_reassignment_by_admin%",
            "manual_unassign",
        ],
        "release_outcomes": [
            "closed",
            "replied",
            "customer_replied",
            "idle_timeout",
            "idle_timeout",
            "auto_release",
            "admin",
            "manual",
        ],
        "slo_answer_within": 120.0,
        "slo_objective": 0.9,
        "checks_grace": 30.0,
        "oldest_age_waiting_assignment_warning": 120.0,
        "oldest_age_waiting_assignment_critical": 300.0,
        "oldest_age_assigned_warning": 600.0,
        "oldest_age_assigned_critical": 1200.0,
        "oldest_age_waiting_real_user_reply_warning": math.inf,
        "oldest_age_waiting_real_user_reply_critical": math.inf,
        "customer_wait_warning": 300.0,
        "customer_wait_critical": 600.0,
    }
    assert {name: parameters[name] for name in expected} == expected


def test_parameters_follow_the_file_and_the_operators_own_join_them(tmp_path: Path) -> None:
    parameters = build_parameters(
        config_of(
            tmp_path,
            "queries: {parameters: {region: eu, limit: 5, share: 0.5, strict: true}}\n"
            "operators: {max_series: 3, label: id}\n"
            "thresholds:\n"
            "  stuck_hours: 4\n"
            "  idle_grace: 500ms\n"
            "  customer_wait: {warning: 1m, critical: off}\n"
            "  oldest_age: {waiting_real_user_reply: {warning: 1h, critical: 2h}}\n"
            "slo: {answer_within: 3m, objective: 0.95}\n"
            "events: {overlap: 1m}\n"
            "checks: {grace: 1500ms}\n",
        )
    )

    own = {name: parameters[name] for name in ("region", "limit", "share", "strict")}
    assert own == {"region": "eu", "limit": 5, "share": 0.5, "strict": True}
    assert parameters["operators_max_series"] == 3
    assert parameters["operators_label"] == "id"
    assert parameters["stuck_hours"] == 4
    assert parameters["idle_grace"] == 0.5
    assert parameters["customer_wait_warning"] == 60
    assert parameters["customer_wait_critical"] == math.inf
    assert parameters["oldest_age_waiting_real_user_reply_warning"] == 3600
    assert parameters["oldest_age_waiting_real_user_reply_critical"] == 7200
    assert (parameters["slo_answer_within"], parameters["slo_objective"]) == (180, 0.95)
    assert (parameters["event_overlap"], parameters["checks_grace"]) == (60, 1.5)


def test_the_operators_own_release_reasons_come_first_and_replace_those_written_alike(
    tmp_path: Path,
) -> None:
    built_in = build_parameters(config_of(tmp_path))
    own = "events: {release_reasons: {bot%: idle_timeout, manual_unassign: admin}}\n"
    parameters = build_parameters(config_of(tmp_path, own))

    rest = [pair for pair in reasons_of(built_in) if pair[0] != "manual_unassign"]
    assert len(rest) == len(reasons_of(built_in)) - 1
    assert reasons_of(parameters) == [("bot%", "idle_timeout"), ("manual_unassign", "admin"), *rest]


def reasons_of(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    return list(zip(parameters["release_patterns"], parameters["release_outcomes"], strict=True))


def test_every_threshold_is_a_metric_and_one_that_is_off_is_infinite(tmp_path: Path) -> None:
    thresholds = build_thresholds(config_of(tmp_path))

    expected = {
        "chatqueue_threshold_oldest_age_seconds": {
            "waiting_assignment,warning": 120,
            "waiting_assignment,critical": 300,
            "assigned,warning": 600,
            "assigned,critical": 1200,
            "waiting_real_user_reply,warning": math.inf,
            "waiting_real_user_reply,critical": math.inf,
        },
        "chatqueue_threshold_customer_wait_seconds": {"warning": 300, "critical": 600},
        "chatqueue_threshold_data_age_seconds": {"": 120},
        "chatqueue_threshold_idle_grace_seconds": {"": 120},
        "chatqueue_threshold_slo_answer_within_seconds": {"": 120},
        "chatqueue_threshold_slo_objective_ratio": {"": 0.9},
        "chatqueue_threshold_checks_grace_seconds": {"": 30},
        "chatqueue_threshold_stuck_seconds": {"": 3600},
        "chatqueue_threshold_stale_operators_ratio": {"": 0.5},
        "chatqueue_threshold_operator_gini_ratio": {"": 0.4},
        "chatqueue_threshold_operator_window_assignments": {"": 100},
        "chatqueue_threshold_database_drops": {"": 3},
        "chatqueue_threshold_clock_skew_seconds": {"": 5},
        "chatqueue_threshold_release_paused_seconds": {"": 4 * 3600},
        "chatqueue_threshold_slo_burn_rate": {
            "warning": pytest.approx(3.25),
            "critical": pytest.approx(5.5),
        },
        "chatqueue_threshold_slo_breaches": {"": 5},
    }
    values = values_of(thresholds)
    assert {name: values[name] for name in expected} == expected
    assert {f.type for f in thresholds} == {"gauge"}
    for family in thresholds:
        ending = family.name.rpartition("_")[2]
        assert family.unit == (ending if ending in ("seconds", "ratio") else "")
        assert re.fullmatch(r"(\w+\.)+\w+: .+\.|.+ \w+\.\w+\.|\w+\.\w+, .+\.", family.help)
    assert {name for f in thresholds for s in f.samples for name, _ in s.labels} == {
        "state",
        "severity",
    }


def test_every_key_of_thresholds_and_slo_is_exported(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    exported = {field.key for _, field in find_marked(config, Exported)}
    keys = [f"thresholds.{'.'.join(path)}" for path, _ in plain_values(config.thresholds)]
    keys += [f"slo.{'.'.join(path)}" for path, _ in plain_values(config.slo)]

    assert [key for key in keys if not key.startswith(tuple(exported))] == []


def test_every_threshold_that_can_be_off_is_then_infinite(tmp_path: Path) -> None:
    thresholds = values_of(
        build_thresholds(
            config_of(
                tmp_path,
                "thresholds: {stale_operators: off, fairness: {gini: 'off'}, database_drops: off,"
                " clock_skew: off, release_paused: off}\n",
            )
        )
    )

    for name in (
        "stale_operators_ratio",
        "operator_gini_ratio",
        "database_drops",
        "clock_skew_seconds",
        "release_paused_seconds",
    ):
        assert thresholds[f"chatqueue_threshold_{name}"] == {"": math.inf}


@pytest.mark.parametrize("objective", [0.5, 0.7, 0.8, 0.9, 0.964, 0.97, 0.99, 0.9999])
def test_every_burn_rate_can_be_reached_and_none_is_a_promise_kept(objective: float) -> None:
    rates = burn_rates(objective)

    assert 1 < rates["warning"] < rates["critical"] < 1 / (1 - objective)


def test_an_objective_with_room_enough_has_the_usual_burn_rates() -> None:
    assert burn_rates(0.99) == {"warning": 6.0, "critical": 14.4}
    assert burn_rates(0.8) == pytest.approx({"warning": 2.0, "critical": 3.0})


def test_thresholds_and_parameters_say_the_same(tmp_path: Path) -> None:
    config = config_of(
        tmp_path,
        "thresholds:\n"
        "  customer_wait: {warning: off, critical: 7m}\n"
        "  oldest_age: {assigned: {warning: 3m, critical: off}}\n"
        "slo: {answer_within: 3m, objective: 0.95}\n"
        "checks: {grace: 5s}\n",
    )
    parameters = build_parameters(config)
    thresholds = values_of(build_thresholds(config))

    for labels, limit_s in thresholds["chatqueue_threshold_oldest_age_seconds"].items():
        assert parameters[f"oldest_age_{labels.replace(',', '_')}"] == limit_s
    for severity, limit_s in thresholds["chatqueue_threshold_customer_wait_seconds"].items():
        assert parameters[f"customer_wait_{severity}"] == limit_s
    assert thresholds["chatqueue_threshold_customer_wait_seconds"]["warning"] == math.inf
    assert thresholds["chatqueue_threshold_oldest_age_seconds"]["assigned,critical"] == math.inf
    for name, metric, value in (
        ("slo_answer_within", "slo_answer_within_seconds", 180),
        ("slo_objective", "slo_objective_ratio", 0.95),
        ("checks_grace", "checks_grace_seconds", 5),
    ):
        assert parameters[name] == thresholds[f"chatqueue_threshold_{metric}"][""] == value


def test_each_database_has_a_plan_of_its_own(tmp_path: Path) -> None:
    plans = build_plans(
        config_of(
            tmp_path,
            "poll: {connect_timeout: 9s}\nqueries: {overrides: {operators: {enabled: false}}}\n",
            "databases:\n"
            "  main: {dsn: 'host=a password=hunter2', labels: {team: x, env: y}}\n"
            "  other: {dsn: host=b}\n",
        )
    )

    assert list(plans) == ["main", "other"]
    main, other = plans.values()
    assert (main.database, main.dsn, main.labels) == (
        "main",
        "host=a password=hunter2",
        (("env", "y"), ("team", "x")),
    )
    assert (other.database, other.dsn, other.labels) == ("other", "host=b", ())
    assert main.connect_timeout_s == 9
    assert main.queries == other.queries
    assert "operators" not in {query.name for query in main.queries}
    assert "hunter2" not in repr(main)


def test_own_queries_join_the_built_in_ones_and_may_use_own_parameters(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mine.sql").write_text("SELECT %(region)s AS region, 1 AS v")
    (folder / "mine.yaml").write_text("metrics: [{name: mine, type: gauge, help: H, value: v}]")

    plans = build_plans(config_of(tmp_path, "queries: {dirs: [own], parameters: {region: eu}}\n"))

    names = [query.name for query in plans["main"].queries]
    assert {"mine", "state_clock"} <= set(names)
    assert plans["main"].parameters["region"] == "eu"


def test_a_parameter_may_not_hide_a_built_in_one(tmp_path: Path) -> None:
    config = config_of(tmp_path, "queries: {parameters: {mine: 1, stuck_hours: 1}}\n")

    assert faults_of(config) == [
        "the configuration: queries.parameters.stuck_hours: is built in, expected another name"
    ]


def test_a_database_label_may_not_hide_a_querys(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mine.sql").write_text("SELECT 'eu' AS r, 1 AS v, 2 AS w")
    (folder / "mine.yaml").write_text(
        "labels: {region: {column: r}}\n"
        "metrics:\n"
        "  - {name: mine, type: gauge, help: H, labels: [region], "
        "series: [{labels: {side: l}, value: v}, {labels: {side: r}, value: w}]}\n"
    )
    databases = "databases: {main: {dsn: host=a, labels: {region: eu, side: l, team: x}}}\n"

    assert faults_of(config_of(tmp_path, "queries: {dirs: [own]}\n", databases)) == [
        "the configuration: databases.main.labels.region: is a label of the query mine, "
        "expected another name",
        "the configuration: databases.main.labels.side: is a label of the query mine, "
        "expected another name",
    ]


def test_a_watch_without_any_query_is_refused(tmp_path: Path) -> None:
    overrides = ", ".join(f"{name}: {{enabled: false}}" for name in BUILT_IN)

    assert faults_of(config_of(tmp_path, f"queries: {{overrides: {{{overrides}}}}}\n")) == [
        "the configuration: queries.overrides: disables all, expected at least one query to run"
    ]
