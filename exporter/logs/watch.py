"""The whole of it: a thread that follows the files, the receiver, and the counts of both."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain

import structlog

from exporter.config import Logs
from exporter.logs.counts import Counts
from exporter.logs.entries import Entry, read_line
from exporter.logs.envelopes import Budget, EnvelopeRefused, open_line
from exporter.logs.follower import Follower
from exporter.logs.patterns import Judge, build_judge
from exporter.logs.receiver import Receiver
from exporter.metrics.snapshot import Family

log = structlog.get_logger("chatqueue.logs")

POLL_INTERVAL_S = 1.0
_PUBLISH_INTERVAL_S = 5.0
_STUCK_AFTER_S = 60.0


class LogWatch:
    """Counts what the platform's logs say.

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
        self._counts = Counts(now)
        self._on_change = on_change
        self._config = Logs()
        self._judge: Judge | None = None
        self._followers: dict[str, Follower] = {}  # the thread's alone
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._turned_at = time.monotonic()
        self._published_at = 0.0
        self._published_total = 0
        self.receiver = Receiver(self._counts)
        self.apply(config)

    def apply(self, config: Logs) -> None:
        """Put sources and patterns in force; a file that stays is read on where it was."""
        if not (config.files or config.receivers):
            self._judge = None
        elif self._judge is None or config.patterns != self._config.patterns:
            self._judge = build_judge(config.patterns)
        self._config = config
        kinds = () if self._judge is None else self._judge.kinds
        self._counts.apply(config.files, config.receivers, kinds)
        self.receiver.apply(config.receivers, self._judge)
        self._wake.set()

    def families(self) -> tuple[Family, ...]:
        """Return the counts as families; none without a source."""
        return self._counts.families()

    def start(self) -> None:
        """Begin to follow the files."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """End the thread soon."""
        self._stopping = True
        self._wake.set()

    def stop(self, timeout_s: float) -> bool:
        """End the thread; return whether it has ended in time."""
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def is_alive(self) -> bool:
        """Return whether the files are still looked at."""
        if self._thread.ident is None:
            return True
        is_late = self._followers and time.monotonic() - self._turned_at > _STUCK_AFTER_S
        return self._thread.is_alive() and not is_late

    def _run(self) -> None:
        while True:
            # Cleared before anything is looked at, so that no call in between is slept over.
            self._wake.clear()
            if self._stopping:
                break
            self._take_over(self._config)
            turns = [self._follow(name, each) for name, each in self._followers.items()]
            if any(turns) or self._is_due():
                self._publish()
            self._wake.wait(None if self._judge is None else POLL_INTERVAL_S)
        for follower in self._followers.values():
            follower.close()

    def _take_over(self, config: Logs) -> None:
        """Begin with files that are new, let go of those that are gone."""
        followers = {}
        for name, path in config.files.items():
            known = self._followers.pop(name, None)
            if known is not None and known.path != path:
                known.close()
                known = None
            followers[name] = known or Follower(path, from_end=config.from_ == "end")
        for gone in self._followers.values():
            gone.close()
        self._followers = followers

    def _follow(self, name: str, follower: Follower) -> bool:
        was_up, problem = follower.is_up, follower.problem
        try:
            for lines in follower.poll():
                self._count(name, lines)
                self._turned_at = time.monotonic()
                if self._wake.is_set():
                    break
        except Exception:
            log.exception("log file not read", source=name)
        self._turned_at = time.monotonic()
        for reason, count in follower.take_drops().items():
            self._counts.drop(name, reason, count)
        if (was_up, problem) != (follower.is_up, follower.problem):
            _tell(name, follower)
        return self._counts.set_up(name, up=follower.is_up)

    def _count(self, name: str, lines: Iterable[bytes]) -> None:
        judge = self._judge
        if judge is not None:  # None: the last source has just gone
            entries = chain.from_iterable(map(_read, lines))
            self._counts.add(name, Counter(map(judge.judge, entries)))

    def _is_due(self) -> bool:
        """Whether there is more to show, and it is time to."""
        return (
            self._counts.total() != self._published_total
            and time.monotonic() - self._published_at >= _PUBLISH_INTERVAL_S
        )

    def _publish(self) -> None:
        self._published_at, self._published_total = time.monotonic(), self._counts.total()
        self._on_change()


def _read(line: bytes) -> tuple[Entry, ...]:
    """The entries of a file's line; what cannot be opened is looked at as it is."""
    text = line.decode(errors="replace")
    try:
        return tuple(open_line(text, Budget()))
    except EnvelopeRefused:
        return (read_line(text),)


def _tell(name: str, follower: Follower) -> None:
    path = str(follower.path)
    if follower.is_up:
        log.info("log file followed", source=name, path=path)
    else:
        log.warning("log file not followed", source=name, path=path, cause=follower.problem)
