"""The dashboard for the 24 hours after a deployment: is the queue well, and if not, where."""

from __future__ import annotations

from typing import Any

from tools.dashboards import platform, releases, verdict
from tools.dashboards.board import make_board
from tools.dashboards.expressions import (
    happened,
    happened_in_range,
    label_verdicts,
    only_present,
    per_second,
    quantile,
    select,
    threshold,
    total,
    worst,
)
from tools.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    RED,
    YELLOW,
    Ask,
    Panel,
    make_heatmap,
    make_lines,
    make_stat,
    make_table,
)

WAITING = 'state="waiting_assignment"'
ASSIGNED = 'state="assigned"'


def make_watch() -> dict[str, Any]:
    """Return the dashboard `chat-queue-watch`."""
    return make_board(
        "chat-queue-watch",
        "Chat queue: 24-hour watch",
        "Is the queue well after the deployment? The first row answers, the others explain.",
        "now-24h",
        (
            ("", verdict.make_verdicts()),
            ("Users who wait", _waits()),
            ("Service level and speed", _speed()),
            ("Correctness", _correctness()),
            ("Releases", releases.make_releases()),
            ("The platform", platform.make_platform()),
            ("Against yesterday", _yesterday()),
        ),
    )


def _waits() -> list[Any]:
    oldest = "chatqueue_state_oldest_age_seconds"
    customer = "chatqueue_customer_oldest_wait_seconds"
    age = "chatqueue_state_age_chats"
    return [
        make_lines(
            Panel(
                "Chats by state",
                "Open work, stacked; users who have their answer are on the right axis. A "
                "growing orange area is a queue: see how many operators are on duty.",
                (
                    Ask(total("chatqueue_chats", WAITING), "waiting for an operator", YELLOW),
                    Ask(total("chatqueue_chats", ASSIGNED), "with an operator", BLUE),
                    Ask(
                        total("chatqueue_chats", 'state=~"completed|unknown"', over=("state",)),
                        "in a state that is not shown",
                        RED,
                        apart=True,
                    ),
                    Ask(
                        total("chatqueue_chats", 'state="waiting_real_user_reply"'),
                        "waiting for the user",
                        GREY,
                        right=True,
                    ),
                ),
                "short",
                ("ChatQueueOldestWait", "ChatQueueNotDraining"),
                width=12,
                decimals=0,
            ),
            stacked=True,
        ),
        make_lines(
            Panel(
                "Oldest wait in the queue",
                "How long the chat at the head of the queue has truly waited, with the configured "
                "limits. Above them: are operators available, and are chats taken?",
                (
                    Ask(worst(oldest, WAITING), "oldest wait", BLUE),
                    *_limits("oldest_age_seconds", WAITING),
                ),
                "s",
                ("ChatQueueOldestWait", "ChatQueueNoOperator"),
                width=12,
            )
        ),
        make_lines(
            Panel(
                "Longest unanswered user",
                "How long the most ignored user has waited for an answer, whatever happened to the "
                "chat meanwhile. High while the queue is short: an operator holds the chat.",
                (
                    Ask(worst(customer), "longest unanswered", BLUE),
                    *_limits("customer_wait_seconds"),
                ),
                "s",
                ("ChatQueueCustomerWait",),
            )
        ),
        make_lines(
            Panel(
                "Oldest chat with an operator",
                "How long the longest-held chat has been with its operator. Above the limits: the "
                "operator is gone or overloaded; see stale operators and the idle detector.",
                (
                    Ask(worst(oldest, ASSIGNED), "held longest", BLUE),
                    *_limits("oldest_age_seconds", ASSIGNED),
                ),
                "s",
                ("ChatQueueStuckAssigned", "ChatQueueIdleDetectorDown"),
            )
        ),
        make_heatmap(
            Panel(
                "How long chats have waited",
                "Waiting chats by how long they have waited, darker for more. A dark band that "
                "climbs is a queue that stands still; look at the operators.",
                (
                    Ask(
                        "sum by (le) (label_replace("
                        + total(age, WAITING, by=("at_most",))
                        + ', "le", "$1", "at_most", "(.+)"))',
                        "{{le}}",
                    ),
                ),
                "s",
                ("ChatQueueOldestWait", "ChatQueueNotDraining"),
            )
        ),
    ]


def _limits(name: str, *matchers: str) -> tuple[Ask, Ask]:
    return (
        Ask(threshold(name, *matchers, 'severity="warning"'), "warning"),
        Ask(threshold(name, *matchers, 'severity="critical"'), "critical"),
    )


