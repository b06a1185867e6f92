"""The first row of the watch: eight panels that say in words and colors how the queue is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from exporter.metrics.figures import FIGURES
from tools.dashboards.expressions import (
    alerts,
    gauge,
    judge,
    judge_by_one,
    label_verdicts,
    select,
    total,
    worst,
)
from tools.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    RED,
    YELLOW,
    Ask,
    Panel,
    make_stat,
    words,
)

_CALM_LATE = ("calm", "late", "far too late")
_ANSWERED = ("users are answered", "a user waits long", "unanswered too long")
_WORD_COLORS = {
    "calm": GREEN,
    "late": YELLOW,
    "far too late": RED,
    **dict(zip(_ANSWERED, (GREEN, YELLOW, RED), strict=True)),
    "data is fresh": GREEN,
    "data is stale": RED,
    "free operators": GREEN,
    "all are busy": YELLOW,
    "none on duty": GREY,
    "none, users wait": RED,
}


def make_verdicts() -> list[Any]:
    """Return the row, 24 columns in all."""
    return [
        firing_alerts(),
        data_age(),
        database_up(),
        _watch_time(),
        _oldest_wait(),
        _waiting(),
        _available(),
        _invalid(),
    ]


def firing_alerts() -> Any:
    """How many alerts fire; that the rules are loaded is part of the answer."""
    return make_stat(
        _panel(
            "Firing alerts",
            "Alerts of this product that fire now. Begin with the critical ones, at their "
            "runbooks. Without the alert rules in Prometheus there is no value and no page.",
            (Ask(alerts("critical"), "critical"), Ask(alerts("warning"), "warning")),
            "short",
            ("ChatQueueWatchdog",),
        ),
        steps=[(None, GREEN), (1, RED)],
        warnings=["warning"],
        empty="no alert rules",
    )


def data_age() -> Any:
    """How old the newest answer of the database is, judged by the configured limit."""
    success = "chatqueue_exporter_query_last_success_timestamp_seconds"
    # Two clocks may differ slightly.
    age = f"clamp_min (max (time() - {gauge(success)}), 0)"
    return make_stat(
        _panel(
            "Data",
            "Age of the newest metrics. Stale or missing: nothing on this page can be trusted; go "
            "to the exporter's health first.",
            (Ask(judge_by_one(age, "data_age_seconds", words=_words("data is")), "{{verdict}}"),),
            "s",
            ("ChatQueueDataStale", "ChatQueueExporterDown"),
            decimals=0,
        ),
    )


def database_up() -> Any:
    """Whether the database answers; -1 where no exporter is there to ask it."""
    down = f"(min ({select('up')}) == 0) - 1"
    return make_stat(
        _panel(
            "Database",
            "Whether every chosen database answers now. DOWN: the platform itself is likely down; "
            "call the database administrators. EXPORTER DOWN: the queue is not monitored.",
            (Ask(f"min ({select(FIGURES['database_up'].metric)})\nor\n{down}"),),
            "bool_yes_no",
            ("ChatQueueDatabaseDown", "ChatQueueExporterDown"),
        ),
        mappings=[
            words({"1": ("UP", GREEN), "0": ("DOWN", RED), "-1": ("EXPORTER DOWN", RED)}),
        ],
        names=False,
        empty="NO EXPORTER",
    )


def _watch_time() -> Any:
    started = f"max ({select('chatqueue_watch_started_timestamp_seconds')})"
    ends = f"max ({select('chatqueue_watch_ends_timestamp_seconds')})"
    return make_stat(
        _panel(
            "Watch",
            "How long the watch has lasted, and how much of it is left. No watch: set "
            "watch.started_at in the exporter's configuration to the time of the deployment.",
            (
                Ask(f"time() - {started}", "on watch", BLUE),
                Ask(f"clamp_min({ends} - time(), 0)", "to go", GREY),
            ),
            "s",
            ("ChatQueueWatchdog",),
            decimals=1,
        ),
        empty="no watch",
        empty_color=GREY,
    )


def _oldest_wait() -> Any:
    return make_stat(
        _panel(
            "Oldest wait",
            "The longest wait in the queue, and the longest that a user has had no answer, judged "
            "by the configured limits. Late: which operators are free? Unanswered too long in a "
            "short queue: which operator has the chat?",
            (
                Ask(_judge("oldest_waiting", _CALM_LATE), "{{verdict}}"),
                Ask(_judge("customer_wait", _ANSWERED), "{{verdict}}"),
            ),
            "s",
            ("ChatQueueOldestWait", "ChatQueueCustomerWait", "ChatQueueNoOperator"),
        ),
    )


def _waiting() -> Any:
    return make_stat(
        _panel(
            "Waiting chats",
            "Chats without an operator, and how many of them are past the first limit. Overdue "
            "ones: one is an overlooked chat, many are a backlog.",
            (
                Ask(_total("waiting"), "waiting", BLUE),
                Ask(_total("overdue_waiting", severity="warning"), "overdue"),
            ),
            "short",
            ("ChatQueueOldestWait", "ChatQueueNotDraining"),
            decimals=0,
        ),
        steps=[(None, GREEN), (1, RED)],
    )


def _available() -> Any:
    free, busy, waiting = map(_total, ("available", "on_chat", "waiting"))
    absent = f"({free} == 0) and on () ({busy} == 0)"
    judged = label_verdicts(
        (f"{free} > 0", "free operators"),
        (f"({free} == 0) and on () ({busy} > 0)", "all are busy"),
        (f"{absent} and on () ({waiting} > 0)", "none, users wait"),
        (f"{absent} and on () ({waiting} == 0)", "none on duty"),
    )
    return make_stat(
        _panel(
            "Operators",
            "Operators who could take a chat now, and those on duty without a sign of life. None "
            "while users wait: call operators in. Stale ones may hold chats and be gone.",
            (
                Ask(judged, "{{verdict}}"),
                Ask(_total("stale"), "stale"),
            ),
            "short",
            ("ChatQueueNoOperator", "ChatQueueHeartbeatsStale"),
            decimals=0,
        ),
        steps=[(None, GREEN), (1, RED)],
        warnings=["stale"],
    )


def _invalid() -> Any:
    lost = " + ".join(
        total(FIGURES["invalid"].metric, f'check="{check}"')
        for check in ("lost_reply", "closed_but_written_to")
    )
    return make_stat(
        _panel(
            "Invalid chats",
            "Chats whose state contradicts itself, and those among them whose user waits "
            "unseen. Above 0 after a deployment: suspect it; the table below names the check.",
            (
                Ask(total(FIGURES["invalid"].metric, over=("check",)), "invalid"),
                Ask(lost, "unseen users"),
            ),
            "short",
            ("ChatQueueLostReply", "ChatQueueClosedChatWritten", "ChatQueueInvalidChats"),
            decimals=0,
        ),
        steps=[(None, GREEN), (1, RED)],
    )


def _panel(
    title: str, text: str, asks: tuple[Ask, ...], unit: str, runbooks: tuple[str, ...], **more: Any
) -> Panel:
    return Panel(title, text, asks, unit, runbooks, width=3, height=5, colors=_WORD_COLORS, **more)


def _total(key: str, **labels: str) -> str:
    """A value of the table, summed over databases; labels take the place of the table's."""
    figure = replace(FIGURES[key], labels={**FIGURES[key].labels, **labels})
    return total(figure.metric, *figure.matchers)


def _judge(key: str, verdicts: tuple[str, str, str]) -> str:
    """The highest value over databases, judged by the table's limit."""
    figure = FIGURES[key]
    limit = figure.limit.removeprefix("chatqueue_threshold_")
    value = worst(figure.metric, *figure.matchers)
    return judge(value, limit, *figure.matchers, words=verdicts)


def _words(subject: str) -> tuple[str, str]:
    return f"{subject} fresh", f"{subject} stale"
