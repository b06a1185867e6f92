"""A watched day and the day before it, in compressed time: what every minute's page would show.

The same families go to a digest and, as OpenMetrics, into a real Prometheus. Every count follows
from the minute alone, so that a test can say what must come out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

from exporter.metrics.snapshot import Family, Sample
from tests.openmetrics import format_sample, write_families
from tests.servers import require_tool
from tools.preview.history import backfill, run_prometheus

BEGUN = datetime(2024, 1, 1, 8, tzinfo=UTC)
HOURS = 24
MINUTES = HOURS * 60
DATABASE = "main"

_CHECKS = ("lost_reply", "orphaned_assignment")
_STATES = ("waiting_assignment", "assigned", "waiting_real_user_reply", "completed", "unknown")


@dataclass(frozen=True)
class Day:
    """What happens, in minutes since the watch began.

    Attributes:
        restarts: When the daemon begins anew, its counters at 0.
        trouble: When chats are lost and operators get the same chat again.
        dark: When nothing is scraped.
        limit_s: The critical threshold of the oldest ages; infinite where it is off.
    """

    restarts: tuple[int, ...] = (390,)
    trouble: range = range(0)
    dark: range = range(0)
    limit_s: float = 1200.0

    def families(self, minute: int) -> tuple[Family, ...]:
        """One database's page at a minute, without the label `database`."""
        waiting = 3 + minute % 4
        is_bad = minute in self.trouble
        chats = dict.fromkeys(_STATES, 0.0) | {
            "waiting_assignment": waiting,
            "assigned": 12 + minute % 3,
            "waiting_real_user_reply": 200 + minute // 60,
        }
        invalid = dict.fromkeys(_CHECKS, 0.0) | ({"lost_reply": 2.0} if is_bad else {})
        repeats = sum(m % 10 == 5 for m in self.trouble if self._born(minute) < m <= minute)
        return (
            _gauge("chatqueue_chats", "state", chats),
            _gauge("chatqueue_operators", "status", {"available": 4.0, "on_chat": 12.0}),
            _gauge("chatqueue_state_oldest_age_seconds", "state", {"waiting_assignment": 45.0}),
            _family(
                "chatqueue_state_overdue_chats",
                {
                    (("state", state), ("severity", severity)): 0.0
                    for state in ("waiting_assignment", "assigned")
                    for severity in ("warning", "critical")
                },
            ),
            _family(
                "chatqueue_threshold_oldest_age_seconds",
                {
                    (("state", state), ("severity", "critical")): self.limit_s
                    for state in ("waiting_assignment", "assigned")
                },
            ),
            _single("chatqueue_customer_oldest_wait_seconds", 60.0 + minute % 7),
            _single("chatqueue_idle_overdue_chats", 0.0),
            _gauge("chatqueue_invalid_chats", "check", invalid),
            _single("chatqueue_database_up", 1.0),
            _single("chatqueue_threshold_slo_objective_ratio", 0.9),
            _single("chatqueue_assignments_total", self._count(minute, 0.5)),
            _single("chatqueue_waits_total", self._count(minute, 0.5)),
            _single("chatqueue_waits_breached_total", self._count(minute, 20)),
            _gauge(
                "chatqueue_same_operator_assignments_total",
                "avoidable",
                {"true": float(repeats), "false": self._count(minute, 30)},
            ),
            _gauge(
                "chatqueue_releases_total",
                "outcome",
                {"replied": self._count(minute, 0.5), "idle_timeout": self._count(minute, 37)},
            ),
            _gauge("chatqueue_idle_releases_total", "by", {"job": self._count(minute, 37)}),
            _gauge("chatqueue_log_events_total", "level", {"error": self._count(minute, 15)}),
            _single("chatqueue_exporter_query_failed_runs_total", 0.0),
            _single("chatqueue_database_rollbacks_total", self._count(minute, 10)),
            _single("chatqueue_database_deadlocks_total", self._count(minute, 360)),
        )

    def write(self, file: Path) -> None:
        """Write both days as OpenMetrics, a sample a minute."""
        series: dict[str, dict[str, list[str]]] = {}
        for minute in range(-MINUTES, MINUTES + 1):
            if minute in self.dark:
                continue
            at_s = (BEGUN + timedelta(minutes=minute)).timestamp()
            for family in self.families(minute):
                for sample in family.samples:
                    labels = {"database": DATABASE, "job": "chatqueue", **dict(sample.labels)}
                    key = ",".join(f'{name}="{value}"' for name, value in labels.items())
                    lines = series.setdefault(family.name, {}).setdefault(key, [])
                    lines.append(format_sample(f"{family.name}{{{key}}}", sample.value, at_s))
        families = {name: chain(*by_labels.values()) for name, by_labels in series.items()}
        write_families(file, families)

    def _born(self, minute: int) -> int:
        """When the daemon that runs at a minute began."""
        return max((m for m in self.restarts if m <= minute), default=-MINUTES)

    def _count(self, minute: int, every: float) -> float:
        """What a daemon has counted of something that happens that often."""
        return float(minute // every - self._born(minute) // every)


def _family(name: str, values: Mapping[tuple[tuple[str, str], ...], float]) -> Family:
    kind = "counter" if name.endswith("_total") else "gauge"
    return Family(name, kind, "", "", tuple(Sample(*pair) for pair in values.items()))


def _gauge(name: str, label: str, values: Mapping[str, float]) -> Family:
    return _family(name, {((label, key),): value for key, value in values.items()})


def _single(name: str, value: float) -> Family:
    return _family(name, {(): value})


@contextlib.contextmanager
def run_recorded(write: Callable[[Path], object], folder: Path) -> Iterator[str]:
    """Run a Prometheus that has scraped what is written as OpenMetrics; yield its URL."""
    for name in ("prometheus", "promtool"):
        require_tool(name, "prometheus")
    file, data = folder / "day.om", folder / "data"
    write(file)
    backfill([file], data, "96h")
    with run_prometheus(data) as server:
        yield server.url