def _speed() -> list[Any]:
    waits, breached = "chatqueue_waits_total", "chatqueue_waits_breached_total"
    target = threshold("slo_answer_within_seconds")
    kept = f"1 - {happened_in_range(breached)} / {happened_in_range(waits)}"
    objective = f"({threshold('slo_objective_ratio')})"
    missed = (f"{kept} < {objective}", "missed")
    return [
        make_stat(
            Panel(
                "Service level in this range",
                "Share of all waits in the time range that ended within the target, an open wait "
                "counting as missed once it is too late. Missed: the line beside it says when.",
                (
                    Ask(label_verdicts((f"{kept} >= {objective}", "kept"), missed), "{{verdict}}"),
                    Ask(threshold("slo_objective_ratio"), "to reach", BLUE),
                ),
                "percentunit",
                ("ChatQueueServiceLevelBurn",),
                width=4,
                colors={"kept": GREEN, "missed": RED},
                decimals=1,
            ),
            empty="no waits",
            empty_color=GREY,
        ),
        make_lines(
            Panel(
                "Service level",
                "Share of waits answered within the target, against the objective. A dip says when "
                "users were let down; compare with the chats and operators of that time.",
                (
                    Ask(f"1 - {happened(breached)} / {happened(waits)}", "kept", BLUE),
                    Ask(threshold("slo_objective_ratio"), "target"),
                ),
                "percentunit",
                ("ChatQueueServiceLevelBurn",),
                width=10,
                minimum_step="10m",
            )
        ),
        make_lines(
            Panel(
                "Message and assignment rate",
                "User messages, assignments and operator messages a minute. Assignments at 0 while "
                "chats wait and operators are available: the assignment itself is broken.",
                (
                    Ask(
                        f"60 * {per_second('chatqueue_messages_total', _sender('customer'))}",
                        "user messages",
                        YELLOW,
                    ),
                    Ask(
                        f"60 * {per_second('chatqueue_messages_total', _sender('operator'))}",
                        "operator messages",
                        GREEN,
                    ),
                    Ask(f"60 * {per_second('chatqueue_assignments_total')}", "assignments", BLUE),
                ),
                "cpm",
                ("ChatQueueNotDraining",),
                width=10,
            )
        ),
        make_lines(
            _quantiles(
                "Speed of answer",
                "How long chats waited until an operator took them: half of them at most p50, nine "
                "in ten at most p90. A rising p90 with operators free: look at the assignment.",
                "chatqueue_answer_seconds",
                Ask(target, "target"),
            )
        ),
        make_lines(
            _quantiles(
                "First response",
                "From a user's first message to the operator's first words. Far above the speed of "
                "answer: operators take chats and are slow to write.",
                "chatqueue_first_response_seconds",
            )
        ),
        make_lines(
            _quantiles(
                "Every response",
                "From a user's message to the next answer. Rising while the first response stays: "
                "running conversations suffer; see chats per operator.",
                "chatqueue_response_seconds",
            )
        ),
    ]


def _quantiles(title: str, text: str, name: str, *more: Ask) -> Panel:
    asks = (Ask(quantile(0.5, name), "p50", BLUE), Ask(quantile(0.9, name), "p90", PURPLE), *more)
    return Panel(title, text, asks, "s", ("ChatQueueServiceLevelBurn",), minimum_step="5m")


def _correctness() -> list[Any]:
    invalid, by_check = "chatqueue_invalid_chats", ("check",)
    repeats = "chatqueue_same_operator_assignments_total"
    return [
        make_table(
            Panel(
                "Invalid chats by check",
                "Chats whose columns contradict each other, now and at most in the range. Healthy "
                "is 0 everywhere; act first on lost_reply and closed_but_written_to: unseen users.",
                (
                    Ask(total(invalid, by=by_check)),
                    Ask(f"max by (check) (max_over_time({select(invalid)}[$__range]))"),
                ),
                "short",
                ("ChatQueueLostReply", "ChatQueueClosedChatWritten", "ChatQueueInvalidChats"),
                height=9,
                decimals=0,
            ),
            key=by_check,
            columns=("now", "at most"),
            judged={"now": [(None, GREEN), (1, RED)], "at most": [(None, GREEN), (1, YELLOW)]},
            sort_by="at most",
        ),
        make_lines(
            Panel(
                "Invalid chats",
                "The same over time. A step up at a deployment is that deployment's fault: roll it "
                "back before more chats are written.",
                (Ask(only_present(total(invalid, by=by_check), "check", "none"), "{{check}}"),),
                "short",
                ("ChatQueueLostReply", "ChatQueueClosedChatWritten", "ChatQueueInvalidChats"),
                height=9,
                decimals=0,
            )
        ),
        make_lines(
            Panel(
                "Same operator again",
                "Assignments that gave a chat back to the operator who had it last. Red ones were "
                "avoidable, another chat waited: after the deployment there must be none.",
                (
                    Ask(happened(repeats, 'avoidable="true"'), "avoidable", RED),
                    Ask(happened(repeats, 'avoidable="false"'), "no other chat waited", GREY),
                ),
                "short",
                ("ChatQueueAvoidableRepeat",),
                height=9,
                minimum_step="5m",
            ),
            bars=True,
        ),
    ]


def _yesterday() -> list[Any]:
    waiting = total("chatqueue_chats", WAITING)
    customer = worst("chatqueue_customer_oldest_wait_seconds")
    pace = f"60 * {per_second('chatqueue_assignments_total')}"
    return [
        _against_yesterday(
            "Waiting chats",
            "Chats without an operator, today and 24 hours before. Worse at the same hour: what "
            "changed is not the time of day.",
            waiting,
            "short",
            "ChatQueueOldestWait",
        ),
        _against_yesterday(
            "Longest unanswered user",
            "The most ignored user's wait, today and 24 hours before. Lasting above yesterday: "
            "compare operators on duty with those needed.",
            customer,
            "s",
            "ChatQueueCustomerWait",
        ),
        _against_yesterday(
            "Assignments",
            "Chats taken a minute, today and 24 hours before. Fewer while more chats wait: the "
            "assignment or the operators, not the traffic.",
            pace,
            "cpm",
            "ChatQueueNotDraining",
        ),
    ]


def _against_yesterday(title: str, text: str, expr: str, unit: str, alert: str) -> Any:
    before = expr.replace("})", "} offset 1d)").replace("]", "] offset 1d")
    asks = (Ask(expr, "today", BLUE), Ask(before, "yesterday"))
    panel = Panel(f"{title}: yesterday", text, asks, unit, (alert,), minimum_step="5m")
    return make_lines(panel)


def _sender(value: str) -> str:
    return f'sender="{value}"'
