"""How many lines of which kind and level came from each source; shared by threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from exporter.logs.entries import LEVELS
from exporter.metrics.snapshot import Family, Sample

FILE_DROPS = ("truncated", "long_line")
RECEIVER_DROPS = ("unauthorized", "busy", "too_large", "malformed", "unsupported", "incomplete")


@dataclass(slots=True)
class _Source:
    """What is known of one source."""

    reasons: tuple[str, ...]
    up: bool = False
    last_s: float = 0.0
    lines: int = 0
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)


class Counts:
    """The counters of every source; a source that stays keeps its counts through a reload."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._sources: dict[str, _Source] = {}
        self._kinds: tuple[str, ...] = ()

    def apply(self, files: Iterable[str], receivers: Iterable[str], kinds: tuple[str, ...]) -> None:
        """Set which sources and kinds there are; new ones begin at 0."""
        reasons = {**dict.fromkeys(files, FILE_DROPS), **dict.fromkeys(receivers, RECEIVER_DROPS)}
        with self._lock:
            old, self._kinds = self._sources, kinds
            self._sources = {}
            for name, which in reasons.items():
                known = old.get(name)
                self._sources[name] = known if known and known.reasons is which else _Source(which)

    def add(self, source: str, events: Mapping[tuple[str, str], int]) -> None:
        """Count lines by kind and level; of a source that is gone nothing is counted."""
        with self._lock:
            known = self._sources.get(source)
            if known is not None and events:
                known.lines += sum(events.values())
                known.events.update(events)
                known.last_s = self._now()

    def total(self) -> int:
        """Return a number that grows with every count."""
        with self._lock:
            return sum(each.lines + each.drops.total() for each in self._sources.values())

    def drop(self, source: str, reason: str, count: int = 1) -> None:
        """Count what was lost or refused."""
        with self._lock:
            if source in self._sources:
                self._sources[source].drops[reason] += count

    def set_up(self, source: str, *, up: bool) -> bool:
        """Say whether a source can be read; return whether that is news."""
        with self._lock:
            known = self._sources.get(source)
            if known is None or known.up is up:
                return False
            known.up = up
            return True

    def families(self) -> tuple[Family, ...]:
        """Return the families; none without a source."""
        with self._lock:
            if not self._sources:
                return ()
            return _build_families(self._sources, self._kinds)


def _build_families(sources: Mapping[str, _Source], kinds: tuple[str, ...]) -> tuple[Family, ...]:
    prefix = "chatqueue_log"
    each = [((("source", name),), source) for name, source in sources.items()]
    return (
        Family(
            f"{prefix}_events_total",
            "counter",
            "Log lines by the pattern that names them and their level; each counts once.",
            "",
            tuple(
                Sample((*label, ("kind", kind), ("level", level)), source.events[kind, level])
                for label, source in each
                for kind in kinds
                for level in LEVELS
            ),
        ),
        Family(
            f"{prefix}_lines_total",
            "counter",
            "Log lines read or received.",
            "",
            tuple(Sample(label, source.lines) for label, source in each),
        ),
        Family(
            f"{prefix}_dropped_total",
            "counter",
            "Files truncated, lines of which only the beginning was read, and requests refused.",
            "",
            tuple(
                Sample((*label, ("reason", reason)), source.drops[reason])
                for label, source in each
                for reason in source.reasons
            ),
        ),
        Family(
            f"{prefix}_source_up",
            "gauge",
            "Whether the file is open and readable; a receiver is up as long as it is configured.",
            "",
            tuple(Sample(label, float(source.up)) for label, source in each),
        ),
        Family(
            f"{prefix}_last_line_timestamp_seconds",
            "gauge",
            "Unix time when the latest line came; 0 before the first.",
            "seconds",
            tuple(Sample(label, source.last_s) for label, source in each),
        ),
    )
