"""The daemon's periodic threads: each does one thing again and again until it is stopped."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import structlog

log = structlog.get_logger("chatqueue.threads")

AFTER_DEFECT_S = 1.0

Plan = TypeVar("Plan")


class PeriodicThread(ABC, Generic[Plan]):
    """Calls `_run_once` until stopped, whatever it raises, and takes a new plan between two calls.

    Args:
        name: Of what it works for: a database, a webhook, or the only one of its kind.
        plan: What to do.
        kind: What the thread's own name begins with, before `name`.
        monotonic: Clock in seconds.
    """

    def __init__(
        self,
        name: str,
        plan: Plan,
        *,
        kind: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._plan = self._pending = plan
        self._monotonic = monotonic
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._step_at = monotonic()
        self._began_at: float | None = None
        thread_name = f"{kind}-{name}" if kind else name
        # A daemon: one that hangs beyond the time to stop is left behind.
        self._thread = threading.Thread(target=self._run, name=thread_name, daemon=True)

    def start(self) -> None:
        """Start the thread, unless it was started before."""
        if self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """End the present pause."""
        self._wake.set()

    def apply(self, plan: Plan) -> None:
        """Change what the thread does, before its next run, which comes at once."""
        self._pending = plan
        self.wake()

    def request_stop(self) -> None:
        """Let the thread end; do not wait for it."""
        self._stopping.set()
        self.wake()

    def stop(self, timeout_s: float) -> bool:
        """Let the thread end; return whether it has ended in time."""
        self.request_stop()
        if self._thread.ident is None:
            self._close()
        return self._join(timeout_s)

    def is_alive(self) -> bool:
        """Return whether the thread runs, and pauses or took a step within `stuck_after_s`."""
        is_stuck = (
            self._began_at is not None and self._monotonic() - self._step_at >= self.stuck_after_s
        )
        return self._thread.is_alive() and not is_stuck

    @property
    def stuck_after_s(self) -> float:
        """How long one step of a run may take."""
        return math.inf

    def _join(self, timeout_s: float) -> bool:
        """Wait for the thread's end."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # The rest runs in the thread itself, or in a test's.

    def _run(self) -> None:
        """Run, pause, and so on."""
        while True:
            # Cleared before anything is looked at, so that no call in between is slept over.
            self._wake.clear()
            if self._stopping.is_set():
                break
            self._step_at = self._began_at = self._monotonic()
            try:
                self._apply_pending_plan()
                pause_s = self._run_once()
            except Exception:
                # A defect of ours must not end the thread.
                pause_s = self._on_defect()
            self._began_at = None
            self._wake.wait(pause_s)
        try:
            self._close()
        except Exception:
            self._on_defect()

    @abstractmethod
    def _run_once(self) -> float | None:
        """Do what is due; return the seconds until the next run, None to pause until woken."""

    def _note_step(self) -> None:
        """Note that the run goes on."""
        self._step_at = self._monotonic()

    def _apply_pending_plan(self) -> None:
        """Put the latest plan into force, if it is new."""
        plan, old = self._pending, self._plan
        if plan is not old:
            self._plan = plan
            self._on_new_plan(old)

    def _on_new_plan(self, old: Plan) -> None:
        """Follow the new plan."""

    def _on_defect(self) -> float | None:
        """Log the exception under way; return the pause after it, as `_run_once` does."""
        log.exception("thread failed", thread=self._thread.name)
        return AFTER_DEFECT_S

    def _close(self) -> None:
        """Let go of what the thread holds, at its end."""


Thread = TypeVar("Thread", bound=PeriodicThread[Any])


def switch_threads(
    running: Mapping[str, Thread],
    plans: Mapping[str, Any],
    create: Callable[[str, Any], Thread],
) -> dict[str, Thread]:
    """Hand each thread that stays its plan, create those that are new, let the others end.

    Args:
        running: By key.
        plans: By the same keys.
        create: Makes a thread of a key and its plan.

    Returns:
        One thread per plan, in the plans' order; the new ones are not started.
    """
    for key, thread in running.items():
        if key in plans:
            thread.apply(plans[key])
        else:
            thread.request_stop()
    return {key: running.get(key) or create(key, plan) for key, plan in plans.items()}
