"""The thread that follows the files, the receiver, and the counts of both."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain

import structlog

from exporter.config import Logs
from exporter.logs.counts import Counts
from exporter.logs.entries import Entry, read_line
from exporter.logs.envelopes import Budget, LogsRefused, open_line
from exporter.logs.follower import Follower
from exporter.logs.patterns import Judge, build_judge
from exporter.logs.receiver import Receiver
from exporter.metrics.snapshot import Family
from exporter.threads import PeriodicThread

log = structlog.get_logger("chatqueue.logs")

POLL_INTERVAL_S = 1.0
_PUBLISH_INTERVAL_S = 5.0
_STUCK_AFTER_S = 60.0


class LogWatch(PeriodicThread[Logs]):
    """Counts the lines of the platform's logs.

    Attributes:
        receiver: Takes lines over HTTP.

    Args:
        config: Which sources there are; none is fine.
        on_change: Called in the thread when there is more to show.
        now: Unix time, for when a log's latest line came.
    """

    def __init__(
        self, config: Logs, on_change: Callable[[], None], now: Callable[[], float] = time.time
    ) -> None:
        super().__init__("logs", Logs())
        self._counts = Counts(now)
        self._on_change = on_change
        self._judge: Judge | None = None
        self._followers: dict[str, Follower] = {}  # the thread's own
        self._published_at = 0.0
        self._published_total = 0
        self.receiver = Receiver(self._counts)
        self.apply(config)

    def apply(self, config: Logs) -> None:
        """Put sources and patterns in force; a file that stays is read on from its position."""
        if not (config.files or config.receivers):
            self._judge = None
        elif self._judge is None or config.patterns != self._pending.patterns:
            self._judge = build_judge(config.patterns)
        kinds = () if self._judge is None else self._judge.kinds
        self._counts.apply(config.files, config.receivers, kinds)
        self.receiver.apply(config.receivers, self._judge)
        super().apply(config)

    def families(self) -> tuple[Family, ...]:
        """Return the counts as families; none without a source."""
        return self._counts.families()

    @property
    def stuck_after_s(self) -> float:
        """A chunk of a file takes far less."""
        return _STUCK_AFTER_S

    def _run_once(self) -> float | None:
        """Count what is new in each file."""
        changes = [self._follow(name, follower) for name, follower in self._followers.items()]
        now_s, total = time.monotonic(), self._counts.total()
        is_due = now_s - self._published_at >= _PUBLISH_INTERVAL_S
        if any(changes) or (is_due and total != self._published_total):
            self._published_at, self._published_total = now_s, total
            self._on_change()
        return None if self._judge is None else POLL_INTERVAL_S

    def _close(self) -> None:
        for follower in self._followers.values():
            follower.close()

    def _on_new_plan(self, _: Logs) -> None:
        """Open followers of new files, close those of files that are gone."""
        config, old = self._plan, self._followers
        self._followers = {
            name: old.pop(name)
            if name in old and old[name].path == path
            else Follower(path, from_end=config.from_ == "end")
            for name, path in config.files.items()
        }
        for follower in old.values():
            follower.close()

    def _follow(self, name: str, follower: Follower) -> bool:
        was_up, problem = follower.is_up, follower.problem
        try:
            for lines in follower.poll():
                self._count(name, lines)
                self._note_step()
                if self._wake.is_set():
                    break
        except Exception:
            log.exception("log file not read", source=name)
        self._note_step()
        for reason, count in follower.take_drops().items():
            self._counts.drop(name, reason, count)
        if (was_up, problem) != (follower.is_up, follower.problem):
            path = str(follower.path)
            if follower.is_up:
                log.info("log file followed", source=name, path=path)
            else:
                log.warning("log file not followed", source=name, path=path, cause=follower.problem)
        return self._counts.set_up(name, up=follower.is_up)

    def _count(self, name: str, lines: Iterable[bytes]) -> None:
        judge = self._judge
        if judge is not None:  # None: the last source has just gone
            entries = chain.from_iterable(map(_read, lines))
            self._counts.add(name, Counter(map(judge.judge, entries)))


def _read(line: bytes) -> tuple[Entry, ...]:
    """The entries of a file's line; an envelope that cannot be opened is read as it is."""
    text = line.decode(errors="replace")
    try:
        return tuple(open_line(text, Budget()))
    except LogsRefused:
        return (read_line(text),)
