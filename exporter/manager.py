"""What the service manager hears of the daemon, by systemd's protocol of notifications.

One datagram per message to the socket in `NOTIFY_SOCKET`; without it, and where it cannot be
written to, nothing happens.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping

from exporter.threads import PeriodicThread

_USUAL_PAUSE_S = 10.0
_SOON_S = 0.2
_FIRST_DESCRIPTOR = 3


class Manager(PeriodicThread[None]):
    """Tells the service manager that the daemon is ready, how it is, and that it lives.

    Args:
        is_ready: Whether every database was polled once, with or without success.
        is_alive: Whether every thread turns; the watchdog is fed only then.
        status: How the daemon is, in one line.
        environ: Where `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are looked up.
    """

    def __init__(
        self,
        is_ready: Callable[[], bool],
        is_alive: Callable[[], bool],
        status: Callable[[], str],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__("manager", None)
        self._is_ready = is_ready
        self._is_daemon_alive = is_alive
        self._status = status
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _read_watchdog(environ)
        self._told_ready = False
        self._told_status = ""

    def start(self) -> None:
        """Start the thread, where somebody listens."""
        if self._address:
            super().start()

    def tell(self, **fields: str | int) -> None:
        """Send one message; that it cannot be sent is nobody's trouble here.

        Args:
            fields: `READY=1` and the like.
        """
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):  # in Linux's abstract namespace
            address = "\0" + address[1:]
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto(text.encode(), address)
        except OSError:
            pass

    def tell_reloading(self) -> None:
        """Say that a reload begins; `tell_reloaded` says that it has ended."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def tell_reloaded(self) -> None:
        """Say that a reload has ended, with or without success."""
        self.tell(READY=1)

    def _run_once(self) -> float:
        """Say what is new, and feed the watchdog."""
        if not self._told_ready and self._is_ready():
            self._told_ready = True
            self.tell(READY=1)
        status = self._status()
        if status != self._told_status:
            self._told_status = status
            self.tell(STATUS=status)
        if self._watchdog_s and self._is_daemon_alive():
            self.tell(WATCHDOG=1)
        if not self._told_ready:
            return _SOON_S
        return min(self._watchdog_s / 3 or _USUAL_PAUSE_S, _USUAL_PAUSE_S)


def take_sockets(environ: Mapping[str, str] = os.environ) -> tuple[socket.socket, ...]:
    """Return the listening sockets that the service manager opened for this process; none if none.

    Args:
        environ: Where `LISTEN_PID` and `LISTEN_FDS` are looked up.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return ()
    try:
        count = int(environ.get("LISTEN_FDS", "0"))
    except ValueError:
        return ()
    return tuple(
        socket.socket(fileno=number)
        for number in range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + count)
    )


def _read_watchdog(environ: Mapping[str, str]) -> float:
    """Seconds within which the watchdog wants to be fed; 0 for none."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return max(int(environ.get("WATCHDOG_USEC", "0")), 0) / 1e6
    except ValueError:
        return 0.0
