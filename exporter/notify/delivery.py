"""One webhook: its queue, and the thread that empties it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from exporter.config.notify import Webhook
from exporter.notify.answers import Answer, Outcome
from exporter.notify.bodies import build_body
from exporter.notify.families import State
from exporter.notify.notices import TEST, Notice
from exporter.notify.pace import Pace
from exporter.threads import PeriodicThread

if TYPE_CHECKING:
    from exporter.notify.sending import Exchange

log = structlog.get_logger("chatqueue.notify")

QUEUE_LIMIT = 100


@dataclass(slots=True)
class _Current:
    """The notice that is being sent; times are monotonic seconds.

    Attributes:
        notice: What is sent.
        failures: Requests that failed.
        began_at: When it was taken from the queue.
        not_before: When the next request is due.
    """

    notice: Notice
    failures: int = 0
    began_at: float = field(default_factory=time.monotonic)
    not_before: float = 0.0


class Delivery(PeriodicThread[Webhook]):
    """Delivers notices to one webhook, one after the other in their order, until stopped.

    Its thread starts with the first notice: an idle webhook costs neither a thread nor `requests`.

    Args:
        name: In the configuration.
        webhook: Where to and how; `apply` replaces it, for what is queued too.
        pace: How patiently.
    """

    def __init__(self, name: str, webhook: Webhook, pace: Pace) -> None:
        super().__init__(name, webhook, kind="webhook")
        self._pace = pace
        self._lock = threading.Lock()
        self._queue: deque[Notice] = deque()
        self._current: _Current | None = None
        self._post: Exchange | None = None
        self._outcomes: Counter[Outcome] = Counter()
        self._failures: Counter[str] = Counter()
        self._is_failing = self._is_full = self._is_finishing = False

    @property
    def state(self) -> State:
        """Queue and counts as they are now."""
        with self._lock:
            queued = len(self._queue) + (self._current is not None)
            return State(self.name, queued, Counter(self._outcomes), Counter(self._failures))

    def offer(self, notice: Notice) -> None:
        """Queue a notice if this webhook is to hear of it; the oldest gives way where it is full.

        The newest says best how things are, and the log has them all.
        """
        with self._lock:
            if notice.event not in (*self._pending.events, TEST):
                return
            if self._stopping.is_set():
                self._count_lost(notice, Outcome.DROPPED, "stopped")
                return
            if len(self._queue) >= QUEUE_LIMIT:
                self._queue.popleft()
                self._outcomes[Outcome.DROPPED] += 1
                if not self._is_full:
                    log.error("webhook's queue is full, the oldest notices go", webhook=self.name)
                self._is_full = True
            self._queue.append(notice)
            self.start()
        self.wake()

    def finish(self) -> None:
        """Deliver what is queued as far as it goes without a failure, then end; do not wait."""
        self._is_finishing = True
        self.wake()

    def stop(self, timeout_s: float) -> bool:
        """Finish within a time; what is undelivered then is dropped."""
        self.finish()
        has_ended = self._join(timeout_s)
        self.request_stop()
        return has_ended

    def request_stop(self) -> None:
        """End at once; what is undelivered is counted and logged."""
        super().request_stop()
        with self._lock:
            left = [*([self._current.notice] if self._current else []), *self._queue]
            self._queue.clear()
            self._current = None
            self._outcomes[Outcome.DROPPED] += len(left)
            post = self._post
        if post is not None:
            post.abort()
        if left:
            counts = Counter(notice.event for notice in left)
            events = ", ".join(f"{count} {event}" for event, count in counts.items())
            log.error("notices not delivered", webhook=self.name, notices=len(left), events=events)

    def _on_new_plan(self, old: Webhook) -> None:
        """A wait for a retry ends where there is another configuration."""
        if self._plan != old and self._current is not None:
            self._current.not_before = 0.0

    def _run_once(self) -> float | None:
        """Send the next notice once, if that is due."""
        # A failure under way when the end came is tried once more, as one waiting to be is.
        is_last_try = self._is_finishing
        with self._lock:
            if self._current is None and self._queue:
                self._current = _Current(self._queue.popleft())
            current = self._current
        if current is None:
            if is_last_try:
                self._stopping.set()
            return None
        left_s = current.not_before - time.monotonic()
        if left_s > 0 and not is_last_try:
            return left_s
        answer = self._send(current.notice, self._plan)
        self._note(answer)
        return self._settle(current, answer, is_last_try=is_last_try)

    def _settle(self, current: _Current, answer: Answer, *, is_last_try: bool) -> float | None:
        """Count what came of a notice; return the time until the next request."""
        with self._lock:
            if self._stopping.is_set():
                return None  # `request_stop` has counted what is left
            outcome = Outcome.REJECTED if answer.failure else Outcome.DELIVERED
            if answer.failure and not answer.is_final:
                if is_last_try:
                    self._stopping.set()
                    return None
                current.failures += 1
                now = time.monotonic()
                elapsed_s = now - current.began_at
                wait_s = self._pace.wait_s(current.failures, answer.asked_s, elapsed_s)
                if wait_s is not None:
                    current.not_before = now + wait_s
                    return wait_s
                outcome = Outcome.EXPIRED
            self._current = None
            self._is_full = self._is_full and bool(self._queue)
            if outcome is Outcome.DELIVERED:
                self._outcomes[outcome] += 1
            else:
                self._count_lost(current.notice, outcome, answer.words)
            return 0.0

    def _send(self, notice: Notice, webhook: Webhook) -> Answer:
        """One request; a defect of ours loses its notice and nothing else."""
        try:
            # Not with the module: a daemon without webhooks does not carry `requests`.
            from exporter.notify.sending import build_post  # noqa: PLC0415

            self._post = build_post(webhook, build_body(notice, webhook))
            return self._post.run()
        except Exception as error:
            # Its message might hold the URL.
            return Answer("connection", f"a defect, {type(error).__name__}", is_final=True)
        finally:
            self._post = None

    def _note(self, answer: Answer) -> None:
        """Count a failure; log where failing begins and ends."""
        if self._stopping.is_set():
            return  # that the request was cut off says nothing of the receiver
        if answer.failure:
            with self._lock:
                self._failures[answer.failure] += 1
            if not self._is_failing:
                log.warning("webhook fails", webhook=self.name, error=answer.words)
        elif self._is_failing:
            log.info("webhook works again", webhook=self.name)
        self._is_failing = bool(answer.failure)

    def _count_lost(self, notice: Notice, outcome: Outcome, words: str) -> None:
        """Count a lost notice and say so; the caller holds the lock."""
        self._outcomes[outcome] += 1
        log.error(
            "notice not delivered",
            webhook=self.name,
            outcome=str(outcome),
            kind=notice.event,
            notice=str(notice.id),
            title=notice.title,
            error=words,
        )
