"""A deadline on this side of the network, for servers and networks that no longer answer.

`statement_timeout` ends a statement on a server that works. It does nothing for a connection whose
packets vanish, nor for a server that is stopped. The watchdog first asks the server to cancel (so
that nothing is left running there), then shuts the socket down, which wakes the waiting thread.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import Any

import psycopg

CANCEL_TIMEOUT_S = 1.0


class Watchdog:
    """Watches one connection's current step from a separate thread.

    Use as a context manager around a poll, and `arm` before each step.

    Attributes:
        fired: Whether a deadline passed or `abort` was called; the connection is then unusable.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        # A descriptor of our own: the connection may be closed, and its number reused, meanwhile.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._condition = threading.Condition()
        self._deadline = float("inf")
        # A later deadline is noticed then; to wake the thread for each step would cost the poll.
        self._wakes_at = float("inf")
        self._done = False
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.fired = False

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._done = True
            self._condition.notify()
        self._thread.join()
        self._socket.close()

    def arm(self, seconds: float) -> None:
        """Give the step that now begins that many seconds."""
        with self._condition:
            if not self.fired:
                self._deadline = time.monotonic() + seconds
                if self._deadline < self._wakes_at:
                    self._condition.notify()

    def abort(self) -> None:
        """End the current step now."""
        with self._condition:
            self._deadline = 0.0
            self._condition.notify()

    def _watch(self) -> None:
        """Wait for the deadline or the end of the poll."""
        with self._condition:
            while not self._done and (left := self._deadline - time.monotonic()) > 0:
                self._wakes_at = self._deadline
                self._condition.wait(None if left == float("inf") else left)
            if self._done:
                return
            self.fired = True
        with contextlib.suppress(psycopg.Error, OSError):
            self._connection.cancel_safe(timeout=CANCEL_TIMEOUT_S)
        with self._condition:
            # A server that honours the cancel ends the step at once; the poll then leaves here.
            self._condition.wait_for(lambda: self._done, timeout=CANCEL_TIMEOUT_S / 4)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
