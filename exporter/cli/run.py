"""`chatqueue run`: the daemon."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import click
import structlog

from exporter import __version__
from exporter.cli import options
from exporter.daemon import Daemon
from exporter.errors import ChatqueueError
from exporter.logs import configure_logging
from exporter.logwatch.receiver import PATH as LOGS
from exporter.routes import ROOT, SLOW_PATHS, Place, build_application, build_place
from exporter.server import HttpServer, ServerThread

log = structlog.get_logger("chatqueue")

# Together under the 2 s within which a service manager may expect the end.
STOP_POLLING_S = 1.2
STOP_SERVING_S = 0.4


@click.command()
@options.config_file
@click.option(
    "--web.listen-address",
    "listen_addresses",
    multiple=True,
    default=[options.DEFAULT_ADDRESS],
    show_default=True,
    help="Address to serve on; may be given more than once.",
)
@click.option(
    "--web.external-url",
    "external_url",
    metavar="URL",
    help="The address under which people reach the daemon, through a proxy for example; links and "
    "redirects follow it. A path alone is enough.",
)
@click.option(
    "--web.route-prefix",
    "route_prefix",
    metavar="PATH",
    help="What the path of every request begins with.  [default: the path of the external URL]",
)
@options.web_config_file
@options.enable_lifecycle
@options.log_level
@options.log_format
def run(
    config_file: Path,
    listen_addresses: Sequence[str],
    external_url: str | None,
    route_prefix: str | None,
    web_config_file: Path | None,
    enable_lifecycle: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Poll the databases and serve /metrics until stopped.

    SIGTERM and SIGINT stop it, SIGHUP reloads the configuration.
    """
    try:
        place = build_place(external_url, route_prefix)
    except ValueError as error:
        raise click.UsageError(f"--web.external-url or --web.route-prefix: {error}") from None
    configure_logging(log_level, log_format)
    daemon = Daemon(config_file)
    serve(
        daemon,
        listen_addresses,
        web_config_file=web_config_file,
        enable_lifecycle=enable_lifecycle,
        place=place,
    )


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
        place: Below which path.
        reload_on_hangup: Whether SIGHUP reloads; otherwise it stops as SIGTERM does.
        on_ready: Called with the addresses once they are bound.

    Raises:
        ListenError: An address cannot be bound.
        ConfigError: The web configuration cannot be used.
    """
    daemon.logs.receiver.path = f"{place.prefix}{LOGS}"
    with Signals() as signals:
        server = HttpServer(
            build_application(daemon, enable_lifecycle=enable_lifecycle, place=place),
            listen_addresses=listen_addresses,
            web_config_file=web_config_file,
            slow_paths=frozenset(f"{place.prefix}{path}" for path in SLOW_PATHS),
            uploads=daemon.logs.receiver,
        )
        daemon.reload_hooks.append(server.reload_web_config)
        thread = ServerThread(server)
        thread.start()
        try:
            daemon.start()
            log.info(
                "serving",
                version=__version__,
                addresses=", ".join(map(str, server.addresses)),
                databases=", ".join(daemon.config.databases),
            )
            on_ready([str(address) for address in server.addresses])
            while (number := signals.wait()) == signal.SIGHUP and reload_on_hangup:
                _reload(daemon)
            started = time.monotonic()
            log.info("stopping", signal=signal.Signals(number).name)
            if not daemon.stop(STOP_POLLING_S):
                log.warning("a poller hangs in connecting and is left behind")
        finally:
            thread.stop(STOP_SERVING_S)
        log.info("stopped", duration_s=round(time.monotonic() - started, 3))


class Signals:
    """SIGTERM, SIGINT and SIGHUP in the order they came; for the main thread, as a context manager.

    They come through Python's wake-up descriptor. A handler alone runs only between two
    instructions of the main thread: a signal just before a wait would be slept over until the next.
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
    """Reload; a refused configuration is logged by the daemon and changes nothing."""
    try:
        daemon.reload()
    except ChatqueueError:
        return
