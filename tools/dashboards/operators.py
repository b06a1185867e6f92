"""The dashboard on the people: who is there, who does how much, and is it fair."""

from __future__ import annotations

from typing import Any

from tools.dashboards.board import make_board
from tools.dashboards.expressions import gauge, happened, quantile, threshold, total, worst
from tools.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    RED,
    YELLOW,
    Ask,
    Panel,
    make_bars,
    make_lines,
    make_stat,
    never,
)

_OPERATORS = "chatqueue_operators"
_ON_DUTY = total(_OPERATORS, 'status=~"available|on_chat"', over=("status",))
_STATUS_COLORS = {
    "available": GREEN,
    "on_chat": BLUE,
    "stale": RED,
    "away": GREY,
    "disabled": "#4a4a4a",
}


def make_operators() -> dict[str, Any]:
    """Return the dashboard `chat-queue-operators`."""
    return make_board(
        "chat-queue-operators",
        "Chat queue: operators and fairness",
        "Who is on duty, who does how much, and whether the work is shared out fairly.",
        "now-24h",
        (("", _now()), ("On duty", _duty()), ("Fairness", _fairness()), ("Work", _work())),
    )


def _now() -> list[Any]:
    return [
        _count(
            "available",
            (YELLOW, GREEN),
            "could take a chat. 0 while users wait: call people in.",
        ),
        _count("on_chat", (BLUE, BLUE), "have a chat. All, and users wait: too few on duty."),
        make_stat(
            _small(
                "Stale",
                "Operators on duty by their own word, without a sign of life. One is a closed "
                "laptop; many at once are heartbeats that no longer arrive.",
                (Ask(total(_OPERATORS, 'status="stale"')),),
                "short",
                "ChatQueueHeartbeatsStale",
            ),
            steps=[(None, GREEN), (1, YELLOW)],
            names=False,
        ),
        make_stat(
            _small(
                "Needed for the target",
                "Operators needed to keep the service level with the traffic of the last while "
                "(Erlang C). More than are on duty: call people in.",
                (Ask(total("chatqueue_operators_required")),),
                "short",
                "ChatQueueServiceLevelBurn",
            ),
            steps=[(None, PURPLE)],
            names=False,
            empty="no traffic",
            empty_color=GREY,
        ),
        make_stat(
            _small(
                "Occupancy",
                "Share of the operators on duty who have a chat. Near 100 % none is left for the "
                "next user; low while users wait: the assignment does not work.",
                (Ask(_occupancy()),),
                "percentunit",
                "ChatQueueNotDraining",
            ),
            steps=[(None, GREEN), (0.85, YELLOW), (0.98, RED)],
            names=False,
            empty="none on duty",
            empty_color=GREY,
        ),
        make_stat(
            _small(
                "Queue empty in",
                "How long the queue needs at the present pace. Never: it is not getting shorter; "
                "compare operators on duty with those needed.",
                (Ask(worst("chatqueue_queue_drain_seconds")),),
                "s",
                "ChatQueueNotDraining",
            ),
            steps=[(None, GREEN), (600, YELLOW), (1800, RED)],
            mappings=[never()],
            names=False,
            empty="not known",
            empty_color=GREY,
        ),
    ]


def _duty() -> list[Any]:
    return [
        make_lines(
            Panel(
                "Operators by status",
                "Every operator once. Red is stale: on duty by their own word, without a sign of "
                "life; the platform hands them chats that stay unanswered.",
                (Ask(total(_OPERATORS, 'status!="disabled"', by=("status",)), "{{status}}"),),
                "short",
                ("ChatQueueHeartbeatsStale", "ChatQueueNoOperator"),
                colors=_STATUS_COLORS,
                decimals=0,
            ),
            stacked=True,
        ),
        make_lines(
            Panel(
                "On duty and needed",
                "Operators on duty, and how many the traffic needs for the service level. Below "
                "the line users wait longer than promised: plan more people for that hour.",
                (
                    Ask(_ON_DUTY, "on duty", BLUE),
                    Ask(total("chatqueue_operators_required"), "needed"),
                ),
                "short",
                ("ChatQueueServiceLevelBurn",),
                decimals=0,
            )
        ),
        make_lines(
            Panel(
                "Occupancy",
                "Share of the operators on duty who have a chat. Lasting above 85 % wears people "
                "out; low while users wait says that the assignment does not work.",
                (Ask(_occupancy(), "occupancy", BLUE),),
                "percentunit",
                ("ChatQueueNotDraining",),
            )
        ),
        make_lines(
            Panel(
                "Longest idle operator",
                "How long the available operator who has waited longest has been without a chat. "
                "Above the limit while users wait: ask them, then look at the assignment.",
                (
                    Ask(worst("chatqueue_operator_idle_max_seconds"), "idle", BLUE),
                    Ask(threshold("operator_idle_seconds"), "limit"),
                ),
                "s",
                ("ChatQueueOperatorsIdleWhileUsersWait",),
                width=24,
                height=6,
            )
        ),
    ]


