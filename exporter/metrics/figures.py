"""The one table of values that people are shown: metric, words, unit and limit of each. Pure.

`status`, digests, `watch`, the report, the live page and the first row of the dashboards read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from exporter.metrics.snapshot import Family

ANY, NEW = "any", "new"

Found = list[tuple[Mapping[str, str], float]]
Samples = Mapping[str, Found]
"""Metric to the labels and values of its samples."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One value that people are shown.

    Attributes:
        key: Its name for programs: in JSON, in a digest's fields and in the state file.
        words: Its name for people.
        metric: Family; of several samples the sum is taken, of durations and ratios the largest.
        labels: Label to the values that count, as `a|b`; all where a label is not named.
        unit: `chats`, `operators`, `seconds`, `ratio`, or empty for a count of anything else.
        limit: Somebody should look above this threshold's metric, at ANY, or at a NEW one; empty
            for never.
        detail: The label whose values say more, where the value is not 0.
        group: The line of a digest; empty where it is in none.
    """

    key: str
    words: str
    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)
    unit: str = ""
    limit: str = ""
    detail: str = ""
    group: str = ""

    @property
    def is_counter(self) -> bool:
        """Whether it only grows; a digest counts it since the watch began."""
        return self.metric.endswith("_total")

    @property
    def matchers(self) -> tuple[str, ...]:
        """The labels in PromQL."""
        return tuple(f'{n}{"=~" if "|" in v else "="}"{v}"' for n, v in self.labels.items())

    def find(self, samples: Samples, metric: str = "") -> Found:
        """Return its samples, or those of another metric with the same labels."""
        return [
            (labels, value)
            for labels, value in samples.get(metric or self.metric, ())
            if all(labels.get(n) in values.split("|") for n, values in self.labels.items())
        ]

    def read(self, samples: Samples) -> float | None:
        """Return its value; None where it is unknown."""
        values = [value for _, value in self.find(samples)]
        if not values:
            return None
        return max(values) if self.unit in ("seconds", "ratio") else sum(values)

    def read_details(self, samples: Samples) -> tuple[tuple[str, float], ...]:
        """Return its values by `detail`, those that are not 0, largest first."""
        parts = [(labels.get(self.detail, ""), value) for labels, value in self.find(samples)]
        return tuple(sorted((p for p in parts if p[1]), key=lambda part: (-part[1], part[0])))


def index_samples(families: Iterable[Family]) -> Samples:
    """Return the samples of families by metric; a name may come several times."""
    samples: dict[str, Found] = {}
    for family in families:
        found = samples.setdefault(family.name, [])
        found.extend((dict(sample.labels), sample.value) for sample in family.samples)
    return samples


def _of(figure: Figure, key: str, words: str, limit: str = "", **labels: str) -> Figure:
    """A value of one state, from that of any state."""
    labels |= {name: value for name, value in figure.labels.items() if name not in labels}
    return replace(figure, key=key, words=words, limit=limit or figure.limit, labels=labels)


# What is shown of each state, here without the label `state`.
_CHATS = Figure("chats", "chats", "chatqueue_chats", unit="chats")
_OLDEST = Figure("oldest_age_seconds", "oldest", "chatqueue_state_oldest_age_seconds",
                 unit="seconds", limit="chatqueue_threshold_oldest_age_seconds")  # fmt: skip
_OVERDUE = Figure("overdue_chats", "overdue", "chatqueue_state_overdue_chats",
                  {"severity": "warning"}, "chats")  # fmt: skip
_STUCK = Figure(
    "platform_stuck_chats", "platform: stuck", "chatqueue_platform_stuck_chats", unit="chats"
)
STATE_FIGURES = (_CHATS, _OLDEST, _OVERDUE, _STUCK)

_WAITING, _ASSIGNED, _REPLIED = "waiting_assignment", "assigned", "waiting_real_user_reply"
_OPERATORS = Figure("operators", "operators", "chatqueue_operators", unit="operators")
_RELEASES = Figure("releases", "releases", "chatqueue_releases_total")

_COUNTED = (
    "summary_waiting_chats|summary_assigned_chats|summary_waiting_reply_chats"
    "|queue_waiting_chats|queue_assigned_chats|queue_waiting_reply_chats"
)

# The lines of a digest, and what only others show.
_TABLE = {
    "Chats": (
        _of(_CHATS, "waiting", "waiting", state=_WAITING),
        _of(_CHATS, "assigned", "assigned", state=_ASSIGNED),
        _of(_CHATS, "replied", "waiting for the customer", state=_REPLIED),
        _of(_OPERATORS, "available", "operators available", status="available"),
    ),
    "Waits": (
        _of(_OLDEST, "oldest_waiting", "oldest in the queue", state=_WAITING),
        _of(_OLDEST, "oldest_assigned", "oldest assigned", state=_ASSIGNED),
        Figure("customer_wait", "longest unanswered wait of a user",
               "chatqueue_customer_oldest_wait_seconds", unit="seconds",
               limit="chatqueue_threshold_customer_wait_seconds"),
    ),
    "Stuck": (
        _of(_OVERDUE, "overdue_waiting", "waiting too long", ANY,
            state=_WAITING, severity="critical"),
        _of(_OVERDUE, "overdue_assigned", "assigned too long", ANY,
            state=_ASSIGNED, severity="critical"),
        Figure("idle_overdue", "chats the idle detector should have released",
               "chatqueue_idle_overdue_chats", unit="chats", limit=ANY),
    ),
    "Invalid": (
        _of(_CHATS, "unknown_state", "chats without a known state", ANY, state="unknown"),
        Figure("invalid", "chats in an invalid state", "chatqueue_invalid_chats",
               unit="chats", limit=ANY, detail="check"),
        Figure("repeats", "avoidable repeats", "chatqueue_same_operator_assignments_total",
               {"avoidable": "true"}, limit=NEW),
    ),
    "Errors": (
        # Any platform logs some errors every day; the report says whether there are more now.
        Figure("log_errors", "log errors", "chatqueue_log_events_total", {"level": "error"}),
        Figure("query_errors", "failed queries", "chatqueue_exporter_query_failed_runs_total",
               limit=NEW),
        Figure("deadlocks", "deadlocks", "chatqueue_database_deadlocks_total"),
        Figure("rollbacks", "rollbacks", "chatqueue_database_rollbacks_total"),
    ),
    "Releases": (
        Figure("assignments", "assignments", "chatqueue_assignments_total"),
        _of(_RELEASES, "released_replied", "replied", outcome="replied|customer_replied"),
        _of(_RELEASES, "released_idle", "idle", outcome="idle_timeout"),
        _of(_RELEASES, "released_auto", "by auto-release", outcome="auto_release"),
        _of(_RELEASES, "released_by_hand", "by hand", outcome="admin|manual"),
        _of(_RELEASES, "released_closed", "closed", outcome="closed|other"),
    ),
    "": (
        Figure("database_up", "database answers", "chatqueue_database_up"),
        Figure("unanswered", "chats that are owed an answer", "chatqueue_unanswered_chats",
               unit="chats"),
        _of(_OPERATORS, "on_chat", "operators on a chat", status="on_chat"),
        _of(_OPERATORS, "stale", "operators without a sign of life", status="stale"),
        Figure("operators_required", "operators the service level needs",
               "chatqueue_operators_required", unit="operators"),
        Figure("queue_drain", "time to empty the queue", "chatqueue_queue_drain_seconds",
               unit="seconds"),
        Figure("operator_idle", "longest idle operator", "chatqueue_operator_idle_max_seconds",
               unit="seconds"),
        Figure("counts_disagree", "chats that the platform counts differently",
               "chatqueue_platform_disagreement", {"figure": _COUNTED}),
        Figure("operator_share", "busiest operator's share of the last hour",
               "chatqueue_operator_share_max_ratio", {"window": "1h"}, "ratio"),
        Figure("platform_oldest", "platform's own oldest wait (since creation)",
               "chatqueue_platform_queue_oldest_age_seconds", unit="seconds"),
        Figure("platform_mean", "platform's own mean wait (since creation)",
               "chatqueue_platform_queue_mean_age_seconds", unit="seconds"),
        Figure("waits", "waits", "chatqueue_waits_total"),
        Figure("waits_breached", "waits beyond the service level's target",
               "chatqueue_waits_breached_total"),
        Figure("user_messages", "messages from users", "chatqueue_messages_total",
               {"sender": "customer"}),
        Figure("operator_messages", "messages from operators", "chatqueue_messages_total",
               {"sender": "operator"}),
        _of(_RELEASES, "closed_chats", "chats that a release closed", outcome="closed"),
        _of(_OLDEST, "oldest_silent", "oldest waiting for the customer", state=_REPLIED),
        Figure("idle_releases", "chats the idle detector released",
               "chatqueue_idle_releases_total", {"by": "job"}),
    ),
}  # fmt: skip
FIGURES = {row.key: replace(row, group=group) for group, rows in _TABLE.items() for row in rows}
GROUPS = tuple(group for group in _TABLE if group)


@dataclass(frozen=True, slots=True)
class Reading:
    """One database's values at one time.

    Attributes:
        values: Figure's key to its value, a counter's as its metric shows it; an unknown one is
            missing.
        details: Figure's key to label value and value, those that are not 0, largest first.
    """

    values: Mapping[str, float]
    details: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)


def read_figures(families: Iterable[Family]) -> Reading:
    """Read the table's values from one database's families, which have no label `database`."""
    samples = index_samples(families)
    values = {key: figure.read(samples) for key, figure in FIGURES.items()}
    return Reading(
        {key: value for key, value in values.items() if value is not None},
        {
            key: figure.read_details(samples)
            for key, figure in FIGURES.items()
            if figure.detail and values[key] is not None
        },
    )
