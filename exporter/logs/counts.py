"""How many lines of which kind and level came from each source; shared by threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from exporter.logs.entries import LEVELS
from exporter.metrics.snapshot import Family, make_family

FILE_DROPS = ("truncated", "long_line")
RECEIVER_DROPS = ("unauthorized", "busy", "too_large", "malformed", "unsupported", "incomplete")


@dataclass(slots=True)
class _Source:
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
                source = old.get(name)
                if source is None or source.reasons is not which:
                    source = _Source(which)
                self._sources[name] = source

    def add(self, source: str, events: Mapping[tuple[str, str], int]) -> None:
        """Count lines by kind and level; nothing for a source that is no longer configured."""
        with self._lock:
            counts = self._sources.get(source)
            if counts is not None and events:
                counts.lines += sum(events.values())
                counts.events.update(events)
                counts.last_s = self._now()

    def total(self) -> int:
        """Return a number that grows with every count."""
        with self._lock:
            return sum(s.lines + s.drops.total() for s in self._sources.values())

    def drop(self, source: str, reason: str, count: int = 1) -> None:
        """Count what was lost or refused."""
        with self._lock:
            if source in self._sources:
                self._sources[source].drops[reason] += count

    def set_up(self, source: str, *, up: bool) -> bool:
        """Record whether a source can be read; return whether that changed."""
        with self._lock:
            counts = self._sources.get(source)
            if counts is None or counts.up is up:
                return False
            counts.up = up
            return True

    def families(self) -> tuple[Family, ...]:
        """Return the families; none without a source."""
        with self._lock:
            if not self._sources:
                return ()
            return _build_families(self._sources, self._kinds)


def _build_families(sources: Mapping[str, _Source], kinds: tuple[str, ...]) -> tuple[Family, ...]:
    labelled = [((("source", name),), source) for name, source in sources.items()]
    return (
        make_family(
            "chatqueue_log_events_total",
            "Log lines by the pattern that names them and their level; each counts once.",
            [
                ((*label, ("kind", kind), ("level", level)), source.events[kind, level])
                for label, source in labelled
                for kind in kinds
                for level in LEVELS
            ],
        ),
        make_family(
            "chatqueue_log_lines_total",
            "Log lines read or received.",
            [(label, source.lines) for label, source in labelled],
        ),
        make_family(
            "chatqueue_log_dropped_total",
            "Files truncated, lines of which only the beginning was read, and requests refused.",
            [
                ((*label, ("reason", reason)), source.drops[reason])
                for label, source in labelled
                for reason in source.reasons
            ],
        ),
        make_family(
            "chatqueue_log_source_up",
            "Whether the file is open and readable; a receiver is up as long as it is configured.",
            [(label, source.up) for label, source in labelled],
        ),
        make_family(
            "chatqueue_log_last_line_timestamp_seconds",
            "Unix time when the latest line came; 0 before the first.",
            [(label, source.last_s) for label, source in labelled],
        ),
    )
