"""The thread that sends the digests of a watch at their scheduled times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from exporter.config.watch import Watch
from exporter.digests.account import Account
from exporter.digests.announcements import (
    Kind,
    Verdict,
    announcement_times,
    build_announcement,
)
from exporter.digests.digest import build_digest
from exporter.digests.memory import Memory, read_memory, write_memory
from exporter.digests.schedule import due_announcements, due_time, next_time
from exporter.metrics.figures import Reading
from exporter.notify.notices import Notice, Notifier
from exporter.threads import PeriodicThread

log = structlog.get_logger("chatqueue.watch")

READ_EVERY = timedelta(minutes=1)
"""A crash loses at most what was counted since the latest reading."""

_RETRY_S = 1.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DigestScheduler(PeriodicThread[Watch]):
    """Reads the values each minute of a watch, and sends a digest when one is due.

    Args:
        watch: Of the configuration; one without a beginning has no digests.
        read: Returns each database's values; empty before every database was polled once.
        notifier: Takes the digests.
        now: The time.
        judge: Returns the report's verdict at a time; may take minutes.

    Attributes:
        sent: The last digest of each database that this process sent.
    """

    def __init__(
        self,
        watch: Watch,
        read: Callable[[], Mapping[str, Reading]],
        notifier: Notifier,
        now: Callable[[], datetime] = _utc_now,
        judge: Callable[[Watch, datetime], Verdict] = lambda *_: Verdict(),
    ) -> None:
        super().__init__("digests", watch)
        self._read = read
        self._notifier = notifier
        self._now = now
        self._judge = judge
        self._write_failed = False
        self._memory: Memory | None = None
        self._awake_since = now()
        self.sent: Mapping[str, Notice] = {}
        self._begin()

    def _run_once(self) -> float | None:
        """Read the values, send what is due; return the seconds until the next reading.

        None where there is nothing to wait for: no watch, or one that is over.
        """
        now, memory = self._now(), self._memory
        if memory is None:
            return None
        coming = next_time(self._plan, now)
        due = due_time(self._plan, memory.last, self._awake_since, now)
        kinds = due_announcements(self._plan, memory.announced, self._awake_since, now)
        if due is None and coming is None and not kinds:
            return None
        if now < memory.started_at:
            return (memory.started_at - now).total_seconds()
        readings = self._read()
        if not readings:
            return _RETRY_S
        accounts = {
            database: memory.accounts.get(database, Account()).update(reading)
            for database, reading in readings.items()
        }
        passed = tuple(kind for kind, at in announcement_times(self._plan) if at <= now)
        memory = replace(memory, accounts=accounts, announced=passed)
        if due is not None:
            self._send(due, memory)
        else:
            self._store(memory)
        for kind in kinds:
            self._announce(kind, tuple(readings), now)
        return None if coming is None else min(READ_EVERY, coming - now).total_seconds()

    def _announce(self, kind: Kind, databases: Sequence[str], now: datetime) -> None:
        """Send an announcement, stored before; with the verdict so far where there is one."""
        verdict = None if kind == "started" else self._judge(self._plan, now)
        self._notifier.notify(build_announcement(kind, databases, self._plan, verdict))
        log.info("announced", kind=kind)

    def _send(self, due: datetime, memory: Memory) -> None:
        """Store first, so that a crash between the two loses a digest rather than repeats it."""
        accounts = memory.accounts
        sent = {database: account.mark_sent() for database, account in accounts.items()}
        self._store(replace(memory, last=due, accounts=sent))
        self.sent = {
            database: build_digest(database, account, self._plan, due)
            for database, account in accounts.items()
        }
        for notice in self.sent.values():
            self._notifier.notify(notice)
        log.info("digest sent", time=due.isoformat(), databases=len(accounts))

    def _on_new_plan(self, old: Watch) -> None:
        """A watch that keeps its beginning goes on."""
        if self._plan != old:
            self._begin()

    def _begin(self) -> None:
        """Begin the watch, or go on with the one that the file or this process holds."""
        watch = self._plan
        if watch.started_at is None:
            self._memory = None
        elif self._memory is None or self._memory.started_at != watch.started_at:
            self._awake_since = self._now()
            self.sent = {}
            self._memory = self._restore(watch) or Memory(watch.started_at)

    def _restore(self, watch: Watch) -> Memory | None:
        """The state in the file; one that cannot be used is logged and then replaced."""
        file = watch.digests.state_file
        if file is None or watch.started_at is None:
            return None
        try:
            return read_memory(file, watch.started_at)
        except ValueError as error:
            log.warning("watch state not used", file=str(file), error=str(error))
            return None

    def _store(self, memory: Memory) -> None:
        """Keep the state, here and in the file; that writing fails is logged once."""
        self._memory = memory
        file = self._plan.digests.state_file
        if file is None:
            return
        try:
            write_memory(file, memory)
        except OSError as error:
            if not self._write_failed:
                log.error("watch state not written", file=str(file), error=str(error))
            self._write_failed = True
        else:
            self._write_failed = False

    def _on_defect(self) -> float:
        """Try again at the next usual time."""
        log.exception("digest failed")
        return READ_EVERY.total_seconds()

    def _close(self) -> None:
        """Read a last time, so that the counts are stored."""
        self._run_once()
