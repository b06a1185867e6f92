"""Every exported name, its type and its labels, as promised to alerts, panels and other people.

The literals below are the promise. A change here is a breaking change: CHANGELOG.md lists it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.demo.simulation import Simulation
from exporter.release.facts import Decision
from tests.servers import Platform, require_tool
from tests.watch import Watch, run_watch, write_config

pytestmark = pytest.mark.parametrize("postgres_server", ["pg18"], indirect=True)

STATES = {"waiting_assignment", "assigned", "waiting_real_user_reply", "completed", "unknown"}
CLOCKED = {"waiting_assignment", "assigned", "waiting_real_user_reply", "unknown"}
SEVERITIES = {"warning", "critical"}
AT_MOST = {"15", "30", "60", "120", "300", "600", "1200", "3600", "14400", "86400", "+Inf"}
QUERIES = {
    "assignments",
    "contract_objects",
    "customer_wait",
    "database_errors",
    "disagreement",
    "fairness",
    "idle_detector",
    "invalid_chats",
    "invalid_states",
    "invalid_times",
    "invalid_users",
    "messages",
    "operator_load",
    "operators",
    "queue_status",
    "releases",
    "reply_clock",
    "staffing",
    "state_clock",
    "state_summary",
    "stuck_chats",
    "waits",
}
CHECKS = {
    "active_chat_of_blocked_user",
    "answered_but_waiting",
    "assigned_without_open_assignment",
    "assigned_without_operator",
    "closed_but_written_to",
    "completed_but_active",
    "inactive_operator",
    "lost_reply",
    "operator_mismatch",
    "operator_on_several_chats",
    "operator_on_unassigned_chat",
    "orphaned_assignment",
    "reply_without_timestamp",
    "several_open_assignments",
    "time_in_future",
    "time_infinite",
    "unknown_state",
}
OUTCOMES = {
    "replied",
    "customer_replied",
    "idle_timeout",
    "auto_release",
    "admin",
    "manual",
    "closed",
    "other",
}
FIGURES = {
    "summary_waiting_chats",
    "summary_assigned_chats",
    "summary_waiting_reply_chats",
    "queue_waiting_chats",
    "queue_assigned_chats",
    "queue_waiting_reply_chats",
    "queue_oldest_age_seconds",
    "queue_mean_age_seconds",
}
WINDOWS = {"1h", "24h"}
CONTRACT = {
    "column": {"chats.chat_state", "chats.last_operator_id", "chats.operator_replied_at"},
    "index": {
        "idx_chats_waiting_assignment",
        "idx_chats_last_operator",
        "idx_chats_operator_replied",
    },
    "constraint": {"chk_assigned_state_has_operator", "chk_waiting_reply_has_timestamp"},
    "function": {
        "get_assignment_queue_status",
        "detect_stuck_chats",
        "release_and_reassign_chat",
        "assign_chat_to_operator",
        "validate_chat_state_transition",
    },
    "view": {"chat_state_summary"},
}
CONTRACT_NAMES = {name for names in CONTRACT.values() for name in names}
RELATIONS = {
    "public.chats",
    "public.messages",
    "public.chat_assignments",
    "public.operators",
    "public.operator_activity",
    "public.platform_config",
    "public.chat_state_summary",
    "public.real_users",
}
REASONS = {
    "timeout",
    "locked",
    "permission",
    "missing",
    "row_security",
    "mismatch",
    "connection",
    "other",
}
ANY = None

# Name: type and labels besides `database`, each with all its values, or ANY.
DATABASE: dict[str, tuple[str, dict[str, set[str] | None]]] = {
    "chatqueue_chats": ("gauge", {"state": STATES}),
    "chatqueue_chats_with_operator": ("gauge", {"state": STATES}),
    "chatqueue_chats_with_last_operator": ("gauge", {"state": STATES}),
    "chatqueue_oldest_chat_created_timestamp_seconds": ("gauge", {"state": ANY}),
    "chatqueue_newest_chat_created_timestamp_seconds": ("gauge", {"state": ANY}),
    "chatqueue_platform_queue_chats": (
        "gauge",
        {"status": {"waiting", "assigned", "waiting_reply"}},
    ),
    "chatqueue_platform_queue_oldest_age_seconds": ("gauge", {}),
    "chatqueue_platform_queue_mean_age_seconds": ("gauge", {}),
    "chatqueue_platform_stuck_chats": ("gauge", {"state": STATES}),
    "chatqueue_state_oldest_age_seconds": ("gauge", {"state": CLOCKED}),
    "chatqueue_state_mean_age_seconds": ("gauge", {"state": CLOCKED}),
    "chatqueue_state_age_chats": ("gauge", {"state": CLOCKED, "at_most": AT_MOST}),
    "chatqueue_state_overdue_chats": ("gauge", {"state": CLOCKED, "severity": SEVERITIES}),
    "chatqueue_customer_oldest_wait_seconds": ("gauge", {}),
    "chatqueue_unanswered_chats": ("gauge", {}),
    "chatqueue_empty_waiting_chats": ("gauge", {}),
    "chatqueue_operators": (
        "gauge",
        {"status": {"available", "on_chat", "stale", "away", "disabled"}},
    ),
    "chatqueue_operator_chats": ("gauge", {"operator": ANY}),
    "chatqueue_idle_overdue_chats": ("gauge", {}),
    "chatqueue_idle_timeout_seconds": ("gauge", {}),
    "chatqueue_assignments_total": ("counter", {}),
    "chatqueue_messages_total": ("counter", {"sender": {"customer", "operator"}}),
    "chatqueue_releases_total": ("counter", {"outcome": OUTCOMES}),
    "chatqueue_idle_releases_total": ("counter", {"by": {"job", "page"}}),
    "chatqueue_state_transitions_total": (
        "counter",
        {
            "from_state": STATES - {"unknown"},
            "to_state": STATES - {"unknown"},
        },
    ),
    "chatqueue_same_operator_assignments_total": ("counter", {"avoidable": {"true", "false"}}),
    "chatqueue_waits_total": ("counter", {}),
    "chatqueue_waits_breached_total": ("counter", {}),
    "chatqueue_operator_window_assignments": ("gauge", {"window": WINDOWS}),
    "chatqueue_operator_share_max_ratio": ("gauge", {"window": WINDOWS}),
    "chatqueue_operator_gini_ratio": ("gauge", {"window": WINDOWS}),
    "chatqueue_invalid_chats": ("gauge", {"check": CHECKS}),
    "chatqueue_platform_disagreement": ("gauge", {"figure": FIGURES}),
    "chatqueue_operators_required": ("gauge", {}),
    "chatqueue_queue_drain_seconds": ("gauge", {}),
    "chatqueue_threshold_slo_answer_within_seconds": ("gauge", {}),
    "chatqueue_threshold_slo_objective_ratio": ("gauge", {}),
    "chatqueue_threshold_checks_grace_seconds": ("gauge", {}),
    "chatqueue_threshold_oldest_age_seconds": (
        "gauge",
        {"state": CLOCKED - {"unknown"}, "severity": SEVERITIES},
    ),
    "chatqueue_threshold_customer_wait_seconds": ("gauge", {"severity": SEVERITIES}),
    "chatqueue_threshold_data_age_seconds": ("gauge", {}),
    "chatqueue_threshold_idle_grace_seconds": ("gauge", {}),
    "chatqueue_threshold_stuck_seconds": ("gauge", {}),
    "chatqueue_threshold_stale_operators_ratio": ("gauge", {}),
    "chatqueue_threshold_operator_gini_ratio": ("gauge", {}),
    "chatqueue_threshold_operator_window_assignments": ("gauge", {}),
    "chatqueue_threshold_database_drops": ("gauge", {}),
    "chatqueue_threshold_clock_skew_seconds": ("gauge", {}),
    "chatqueue_threshold_release_paused_seconds": ("gauge", {}),
    "chatqueue_threshold_slo_burn_rate": ("gauge", {"severity": SEVERITIES}),
    "chatqueue_threshold_slo_breaches": ("gauge", {}),
    "chatqueue_contract_object_ok": ("gauge", {"kind": set(CONTRACT), "name": CONTRACT_NAMES}),
    "chatqueue_database_rollbacks_total": ("counter", {}),
    "chatqueue_database_deadlocks_total": ("counter", {}),
    "chatqueue_database_up": ("gauge", {}),
    "chatqueue_database_row_security_hidden": ("gauge", {"relation": RELATIONS}),
    "chatqueue_database_clock_skew_seconds": ("gauge", {}),
    "chatqueue_database_in_recovery": ("gauge", {}),
    "chatqueue_database_reconnections_total": ("counter", {}),
    "chatqueue_exporter_query_success": ("gauge", {"query": QUERIES}),
    "chatqueue_exporter_query_last_success_timestamp_seconds": ("gauge", {"query": QUERIES}),
    "chatqueue_exporter_query_duration_seconds": ("gauge", {"query": QUERIES}),
    "chatqueue_exporter_query_rows": ("gauge", {"query": QUERIES}),
    "chatqueue_exporter_query_interval_seconds": ("gauge", {"query": QUERIES}),
    "chatqueue_exporter_query_errors_total": ("counter", {"query": QUERIES, "reason": REASONS}),
}
HISTOGRAMS = (
    "chatqueue_answer_seconds",
    "chatqueue_first_response_seconds",
    "chatqueue_handle_seconds",
    "chatqueue_response_seconds",
)
BOUNDS = {"5.0", "10.0", "20.0", "30.0", "60.0", "120.0", "300.0", "600.0", "1200.0", "3600.0"}
DATABASE |= {
    f"{name}{suffix}": ("histogram", {"le": BOUNDS | {"+Inf"}} if suffix == "_bucket" else {})
    for name in HISTOGRAMS
    for suffix in ("_bucket", "_count", "_sum")
}
DECISIONS = {str(decision) for decision in Decision}
DATABASE |= {
    "chatqueue_release_mode": ("gauge", {"mode": {"off", "observe", "enforce"}}),
    "chatqueue_release_decisions_total": ("counter", {"decision": DECISIONS}),
    "chatqueue_release_last_timestamp_seconds": ("gauge", {}),
    "chatqueue_release_last_cycle_timestamp_seconds": ("gauge", {}),
}
# Without `database`.
OWN = {
    "chatqueue_exporter_build_info": ("gauge", {"version": ANY, "pythonversion": ANY}),
    "chatqueue_exporter_config_last_reload_successful": ("gauge", {}),
    "chatqueue_exporter_config_last_reload_success_timestamp_seconds": ("gauge", {}),
    "chatqueue_watch_started_timestamp_seconds": ("gauge", {}),
    "chatqueue_watch_ends_timestamp_seconds": ("gauge", {}),
    "chatqueue_notifications_total": (
        "counter",
        {"webhook": {"ops"}, "outcome": {"delivered", "rejected", "expired", "dropped"}},
    ),
    "chatqueue_notifications_failed_requests_total": (
        "counter",
        {"webhook": {"ops"}, "reason": {"connection", "timeout", "status"}},
    ),
    "chatqueue_notifications_queue_length": ("gauge", {"webhook": {"ops"}}),
}
KINDS = {
    "assignment_error",
    "state_transition_error",
    "cron_failure",
    "cron_unauthorized",
    "other",
}
LEVELS = {"error", "warning", "info", "debug", "other"}
DROPS = {"truncated", "long_line"}
OWN |= {
    "chatqueue_log_events_total": (
        "counter",
        {"source": {"app"}, "kind": KINDS, "level": LEVELS},
    ),
    "chatqueue_log_lines_total": ("counter", {"source": {"app"}}),
    "chatqueue_log_dropped_total": ("counter", {"source": {"app"}, "reason": DROPS}),
    "chatqueue_log_source_up": ("gauge", {"source": {"app"}}),
    "chatqueue_log_last_line_timestamp_seconds": ("gauge", {"source": {"app"}}),
}
# Of prometheus_client, as its users know them.
FOREIGN = ("process_", "python_info")


@pytest.fixture
def watch(platform: Platform, tmp_path: Path) -> Iterator[Watch]:
    """A daemon on a platform where an evening's worth of everything has happened."""
    Simulation(platform.dsn, seed=1, scenario="rush").seed_history()
    config = write_config(
        tmp_path,
        {"main": platform.dsn},
        watch={"started_at": "2026-11-23T08:00:00Z"},
        notify={"webhooks": {"ops": {"url": "http://127.0.0.1:1/"}}},
        logs={"files": {"app": "app.log"}},
    )
    with run_watch(config) as watch:
        yield watch


def test_names_types_and_labels_are_the_promised_ones(watch: Watch) -> None:
    families = {
        sample.name: (family.type, [s for s in family.samples if s.name == sample.name])
        for family in text_string_to_metric_families(watch.page())
        for sample in family.samples
        if not sample.name.startswith(FOREIGN)
    }

    assert sorted(families) == sorted({**DATABASE, **OWN})
    for name, (kind, labels) in {**DATABASE, **OWN}.items():
        promised = {**labels, **({"database": {"main"}} if name in DATABASE else {})}
        found_kind, samples = families[name]
        assert (name, found_kind) == (name, kind)
        for sample in samples:
            assert (name, set(sample.labels)) == (name, set(promised))
        for label, values in promised.items():
            found = {sample.labels[label] for sample in samples}
            assert (name, label, found) == (name, label, found if values is ANY else values)


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
