"""The server: a thread with an event loop, listening sockets, reload and shutdown."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Sequence
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from exporter.server.app import App
from exporter.server.listen import bound_address, open_listeners
from exporter.server.protocol import BoundedProtocol, Connections
from exporter.server.web_config import WebConfig, load_web_config

_log = structlog.get_logger("chatqueue.server")

# What uvicorn logs about bad requests is of interest to the client only.
logging.getLogger("uvicorn").addHandler(logging.NullHandler())
logging.getLogger("uvicorn").propagate = False
# How often deadlines are compared, and how long to wait if files or memory have run out.
_SWEEP_S = 0.25


class HttpServer:
    """Serves an application on a thread with its own event loop; an object serves once.

    Args:
        app: Answers the requests.
        listen_addresses: As `open_listeners` takes them.
        web_config_file: TLS, users and headers in the exporter-toolkit's format; None for plain
            HTTP without authentication.

    Raises:
        ConfigError: The web configuration file cannot be used.
    """

    def __init__(
        self,
        app: App,
        listen_addresses: Sequence[str] = (":10847",),
        web_config_file: Path | None = None,
    ) -> None:
        self._app = app
        self._limits = app.limits
        self._listen_addresses = listen_addresses
        self._web_config_file = web_config_file
        if web_config_file is not None:
            app.use(load_web_config(web_config_file))
        self._connections = Connections(app.limits)
        self._state = ServerState()
        self._config = Config(
            app,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            proxy_headers=False,
        )
        self._config.load()
        self._listeners: tuple[socket.socket, ...] = ()
        # TLS handshakes under way, the oldest first.
        self._opening: dict[asyncio.Task[None], None] = {}
        self._loop: asyncio.AbstractEventLoop
        self._stopping = asyncio.Event()
        self._grace_s = 0.0
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the server really listens; empty before `start` and after `stop`."""
        return tuple(bound_address(listener) for listener in self._listeners)

    @property
    def connections(self) -> int:
        """How many connections are open, TLS handshakes not included."""
        return len(self._connections)

    def start(self) -> None:
        """Listen on every address, and serve.

        Raises:
            ListenError: An address cannot be listened on; then none is.
        """
        self._listeners = open_listeners(self._listen_addresses)
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self, grace_s: float = 5.0) -> None:
        """Finish what is under way for at most `grace_s`, close the rest, end the thread."""
        self._grace_s = grace_s
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def reload_web_config(self) -> None:
        """Read the web configuration and its certificates again; safe from any thread.

        Listening sockets stay. New connections get the new certificates; connections with other
        TLS settings end after the response that is under way. Users and headers apply from the
        next request on.

        Raises:
            ConfigError: It cannot be used; the old one stays in force.
        """
        if self._web_config_file is not None:
            web_config = load_web_config(self._web_config_file)
            self._loop.call_soon_threadsafe(self._use, web_config)

    def _use(self, web_config: WebConfig) -> None:
        self._app.use(web_config)
        for connection in tuple(self._connections):
            if connection.tls is not web_config.tls:
                connection.shutdown()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._sweep()
        self._resume_accepting()
        await self._stopping.wait()
        self._pause_accepting()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        self._listeners = ()
        for connection in tuple(self._connections):
            connection.shutdown()
        await self._wait_until_closed(self._grace_s)
        for connection in tuple(self._connections):
            connection.transport.abort()
        await self._wait_until_closed(1.0)
        self._app.close()

    def _sweep(self) -> None:
        self._loop.call_later(_SWEEP_S, self._sweep)
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._connections.check_deadlines()

    def _resume_accepting(self) -> None:
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _pause_accepting(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take a new connection; if files or memory have run out, one ends before each new try."""
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            _log.error("cannot accept connections", cause=error.strerror, open=self.connections)
            self._connections.evict()
            self._pause_accepting()
            self._loop.call_later(_SWEEP_S, self._resume_accepting)
            return
        sock.setblocking(False)
        if len(self._opening) >= self._limits.max_connections:
            next(iter(self._opening)).cancel()
        task = self._loop.create_task(self._open(sock))
        self._opening[task] = None
        task.add_done_callback(partial(self._opened, sock))

    async def _open(self, sock: socket.socket) -> None:
        """Make a connection of an accepted socket, with the TLS settings in force."""
        tls, options = self._app.web_config.tls, dict[str, Any]()
        if tls is not None:
            options = {
                "ssl": tls.context,
                "ssl_handshake_timeout": self._limits.handshake_timeout_s,
                "ssl_shutdown_timeout": self._limits.linger_s,
            }
        protocol = partial(
            BoundedProtocol, self._connections, tls, self._config, self._state, {}, _loop=self._loop
        )
        try:
            if sock.family != socket.AF_UNIX:
                # A head and its body are two writes; asyncio does this for its own sockets only.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(protocol, sock, **options)
        except (OSError, ssl.SSLError) as error:
            # Port scanners and clients that do not trust our certificate.
            _log.debug("connection not opened", cause=str(error) or type(error).__name__)
            sock.close()

    def _opened(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        del self._opening[task]
        if task.cancelled():
            sock.close()

    async def _wait_until_closed(self, timeout_s: float) -> None:
        deadline = self._loop.time() + timeout_s
        while self._connections and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
