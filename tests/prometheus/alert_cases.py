"""What makes each alert fire, and what must not: a line or two an alert.

Values are promtool's: `400x40` is 41 samples of 400, 15 s apart. Series carry the labels of a real
scrape besides those written here. `test_rules.py` makes from each case: it fires on time and not an
interval before, stays quiet just below, survives a missed scrape and a restart of the daemon, and
says nothing where its threshold is off or gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Series = Mapping[str, str]

INTERVAL_S = 15
TARGET = {"job": "chatqueue", "instance": "watch:10847"}
DATABASE = {"database": "main", "env": "production"}


@dataclass(frozen=True)
class Case:
    """One alert at one severity.

    Attributes:
        alert: Name.
        severity: Of the rule.
        fires_s: When it first fires, in seconds after the first sample; its `for` included.
        firing: Series that make it fire.
        quiet: Series in their place that must not, just below the limit.
        description: What the page says.
        labels: Of the alert, beyond those of the rule and of the series' target.
        threshold: Name and labels of the threshold series; empty where it has none.
        limit: Value of the threshold.
        restart: Series of a restart where it matters when it comes; by default it comes half-way
            to `fires_s`, and counters begin again at 0.
        has_database: Whether its series carry the labels of a database.
    """

    alert: str
    severity: str
    fires_s: int
    firing: Series
    quiet: Series
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)
    threshold: str = ""
    limit: str = ""
    restart: Series = field(default_factory=dict)
    has_database: bool = True

    def __str__(self) -> str:
        return f"{self.alert}-{self.severity}"


def _age(alert: str, state: str, severity: str, limit: int, fires_s: int, says: str) -> Case:
    """An alert on the oldest age in a state."""
    name = f'chatqueue_state_oldest_age_seconds{{state="{state}"}}'
    return Case(
        alert,
        severity,
        fires_s,
        {name: f"{limit + 1}x80"},
        {name: f"{limit}x80"},
        says,
        labels={"state": state},
        threshold="chatqueue_threshold_oldest_age_seconds"
        f'{{state="{state}", severity="{severity}"}}',
        limit=str(limit),
    )


def _wait(severity: str, limit: int, says: str) -> Case:
    name = "chatqueue_customer_oldest_wait_seconds"
    return Case(
        "ChatQueueCustomerWait",
        severity,
        60,
        {name: f"{limit + 1}x80"},
        {name: f"{limit}x80"},
        f"A user of main has been without an answer for {says}, in the queue or with an operator.",
        threshold=f'chatqueue_threshold_customer_wait_seconds{{severity="{severity}"}}',
        limit=str(limit),
    )


WAITING = 'chatqueue_state_oldest_age_seconds{state="waiting_assignment"}'
ASSIGNED = 'chatqueue_state_oldest_age_seconds{state="assigned"}'
AVAILABLE = 'chatqueue_operators{status="available"}'
ON_CHAT = 'chatqueue_operators{status="on_chat"}'
IDLE = "chatqueue_operator_idle_max_seconds"
STALE = 'chatqueue_operators{status="stale"}'
CLOSED = 'chatqueue_releases_total{outcome="closed"}'
REPEATS = 'chatqueue_same_operator_assignments_total{avoidable="true"}'
DEFECTS = 'chatqueue_release_decisions_total{decision="defect"}'
CYCLE_AT = "chatqueue_release_last_cycle_timestamp_seconds"
ENFORCE = 'chatqueue_release_mode{mode="enforce"}'
GINI = 'chatqueue_operator_gini_ratio{window="24h"}'
TAKEN = 'chatqueue_operator_window_assignments{window="24h"}'
LATE, ALL = "chatqueue_waits_breached_total", "chatqueue_waits_total"
SUCCESS_AT = 'chatqueue_exporter_query_last_success_timestamp_seconds{query="state_clock"}'
SLOW_AT = 'chatqueue_exporter_query_last_success_timestamp_seconds{query="disagreement"}'
EVERY = 'chatqueue_exporter_query_interval_seconds{query="state_clock"}'
SLOW_EVERY = 'chatqueue_exporter_query_interval_seconds{query="disagreement"}'
UP = "chatqueue_database_up"
PAUSED = "chatqueue_release_paused"
DROPS = "chatqueue_threshold_database_drops"
CONTRACT = 'chatqueue_contract_object_ok{kind="index",name="idx_chats_last_operator"}'
LOST_NOTICES = 'chatqueue_notifications_total{webhook="ops",outcome="expired"}'

CASES = (
    _age(
        "ChatQueueOldestWait",
        "waiting_assignment",
        "critical",
        300,
        60,
        "The oldest chat in the queue of main has waited 5m 1s for an operator.",
    ),
    _age(
        "ChatQueueOldestWait",
        "waiting_assignment",
        "warning",
        120,
        60,
        "The oldest chat in the queue of main has waited 2m 1s for an operator.",
    ),
    _wait("critical", 600, "10m 1s"),
    _wait("warning", 300, "5m 1s"),
    _age(
        "ChatQueueStuckAssigned",
        "assigned",
        "critical",
        1200,
        60,
        "A chat of main has been with its operator, unanswered, for 20m 1s.",
    ),
    _age(
        "ChatQueueStuckAssigned",
        "assigned",
        "warning",
        600,
        60,
        "A chat of main has been with its operator, unanswered, for 10m 1s.",
    ),
    _age(
        "ChatQueueUserSilent",
        "waiting_real_user_reply",
        "critical",
        7200,
        300,
        "A chat of main has waited 2h 0m 1s for its user to write back.",
    ),
    _age(
        "ChatQueueUserSilent",
        "waiting_real_user_reply",
        "warning",
        3600,
        300,
        "A chat of main has waited 1h 0m 1s for its user to write back.",
    ),
    Case(
        "ChatQueueNoOperator",
        "critical",
        120,
        {AVAILABLE: "0x40", ON_CHAT: "0x40", STALE: "3x40", WAITING: "20x40"},
        {AVAILABLE: "0x40", ON_CHAT: "1x40", STALE: "3x40", WAITING: "20x40"},
        "Chats wait in main, and no operator is available or on a chat.",
    ),
    Case(
        "ChatQueueNotDraining",
        "critical",
        660,
        {"chatqueue_assignments_total": "7x80", WAITING: "20x80", AVAILABLE: "1x80"},
        {"chatqueue_assignments_total": "7x30 8x30 9x9", WAITING: "20x80", AVAILABLE: "1x80"},
        "For 10 minutes chats have waited in main while operators were available, and none was "
        "assigned.",
    ),
    Case(
        "ChatQueueOperatorsIdleWhileUsersWait",
        "warning",
        300,
        {IDLE: "301x80", WAITING: "20x80"},
        # At the limit, and then beyond it while nobody waits.
        {IDLE: "300x39 900x40", WAITING: "20x39 0x40"},
        "An operator of main is available and has been without a chat for 5m 1s, while users wait.",
        threshold="chatqueue_threshold_operator_idle_seconds",
        limit="300",
    ),
    Case(
        "ChatQueueLostReply",
        "critical",
        60,
        {'chatqueue_invalid_chats{check="lost_reply"}': "1x40"},
        {
            'chatqueue_invalid_chats{check="lost_reply"}': "0x40",
            'chatqueue_invalid_chats{check="unknown_state"}': "3x40",
        },
        "1 chats of main wait for their user, whose message is the last one.",
        labels={"check": "lost_reply"},
    ),
    Case(
        "ChatQueueClosedChatWritten",
        "critical",
        60,
        {'chatqueue_invalid_chats{check="closed_but_written_to"}': "2x40"},
        {
            'chatqueue_invalid_chats{check="closed_but_written_to"}': "0x40",
            'chatqueue_invalid_chats{check="lost_reply"}': "3x40",
        },
        "Into 2 closed chats of main their users wrote in the last day, after the end.",
        labels={"check": "closed_but_written_to"},
    ),
    Case(
        "ChatQueueInvalidChats",
        "warning",
        120,
        {'chatqueue_invalid_chats{check="unknown_state"}': "2x40"},
        {
            'chatqueue_invalid_chats{check="unknown_state"}': "0x40",
            'chatqueue_invalid_chats{check="lost_reply"}': "3x40",
            'chatqueue_invalid_chats{check="closed_but_written_to"}': "3x40",
        },
        "2 chats of main fail the check unknown_state.",
        labels={"check": "unknown_state"},
    ),
    Case(
        "ChatQueueIdleDetectorDown",
        "warning",
        180,
        {"chatqueue_idle_overdue_chats": "1x40"},
        {"chatqueue_idle_overdue_chats": "0x40"},
        "1 chats of main are with operators who have left, beyond the idle timeout and its grace.",
    ),
    Case(
        "ChatQueueChatClosed",
        "warning",
        150,
        {CLOSED: "0x9 1x60"},
        {CLOSED: "3x70", 'chatqueue_releases_total{outcome="replied"}': "0+1x70"},
        "In the last 10 minutes a release in main closed a chat for good; its user was shut out.",
        labels={"outcome": "closed"},
        restart={CLOSED: "0x3 1x3 stale stale 0x60"},
    ),
    Case(
        "ChatQueueAvoidableRepeat",
        "warning",
        150,
        {REPEATS: "0x9 1x60"},
        {
            REPEATS: "3x70",
            'chatqueue_same_operator_assignments_total{avoidable="false"}': "0+1x70",
        },
        "In the last 10 minutes an operator of main was given the chat they had last, although "
        "another chat waited.",
        labels={"avoidable": "true"},
        restart={REPEATS: "0x3 1x3 stale stale 0x60"},
    ),
    Case(
        "ChatQueueUnfairDistribution",
        "warning",
        900,
        {GINI: "0.41x80", TAKEN: "100x80"},
        {GINI: "0.4x80", TAKEN: "100x80"},
        "The Gini coefficient of a day's assignments in main is 0.41; 0 is even, near 1 is all for "
        "one.",
        labels={"window": "24h"},
        threshold="chatqueue_threshold_operator_gini_ratio",
        limit="0.4",
    ),
    Case(
        "ChatQueueHeartbeatsStale",
        "warning",
        300,
        {AVAILABLE: "1x40", ON_CHAT: "1x40", STALE: "3x40", ASSIGNED: "20x40"},
        {AVAILABLE: "1x40", ON_CHAT: "2x40", STALE: "3x40", ASSIGNED: "20x40"},
        "60% of the operators on duty in main have shown no sign of life for the idle timeout.",
        threshold="chatqueue_threshold_stale_operators_ratio",
        limit="0.5",
    ),
    Case(
        "ChatQueueServiceLevelBurn",
        "critical",
        135,
        {LATE: "0+6x40", ALL: "0+10x40"},
        {LATE: "0+5x40", ALL: "0+10x40"},
        "Over the last hour users of main waited too long 6.0 times as often as the objective "
        "allows.",
        threshold='chatqueue_threshold_slo_burn_rate{severity="critical"}',
        limit="5.5",
    ),
    Case(
        "ChatQueueServiceLevelBurn",
        "warning",
        930,
        {LATE: "0+4x80", ALL: "0+10x80"},
        {LATE: "0+3x80", ALL: "0+10x80"},
        "Over the last 6 hours users of main waited too long 4.0 times as often as the objective "
        "allows.",
        threshold='chatqueue_threshold_slo_burn_rate{severity="warning"}',
        limit="3.25",
    ),
    Case(
        "ChatQueueReleaseDefect",
        "warning",
        150,
        {DEFECTS: "0x9 1x60"},
        {DEFECTS: "2x70", 'chatqueue_release_decisions_total{decision="released"}': "0+1x70"},
        "In the last 15 minutes a release in main went otherwise than expected and was rolled "
        "back.",
        labels={"decision": "defect"},
        restart={DEFECTS: "0x3 1x3 stale stale 0x60"},
    ),
    Case(
        "ChatQueueReleaseBreakerTripped",
        "warning",
        60,
        {"chatqueue_release_breaker_tripped": "1x40"},
        {"chatqueue_release_breaker_tripped": "0x40"},
        "Auto-release in main holds: so many stuck chats at once are an outage, a bad clock or a "
        "bad deployment.",
    ),
    Case(
        "ChatQueueReleaseWouldClose",
        "warning",
        300,
        {"chatqueue_release_would_close_chats": "2x40"},
        {"chatqueue_release_would_close_chats": "0x40"},
        "2 stuck chats of main were reassigned so often that the platform's release would close "
        "them for good.",
    ),
    Case(
        "ChatQueueReleasePausedTooLong",
        "warning",
        3600,
        {PAUSED: "1x260"},
        {PAUSED: "1x239 0x20"},
        "In the last day auto-release of main was paused for longer than "
        "thresholds.release_paused, and still is.",
        threshold="chatqueue_threshold_release_paused_seconds",
        limit="3600",
    ),
    Case(
        "ChatQueueReleaseWithoutControl",
        "warning",
        300,
        {ENFORCE: "1x40", UP: "1x40"},
        {ENFORCE: "1x40", UP: "1x40", "chatqueue_release_tokens": "0x40"},
        "In main release.mode is enforce, but nothing can be released: chatqueue.release_control "
        "cannot be read.",
        labels={"mode": "enforce"},
    ),
    Case(
        "ChatQueueReleaseStalled",
        "warning",
        210,
        {CYCLE_AT: "0x40", EVERY: "15x40", UP: "1x40", ENFORCE: "1x40"},
        {CYCLE_AT: "0+15x40", EVERY: "15x40", UP: "1x40", ENFORCE: "1x40"},
        "For 3m 15s longer than the interval the releaser of main has finished no cycle, though "
        "the database answers.",
        threshold="chatqueue_threshold_data_age_seconds",
        limit="120",
    ),
    Case(
        "ChatQueueExporterDown",
        "critical",
        120,
        {"up": "0x40"},
        {"up": "0x6 1 0x6 1 0x6 1 0x6"},
        "The exporter watch:10847 has not answered for 2 minutes.",
        has_database=False,
    ),
    Case(
        "ChatQueueExporterAbsent",
        "critical",
        300,
        {},
        {"up": "1x10 stale _x10 1x10 stale _x10 1x10"},
        "Prometheus has no target of the job chatqueue.",
        has_database=False,
    ),
    Case(
        "ChatQueueDatabaseDown",
        "critical",
        60,
        {UP: "0x40"},
        {UP: "0x3 1 0x3 1 0x3 1 0x3"},
        "The exporter cannot reach the database main.",
    ),
    Case(
        "ChatQueueDatabaseUnstable",
        "critical",
        150,
        {UP: "1x2 0 1x2 0 1x1 0 1x40"},
        {UP: "1x3 0 1x2 0 1x40"},
        "The database main was lost 3 times in the last 15 minutes.",
        threshold=DROPS,
        limit="3",
    ),
    Case(
        "ChatQueueDataStale",
        "critical",
        210,
        {SUCCESS_AT: "0x40", EVERY: "15x40", SLOW_AT: "-300x40", SLOW_EVERY: "300x40"},
        {SUCCESS_AT: "0+15x40", EVERY: "15x40", SLOW_AT: "-300x40", SLOW_EVERY: "300x40"},
        "No query on main has succeeded for 3m 15s longer than its interval.",
        threshold="chatqueue_threshold_data_age_seconds",
        limit="120",
    ),
    Case(
        "ChatQueueQueryFailing",
        "warning",
        300,
        {'chatqueue_exporter_query_success{query="waits"}': "0x40"},
        {'chatqueue_exporter_query_success{query="waits"}': "0x10 1 0x10 1 0x10"},
        "The query waits on main gives no samples.",
        labels={"query": "waits"},
    ),
    Case(
        "ChatQueueRowsHidden",
        "critical",
        120,
        {'chatqueue_database_row_security_hidden{relation="public.chats"}': "1x40"},
        {'chatqueue_database_row_security_hidden{relation="public.chats"}': "0x40"},
        "In main row-level security hides rows of public.chats from the exporter's role.",
        labels={"relation": "public.chats"},
    ),
    Case(
        "ChatQueueCountsDisagree",
        "critical",
        660,
        {'chatqueue_platform_disagreement{figure="queue_waiting_chats"}': "-3x60"},
        {
            'chatqueue_platform_disagreement{figure="queue_waiting_chats"}': "0x60",
            'chatqueue_platform_disagreement{figure="queue_oldest_age_seconds"}': "90x60",
        },
        "In main the platform's own counts and the exporter's differ by 3 chats: one of the two "
        "does not see every chat.",
    ),
    Case(
        "ChatQueueRuleInputsMissing",
        "critical",
        300,
        {UP: "1x40", 'chatqueue_exporter_query_success{query="customer_wait"}': "0x40"},
        {
            UP: "1x40",
            'chatqueue_exporter_query_success{query="customer_wait"}': "0x40",
            "chatqueue_customer_oldest_wait_seconds": "0x40",
        },
        "main is up and gives no chatqueue_customer_oldest_wait_seconds; the alerts that need it "
        "are blind.",
        labels={"query": "customer_wait", "input": "chatqueue_customer_oldest_wait_seconds"},
    ),
    Case(
        "ChatQueueFixBroken",
        "warning",
        120,
        {CONTRACT: "0x40"},
        {CONTRACT: "1x40"},
        "In main the index idx_chats_last_operator is no longer as the assignment fix made it.",
        labels={"kind": "index", "name": "idx_chats_last_operator"},
    ),
    Case(
        "ChatQueueReloadFailed",
        "warning",
        300,
        {"chatqueue_exporter_config_last_reload_successful": "0x40"},
        {"chatqueue_exporter_config_last_reload_successful": "1x40"},
        "The exporter watch:10847 goes on with its previous configuration.",
        has_database=False,
    ),
    Case(
        "ChatQueueLogNotFollowed",
        "warning",
        600,
        {'chatqueue_log_source_up{source="platform"}': "0x80"},
        {'chatqueue_log_source_up{source="platform"}': "0x30 1 0x30 1 0x17"},
        "The exporter watch:10847 cannot read the file of the log source platform.",
        labels={"source": "platform"},
        has_database=False,
    ),
    Case(
        "ChatQueueNoticeLost",
        "warning",
        150,
        {LOST_NOTICES: "0x9 1x60"},
        {
            LOST_NOTICES: "3x70",
            'chatqueue_notifications_total{webhook="ops",outcome="delivered"}': "0+1x70",
        },
        "In the last 15 minutes a notice for the webhook ops was not delivered (expired).",
        labels={"webhook": "ops", "outcome": "expired"},
        restart={LOST_NOTICES: "0x3 1x3 stale stale 0x60"},
        has_database=False,
    ),
    Case(
        "ChatQueueClockSkew",
        "warning",
        600,
        {"chatqueue_database_clock_skew_seconds": "-6x80"},
        {"chatqueue_database_clock_skew_seconds": "-5x80"},
        "The clocks of main and the exporter's host are 6s apart.",
        threshold="chatqueue_threshold_clock_skew_seconds",
        limit="5",
    ),
)
