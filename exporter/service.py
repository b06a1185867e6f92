"""The daemon's process: its log, its signals, and serving until it is stopped.

Log messages are logfmt or JSON on standard error, one event per line, without secrets; records of
Python's `logging` included. A message that cannot be written is dropped: a full disk or a closed
pipe must not stop the daemon.
"""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO, cast

import structlog

from exporter import __version__
from exporter.config.dsn import redact
from exporter.daemon import Daemon
from exporter.errors import ChatqueueError
from exporter.logs.receiver import PATH as LOGS
from exporter.manager import Manager
from exporter.server.app import App
from exporter.server.http_server import HttpServer
from exporter.server.page.chats import ChatsPage
from exporter.server.page.render import LivePage
from exporter.server.routes import (
    ROOT,
    SLOW_PATHS,
    Place,
    build_application,
    build_slowness,
)

log = structlog.get_logger("chatqueue")

# Together below the 2 s in which service managers may expect a stop.
STOP_POLLING_S = 1.2
STOP_SERVING_S = 0.4


def configure_logging(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send the product's log to a stream.

    Args:
        level: debug, info, warning or error; lines below it are dropped.
        log_format: logfmt or json.
        stream: Standard error where none is given.
    """
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.processors.LogfmtRenderer(
            key_order=("ts", "level", "event"), drop_missing=True
        )
    lenient = cast(TextIO, _Lenient(stream or sys.stderr))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            _redact_values,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(file=lenient),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)


class _Lenient(io.TextIOBase):
    """A stream that drops what it cannot write instead of raising."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write and flush, or do nothing."""
        # ValueError: the stream was closed, as at interpreter exit.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()
        return len(text)


class _Forward(logging.Handler):
    """Passes records of Python's `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as one event, at its level."""
        with contextlib.suppress(Exception):  # as logging itself: a record never raises
            structlog.get_logger().log(
                record.levelno,
                record.getMessage(),
                logger=record.name,
                **({"exc_info": record.exc_info} if record.exc_info else {}),
            )


def _redact_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Remove the passwords of connection strings from every message that is written."""
    for key, value in event.items():
        if not isinstance(value, bool | int | float | None):
            event[key] = redact(str(value))
    return event


def serve(
    daemon: Daemon,
    listen_addresses: Sequence[str],
    *,
    web_config_file: Path | None = None,
    enable_lifecycle: bool = False,
    place: Place = ROOT,
    reload_on_hangup: bool = True,
    on_ready: Callable[[Sequence[str]], None] = lambda _: None,
) -> None:
    """Poll and serve until SIGTERM or SIGINT; reload on SIGHUP.

    Args:
        daemon: Not started yet.
        listen_addresses: Where to serve.
        web_config_file: TLS and users, or None.
        enable_lifecycle: Whether POST /-/reload is allowed.
        place: Path prefix and links.
        reload_on_hangup: Whether SIGHUP reloads; otherwise it stops like SIGTERM.
        on_ready: Called with the addresses once they are bound.

    Raises:
        ListenError: An address cannot be bound.
        ConfigError: The web configuration cannot be used.
    """
    daemon.receiver.path = f"{place.prefix}{LOGS}"
    with Signals() as signals:
        live, chats = LivePage(daemon, place.links), ChatsPage(daemon, place.links)
        app = App(
            build_application(
                daemon, enable_lifecycle=enable_lifecycle, place=place, live=live, chats=chats
            ),
            slow_paths=frozenset(f"{place.prefix}{path}" for path in SLOW_PATHS),
            is_slow=build_slowness(live, chats, place),
            uploads=daemon.receiver,
        )
        server = HttpServer(app, listen_addresses, web_config_file)
        daemon.reload_hooks.append(server.reload_web_config)
        server.start()
        manager = Manager(daemon.is_ready, lambda: not daemon.is_healthy(), daemon.describe)
        try:
            daemon.start()
            manager.start()
            log.info(
                "serving",
                version=__version__,
                addresses=", ".join(map(str, server.addresses)),
                databases=", ".join(daemon.config.databases),
            )
            on_ready([str(address) for address in server.addresses])
            while (number := signals.wait()) == signal.SIGHUP and reload_on_hangup:
                manager.tell_reloading()
                _reload(daemon)
                manager.tell_reloaded()
            started = time.monotonic()
            manager.stop(0.0)
            manager.tell(STOPPING=1)
            log.info("stopping", signal=signal.Signals(number).name)
            if not daemon.stop(STOP_POLLING_S):
                log.warning("a poller is still connecting and was not stopped")
        finally:
            server.stop(STOP_SERVING_S)
        log.info("stopped", duration_s=round(time.monotonic() - started, 3))


class Signals:
    """SIGTERM, SIGINT and SIGHUP in order of arrival; a context manager for the main thread.

    They arrive through Python's wake-up descriptor: a handler only runs between two instructions of
    the main thread, so that a signal just before a wait would go unnoticed until the next one.
    """

    _HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # Only a signal with a handler is written to the descriptor.
        self._before = [signal.signal(number, lambda *_: None) for number in self._HANDLED]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self._HANDLED, self._before, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._reader.close()
        self._writer.close()

    def wait(self) -> int:
        """Return the number of the next signal."""
        while (number := self._reader.recv(1)[0]) not in self._HANDLED:
            pass
        return number


def _reload(daemon: Daemon) -> None:
    """Reload; a refused configuration changes nothing and is logged by the daemon."""
    try:
        daemon.reload()
    except ChatqueueError:
        return
