"""The thread that reads every database's values each minute and keeps them over a restart."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from exporter.metrics.figures import Reading
from exporter.metrics.history import (
    STEP_S,
    History,
    Recorded,
    decode_histories,
    encode_histories,
)
from exporter.threads import PeriodicThread

log = structlog.get_logger("chatqueue.history")

WRITE_EVERY_S = 300.0
"""A crash loses at most this much."""

_RETRY_S = 1.0
# A minute is read just before it ends, so that what was counted in it is its own.
_BEFORE_END_S = 1.0
_LIMIT_BYTES = 64 * 1024 * 1024


def read_boot_clock() -> float:
    """Return the seconds since the machine started, those included in which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class HistoryPlan:
    """What is kept.

    Attributes:
        databases: Of which there is a history.
        file: Where it is kept over a restart; None keeps it in memory only.
    """

    databases: frozenset[str]
    file: Path | None = None


class HistoryKeeper(PeriodicThread[HistoryPlan]):
    """Keeps the history of every database.

    Args:
        plan: What is kept.
        read: Returns the values of each database that was polled once.
        elapsed: Clock that only goes forward, in seconds.
        wall: Unix time.
    """

    def __init__(
        self,
        plan: HistoryPlan,
        read: Callable[[], Mapping[str, Reading]],
        *,
        elapsed: Callable[[], float] = read_boot_clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("history", plan)
        self._read = read
        self._elapsed = elapsed
        self._wall = wall
        self._lock = threading.Lock()
        self._write_failed = False
        self._written_at = elapsed()
        self._histories = self._restore()

    def recorded(self, database: str) -> Recorded:
        """Return a database's values of the last 24 h."""
        with self._lock:
            history = self._histories.get(database) or History()
            return history.read(self._elapsed(), self._wall())

    def fill(self, database: str, minutes: Sequence[Mapping[str, float]]) -> None:
        """Put computed values into the minutes up to now; see `History.fill`."""
        with self._lock:
            self._histories.setdefault(database, History()).fill(self._elapsed(), minutes)

    def refresh(self) -> bool:
        """Take the latest values into the minute under way; return whether there were any."""
        readings, now = self._read(), self._elapsed()
        with self._lock:
            for database, reading in readings.items():
                self._histories.setdefault(database, History()).add(now, reading)
        return bool(readings)

    def _run_once(self) -> float:
        """Read the values; return the seconds until just before the end of a minute."""
        has_values = self.refresh()
        with self._lock:
            for database in self._histories.keys() - self._plan.databases:
                del self._histories[database]
        now = self._elapsed()
        if now - self._written_at >= WRITE_EVERY_S:
            self._write()
        pause_s = (STEP_S - _BEFORE_END_S - now) % STEP_S
        return (pause_s or STEP_S) if has_values else _RETRY_S

    def _restore(self) -> dict[str, History]:
        """What the file holds; one that cannot be used is logged, and replaced later."""
        file = self._plan.file
        if file is None:
            return {}
        try:
            with file.open("rb") as stream:
                content = stream.read(_LIMIT_BYTES + 1)
            if len(content) > _LIMIT_BYTES:
                raise ValueError("is too large")
            return decode_histories(content, self._elapsed(), self._wall())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            log.warning("history not used", file=str(file), error=str(error))
            return {}

    def _write(self) -> None:
        """Replace the file in one step; that it fails is logged once."""
        file, self._written_at = self._plan.file, self._elapsed()
        if file is None:
            return
        with self._lock:
            content = encode_histories(self._histories, self._elapsed(), self._wall())
        new = file.with_name(f".{file.name}.new")
        try:
            with new.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(file)
        except OSError as error:
            if not self._write_failed:
                log.error("history not written", file=str(file), error=str(error))
            self._write_failed = True
        else:
            self._write_failed = False

    def _on_defect(self) -> float:
        """Try again in the next minute."""
        log.exception("history failed")
        return STEP_S

    def _close(self) -> None:
        """Read a last time and write."""
        self._run_once()
        self._write()
