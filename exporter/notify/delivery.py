"""One webhook: its queue, and the thread that empties it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

import structlog

from exporter.config.notify import Webhook
from exporter.notify.answers import Answer, Outcome
from exporter.notify.bodies import build_body
from exporter.notify.figures import State
from exporter.notify.notices import TEST, Notice
from exporter.notify.pace import Pace

if TYPE_CHECKING:
    from exporter.notify.sending import Post

log = structlog.get_logger("chatqueue.notify")

QUEUE_LIMIT = 100


class Delivery:
    """Delivers notices to one webhook, one after the other in their order, until stopped.

    Args:
        name: In the configuration.
        webhook: Where to and how; `apply` replaces it.
        pace: How patiently.
    """

    def __init__(self, name: str, webhook: Webhook, pace: Pace) -> None:
        self.name = name
        self._webhook = webhook
        self._pace = pace
        self._changed = threading.Condition()
        self._queue: deque[Notice] = deque()
        self._current: Notice | None = None
        self._post: Post | None = None
        self._outcomes: Counter[Outcome] = Counter()
        self._failures: Counter[str] = Counter()
        self._is_failing = self._is_full = False
        self._is_finishing = self._has_given_up = False
        # Started with the first notice: an idle webhook costs neither a thread nor `requests`.
        self._thread = threading.Thread(target=self._run, name=f"webhook-{name}", daemon=True)

    @property
    def state(self) -> State:
        """Queue and counts as they are now."""
        with self._changed:
            queued = len(self._queue) + (self._current is not None)
            return State(self.name, queued, Counter(self._outcomes), Counter(self._failures))

    def offer(self, notice: Notice) -> None:
        """Queue a notice if this webhook is to hear of it; the oldest gives way where it is full.

        The newest says best how things are, and the log has them all.
        """
        with self._changed:
            if notice.event not in (*self._webhook.events, TEST):
                return
            if self._has_given_up:
                self._lose(notice, Outcome.DROPPED, "stopped")
                return
            if len(self._queue) >= QUEUE_LIMIT:
                self._queue.popleft()
                self._outcomes[Outcome.DROPPED] += 1
                if not self._is_full:
                    log.error("webhook's queue is full, the oldest notices go", webhook=self.name)
                self._is_full = True
            self._queue.append(notice)
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify_all()

    def apply(self, webhook: Webhook) -> None:
        """Change where to and how, for what is queued too; a wait for a retry ends where it did."""
        with self._changed:
            if webhook != self._webhook:
                self._webhook = webhook
                self._changed.notify_all()

    def finish(self) -> None:
        """Deliver what is queued as far as it goes without a failure, then end; do not wait."""
        with self._changed:
            self._is_finishing = True
            self._changed.notify_all()

    def stop(self, timeout_s: float) -> None:
        """Finish within a time; what is undelivered then is dropped."""
        self.finish()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        self.drop()

    def drop(self) -> None:
        """End at once; what is undelivered is counted and logged."""
        with self._changed:
            self._is_finishing = self._has_given_up = True
            self._changed.notify_all()
            left = [*filter(None, (self._current,)), *self._queue]
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

    # The rest runs in the thread of its own.

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._is_finishing)
                if not self._queue:
                    return
                notice = self._current = self._queue.popleft()
            outcome, words = self._deliver(notice)
            with self._changed:
                if self._has_given_up or outcome is None:
                    return  # `stop` counts what is left
                self._current = None
                self._is_full = self._is_full and bool(self._queue)
                if outcome is Outcome.DELIVERED:
                    self._outcomes[outcome] += 1
                else:
                    self._lose(notice, outcome, words)

    def _deliver(self, notice: Notice) -> tuple[Outcome | None, str]:
        """Send a notice until something came of it; None where the end came first."""
        began_s = time.monotonic()
        failures = 0
        while not self._has_given_up:
            failures += 1
            webhook = self._webhook
            # A failure under way when the end came is tried once more, as one waiting to be is.
            was_finishing = self._is_finishing
            answer = self._send(notice, webhook)
            self._note(answer)
            if not answer.failure:
                return Outcome.DELIVERED, answer.words
            if answer.is_final:
                return Outcome.REJECTED, answer.words
            if was_finishing:
                break
            wait_s = self._pace.wait_s(failures, answer.asked_s, time.monotonic() - began_s)
            if wait_s is None:
                return Outcome.EXPIRED, answer.words
            self._wait(wait_s, webhook)
        return None, ""

    def _wait(self, wait_s: float, webhook: Webhook) -> None:
        """Wait for the next try; shorter where the end or another configuration comes first."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_finishing or self._webhook is not webhook, wait_s
            )

    def _send(self, notice: Notice, webhook: Webhook) -> Answer:
        """One request; a defect of ours loses its notice and nothing else."""
        try:
            # Not with the module: a daemon without webhooks does not carry `requests`.
            from exporter.notify.sending import Post  # noqa: PLC0415

            self._post = Post(webhook, build_body(notice, webhook))
            return self._post.send()
        except Exception as error:
            # Its message might hold the URL.
            return Answer("connection", f"a defect, {type(error).__name__}", is_final=True)
        finally:
            self._post = None

    def _note(self, answer: Answer) -> None:
        """Count a failure; log where failing begins and ends."""
        if self._has_given_up:
            return  # that the request was cut off says nothing of the receiver
        if answer.failure:
            with self._changed:
                self._failures[answer.failure] += 1
            if not self._is_failing:
                log.warning("webhook fails", webhook=self.name, error=answer.words)
        elif self._is_failing:
            log.info("webhook works again", webhook=self.name)
        self._is_failing = bool(answer.failure)

    def _lose(self, notice: Notice, outcome: Outcome, words: str) -> None:
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
