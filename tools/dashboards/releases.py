"""How chats leave their operators, and what auto-release does about those that are stuck."""

from __future__ import annotations

from typing import Any

from tools.dashboards.expressions import gauge, happened, only_present, total, while_up, worst
from tools.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    RED,
    YELLOW,
    Ask,
    Panel,
    make_lines,
    make_stat,
    words,
)

_OUTCOME_COLORS = {
    "replied": GREEN,
    "customer_replied": BLUE,
    "idle_timeout": YELLOW,
    "auto_release": PURPLE,
    "closed": RED,
}
_DECISION_COLORS = {
    "released": PURPLE,
    "would_release": BLUE,
    "defect": RED,
    "error": RED,
    "unclear": RED,
    "breaker": RED,
    "escalated": YELLOW,
    "would_close": YELLOW,
}


def make_releases() -> list[Any]:
    """Return the row."""
    released, decisions = "chatqueue_releases_total", "chatqueue_release_decisions_total"
    idle = "chatqueue_idle_releases_total"
    decided = only_present(happened(decisions, by=("decision",)), "decision", "nothing to decide")
    return [
        make_lines(
            Panel(
                "How chats left their operators",
                "Ends of assignments by outcome. Many idle_timeout: operators leave with chats in "
                "hand. Any closed: a user lost their chat to max reassignments.",
                (Ask(f"{happened(released, by=('outcome',))}", "{{outcome}}"),),
                "short",
                ("ChatQueueChatClosed", "ChatQueueIdleDetectorDown"),
                width=7,
                colors=_OUTCOME_COLORS,
                minimum_step="5m",
            ),
            bars=True,
        ),
        make_lines(
            Panel(
                "What auto-release decided",
                "Decisions about suspects, most often the reason why one was left alone. Any "
                "defect, error or breaker: run `chatqueue pause` and read the audit.",
                (Ask(decided, "{{decision}}"),),
                "short",
                ("ChatQueueReleaseDefect", "ChatQueueReleaseBreakerTripped"),
                width=7,
                colors=_DECISION_COLORS,
                minimum_step="5m",
            ),
            bars=True,
        ),
        make_stat(
            Panel(
                "Auto-release",
                "The mode it runs in. Off is the default; observe says what it would do and does "
                "nothing; in enforce it hands stuck chats back to the queue.",
                (Ask(f"{gauge('chatqueue_release_mode', by=('mode',))} == 1", "{{mode}}"),),
                "short",
                ("ChatQueueReleaseWithoutControl", "ChatQueueReleaseStalled"),
                width=4,
                height=3,
                colors={"off": GREY, "observe": BLUE, "enforce": PURPLE},
            ),
            values=False,
        ),
        make_lines(
            Panel(
                "Suspects",
                "Chats held too long: by auto-release's rules, by the platform's idle detector, "
                "those whose release would close them, and those left to a person because their "
                "assignment rows bar a release. Lasting above 0: they stay untaken; what the idle "
                "job takes shows that it runs.",
                (
                    Ask(total("chatqueue_release_suspect_chats"), "suspects", PURPLE),
                    Ask(total("chatqueue_idle_overdue_chats"), "idle and overdue", YELLOW),
                    Ask(total("chatqueue_release_would_close_chats"), "would be closed", RED),
                    Ask(happened(idle, 'by="job"'), "taken by the idle job", GREY),
                    Ask(
                        total("chatqueue_release_barred_chats", over=("reason",)),
                        "left to a person",
                    ),
                ),
                "short",
                ("ChatQueueIdleDetectorDown", "ChatQueueReleaseWouldClose"),
                width=6,
                decimals=0,
            )
        ),
        make_stat(
            Panel(
                "Held up",
                "What keeps auto-release from releasing: somebody paused it, or its breaker "
                "tripped because too many chats looked stuck at once. `chatqueue audit` says why.",
                (
                    Ask(while_up(worst("chatqueue_release_paused")), "paused"),
                    Ask(while_up(worst("chatqueue_release_breaker_tripped")), "breaker tripped"),
                ),
                "bool_yes_no",
                ("ChatQueueReleasePausedTooLong", "ChatQueueReleaseBreakerTripped"),
                width=4,
                height=5,
            ),
            mappings=[words({"0": ("no", GREEN), "1": ("yes", RED)})],
            empty="not installed",
            empty_color=GREY,
        ),
    ]