def _fairness() -> list[Any]:
    by = ("window",)
    return [
        make_bars(
            Panel(
                "Chats per operator, last hour",
                "Different chats each operator was given. One far above the rest, or many at 0 "
                "while the queue is full: look at who is available and at the assignment.",
                (
                    Ask(
                        f"sort_desc ({total('chatqueue_operator_chats', by=('operator',))})",
                        "{{operator}}",
                    ),
                ),
                "short",
                ("ChatQueueUnfairDistribution",),
                height=14,
                decimals=0,
            )
        ),
        make_lines(
            Panel(
                "Largest share",
                "Share of the assignments that the busiest operator got. It means little while "
                "there are few assignments, see their count; near 100 % one person does all.",
                (
                    Ask(
                        gauge("chatqueue_operator_share_max_ratio", by=by),
                        "{{database}} {{window}}",
                    ),
                ),
                "percentunit",
                ("ChatQueueUnfairDistribution",),
                height=7,
            )
        ),
        make_lines(
            Panel(
                "Inequality (Gini)",
                "0 is even, 1 is one operator for everything. It means little while there are few "
                "assignments; above 0.5 over a day, look at the assignment before the people.",
                (Ask(gauge("chatqueue_operator_gini_ratio", by=by), "{{database}} {{window}}"),),
                "percentunit",
                ("ChatQueueUnfairDistribution",),
                height=7,
            )
        ),
        make_lines(
            Panel(
                "Assignments behind these values",
                "How many assignments share and inequality are computed from. Do not judge "
                "fairness by fewer than several an operator.",
                (
                    Ask(
                        gauge("chatqueue_operator_window_assignments", by=by),
                        "{{database}} {{window}}",
                    ),
                ),
                "short",
                ("ChatQueueUnfairDistribution",),
                height=7,
                decimals=0,
            )
        ),
        make_lines(
            Panel(
                "Same operator again",
                "Assignments of a chat to the operator who had it last. Red ones were avoidable: "
                "the assignment prefers old acquaintances to users who wait.",
                (
                    Ask(_repeats("true"), "avoidable", RED),
                    Ask(_repeats("false"), "no other chat waited", GREY),
                ),
                "short",
                ("ChatQueueAvoidableRepeat",),
                height=7,
                minimum_step="5m",
            ),
            bars=True,
        ),
    ]


def _work() -> list[Any]:
    handle = "chatqueue_handle_seconds"
    asks = (Ask(quantile(0.5, handle), "p50", BLUE), Ask(quantile(0.9, handle), "p90", PURPLE))
    state = 'state="assigned"'
    return [
        make_lines(
            Panel(
                "Handle time",
                "How long an operator has a chat before it leaves them: half of the chats at most "
                "p50, nine in ten at most p90. Rising: harder chats, or operators who left.",
                asks,
                "s",
                ("ChatQueueStuckAssigned",),
                minimum_step="5m",
            )
        ),
        make_lines(
            Panel(
                "Current handle time",
                "How long the chats that operators have now have been with them. The mean rises "
                "with all; the oldest alone is one unanswered chat: ask its operator.",
                (
                    Ask(worst("chatqueue_state_oldest_age_seconds", state), "oldest", PURPLE),
                    Ask(worst("chatqueue_state_mean_age_seconds", state), "mean", BLUE),
                ),
                "s",
                ("ChatQueueStuckAssigned",),
            )
        ),
        make_lines(
            Panel(
                "Unanswered chats",
                "Chats in which the user spoke last, waiting or with an operator, rising: more "
                "comes in than is answered. Empty: in the queue, without any message yet.",
                (
                    Ask(total("chatqueue_unanswered_chats"), "unanswered", YELLOW),
                    Ask(total("chatqueue_empty_waiting_chats"), "empty", BLUE),
                ),
                "short",
                ("ChatQueueCustomerWait",),
                decimals=0,
            )
        ),
    ]


def _count(status: str, colors: tuple[str, str], text: str) -> Any:
    return make_stat(
        _small(
            status.replace("_", " ").capitalize(),
            f"Operators who {text}",
            (Ask(total(_OPERATORS, f'status="{status}"')),),
            "short",
            "ChatQueueNoOperator",
        ),
        steps=[(None, colors[0]), (1, colors[1])],
        names=False,
    )


def _small(title: str, text: str, asks: tuple[Ask, ...], unit: str, alert: str) -> Panel:
    return Panel(title, text, asks, unit, (alert,), width=4, height=4)


def _occupancy() -> str:
    busy = total(_OPERATORS, 'status="on_chat"')
    return f"{busy} / {_ON_DUTY}"


def _repeats(avoidable: str) -> str:
    return happened("chatqueue_same_operator_assignments_total", f'avoidable="{avoidable}"')
