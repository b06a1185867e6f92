"""The demo's scenarios: one healthy day and the troubles worth watching.

A scenario is data: rhythms of people and jobs, and how long before the demo's start they began,
so that a trouble shows at once. `simulation` and `world` act on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often and how fast things happen; probabilities and simulated seconds.

    Attributes:
        chats_per_minute: Users who start a chat.
        look_s: An idle operator looks for a chat this often, from and to.
        handle_s: From taking a chat to the reply: shortest, longest, most frequent.
        returns: How probable it is that a user writes back after a reply.
        return_s: Mean time until that.
        linger_s: From the last reply of a conversation to its closing by an admin, from and to.
        nudge_s: Mean time after which a user without an answer writes again.
        gives_up_after: Nudges after which a user writes no more; his chat stays in the queue.
        hands_back: How probable it is that an operator hands a chat back instead of replying.
        admin_takes: The same for an admin giving it to another operator.
        vanishes: The same for an operator who leaves without a word, chat in hand.
        vanished_s: How long such an operator stays away, from and to.
        leaves_tab: How probable it is that such an operator's tab stays open.
        page_times_out: Whether such a tab gives the chat back by itself.
        break_every_s: Mean time between two breaks of an operator who has no chat.
        idle_detector: Whether the platform's own job runs, each minute.
        same_chat_first: Whether the assignment is the old one, which hands operators the chat
            they had last although others wait.
        loses_return: How probable it is that a user's return does not change the state.
        breaks_chat_every_s: An inconsistent chat is written this often; infinite for never.
    """

    chats_per_minute: float = 2.2
    look_s: tuple[float, float] = (3, 9)
    handle_s: tuple[float, float, float] = (8, 70, 25)
    returns: float = 0.78
    return_s: float = 80
    linger_s: tuple[float, float] = (300, 1200)
    nudge_s: float = 60
    gives_up_after: int = 8
    hands_back: float = 0.02
    admin_takes: float = 0.01
    vanishes: float = 0.0
    vanished_s: tuple[float, float] = (480, 900)
    leaves_tab: float = 0.3
    page_times_out: bool = True
    break_every_s: float = 2400
    idle_detector: bool = True
    same_chat_first: bool = False
    loses_return: float = 0.0
    breaks_chat_every_s: float = math.inf


@dataclass(frozen=True, slots=True)
class DownRhythm:
    """How the database comes and goes, in real seconds: up first, then down, and again."""

    up_s: float = 20
    down_s: float = 20


@dataclass(frozen=True, slots=True)
class Scenario:
    """One course of events that the demo can show.

    Attributes:
        name: As given to `chatqueue demo --scenario`.
        summary: One line for a newcomer.
        look_at: Which metrics show it, in one line.
        rhythm: What people and jobs do while it lasts.
        lead_s: How long before the demo's start it began.
        vanishing: How many operators leave at its beginning, chat in hand.
        database_down: How the server comes and goes; None where it stays up.
    """

    name: str
    summary: str
    look_at: str
    rhythm: Rhythm = field(default_factory=Rhythm)
    lead_s: float = 0
    vanishing: int = 0
    database_down: DownRhythm | None = None


_CALM = Rhythm()

# The day before any scenario: some operators left chats to the idle detector, so long ago that only
# the rows are left of it.
HISTORY_RHYTHM = replace(_CALM, vanishes=0.01)

_SCENARIOS = (
    Scenario(
        "calm",
        "A healthy shift: users are answered within a minute or two.",
        "Waits of seconds, no idle-overdue and no invalid chat, nothing red.",
    ),
    Scenario(
        "rush",
        "Far more users than the operators can answer.",
        "chatqueue_chats{state=waiting_assignment} and the customer wait climb without end.",
        rhythm=replace(_CALM, chats_per_minute=20),
        lead_s=480,
    ),
    Scenario(
        "vanished-operators",
        "Three operators closed the laptop with a chat in hand, and nothing takes it from them.",
        "chatqueue_state_oldest_age_seconds{state=assigned}, idle-overdue chats, stale operators.",
        rhythm=replace(
            _CALM,
            chats_per_minute=2.0,
            idle_detector=False,
            vanished_s=(86_400, 86_401),
            leaves_tab=0,
        ),
        lead_s=840,
        vanishing=3,
    ),
    Scenario(
        "dead-idle-detector",
        "Operators leave now and then as ever, but the platform's idle job has died.",
        "chatqueue_idle_overdue_chats above 0, no release with outcome idle_timeout.",
        rhythm=replace(
            _CALM,
            idle_detector=False,
            vanishes=0.006,
            vanished_s=(1500, 2400),
            leaves_tab=0.5,
            page_times_out=False,
        ),
        lead_s=900,
        vanishing=2,
    ),
    Scenario(
        "same-chat",
        "The old assignment is back: operators get the chat they just had while others wait.",
        "chatqueue_same_operator_assignments_total{avoidable=true}, and the new users' wait.",
        rhythm=replace(_CALM, chats_per_minute=5.0, same_chat_first=True),
        lead_s=600,
    ),
    Scenario(
        "invalid-states",
        "A faulty deploy writes chats whose state contradicts their other columns.",
        "chatqueue_invalid_chats, one series a check.",
        rhythm=replace(_CALM, breaks_chat_every_s=12),
        lead_s=180,
    ),
    Scenario(
        "lost-replies",
        "Users write back, but their chats stay in waiting_real_user_reply, out of the queue.",
        "chatqueue_invalid_chats (lost replies); the platform's own queue looks calm.",
        rhythm=replace(_CALM, loses_return=0.35),
        lead_s=600,
    ),
    Scenario(
        "database-down",
        "The database goes away for 20 seconds out of 40.",
        "chatqueue_database_up, and metrics that disappear instead of going stale.",
        database_down=DownRhythm(),
    ),
)

SCENARIOS: Mapping[str, Scenario] = {scenario.name: scenario for scenario in _SCENARIOS}
"""By name."""
