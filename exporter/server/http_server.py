"""The server: listening sockets, uvicorn's protocol on them, the sweep, reload and shutdown."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from exporter.server.app import App
from exporter.server.limits import Limits
from exporter.server.listen import bound_address, open_listeners
from exporter.server.message import Application
from exporter.server.protocol import BoundedProtocol, ConnectionTable
from exporter.server.uploads import Uploads
from exporter.server.web_config import WebConfig, load_web_config

_log = structlog.get_logger("chatqueue.server")

# What uvicorn says of bad requests is the client's to see, and not a line of our log.
logging.getLogger("uvicorn").addHandler(logging.NullHandler())
logging.getLogger("uvicorn").propagate = False


_ACCEPTS_A_TURN = 64


class HttpServer:
    """Serves one application on one event loop.

    Args:
        application: Called on the loop; must not block, except for `slow_paths` and uploads.
        listen_addresses: `host:port`, `[IPv6]:port`, or `:port` for every interface.
        web_config_file: TLS, users and headers in the exporter-toolkit's format; None for plain
            HTTP without authentication.
        slow_paths: Paths whose requests run in a small bounded pool of threads.
        limits: What one client may take.
        uploads: Takes larger bodies on its own paths; None for nobody.

    Raises:
        ConfigError: The web configuration file cannot be used.
    """

    def __init__(
        self,
        application: Application,
        *,
        listen_addresses: Sequence[str] = (":10847",),
        web_config_file: Path | None = None,
        slow_paths: frozenset[str] = frozenset(),
        limits: Limits | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._listen_addresses = tuple(listen_addresses)
        self._web_config_file = web_config_file
        self._app = App(application, slow_paths, self._load(), self.limits, uploads)
        self._table = ConnectionTable(self.limits, time.monotonic)
        self._state = ServerState()
        self._config = Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            proxy_headers=False,
            # uvicorn takes any number, and its annotation is narrower.
            timeout_keep_alive=self.limits.idle_timeout_s,  # type: ignore[arg-type]
        )
        self._config.load()
        self._listeners: tuple[socket.socket, ...] = ()
        # TLS handshakes under way, the oldest first.
        self._opening: dict[asyncio.Task[None], None] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the server really listens; empty before `start` and after `stop`."""
        return tuple(bound_address(listener) for listener in self._listeners)

    @property
    def connections(self) -> int:
        """How many connections are open, TLS handshakes not included."""
        return len(self._table.connections)

    async def start(self) -> None:
        """Listen on every address.

        Raises:
            ListenError: An address cannot be listened on; then none is.
        """
        self._loop = asyncio.get_running_loop()
        self._listeners = open_listeners(self._listen_addresses)
        self._sweep()
        self._resume_accepting()

    async def stop(self, grace_s: float = 5.0) -> None:
        """Stop listening, finish what is under way for at most `grace_s`, then close the rest."""
        self._pause_accepting()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        self._listeners = ()
        for connection in tuple(self._table.connections):
            connection.shutdown()
        await self._wait_until_gone(grace_s)
        for connection in tuple(self._table.connections):
            connection.transport.abort()
        await self._wait_until_gone(1.0)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for task in self._state.tasks:
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)
        self._app.close()

    def reload_web_config(self) -> None:
        """Read the web configuration and its certificates again; safe from any thread.

        Listening sockets stay. New connections get the new certificates; every connection made
        with other TLS settings ends after the response that is under way. Users and headers
        count from the next request on.

        Raises:
            ConfigError: It cannot be used; the old one goes on.
        """
        config = self._load()
        if self._loop is None or not self._listeners:
            self._app.use(config)
        else:
            self._loop.call_soon_threadsafe(self._use, config)

    def _load(self) -> WebConfig:
        if self._web_config_file is None:
            return WebConfig()
        return load_web_config(self._web_config_file)

    def _use(self, config: WebConfig) -> None:
        self._app.use(config)
        for connection in tuple(self._table.connections):
            if connection.tls is not self._app.gate.tls:
                connection.shutdown()

    def _resume_accepting(self) -> None:
        assert self._loop is not None  # noqa: S101
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    def _pause_accepting(self) -> None:
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take new connections; where files or memory have run out, one ends for each turn."""
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, _peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.error("cannot accept connections", cause=error.strerror, open=self.connections)
                self._table.evict()
                self._pause_accepting()
                loop.call_later(self.limits.sweep_interval_s, self._resume_accepting)
                return
            sock.setblocking(False)
            # A head and its body are two writes; asyncio does this for its own sockets only.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._opening) >= self.limits.max_connections:
                next(iter(self._opening)).cancel()
            task = loop.create_task(self._open(sock))
            self._opening[task] = None
            task.add_done_callback(partial(self._opened, sock))

    def _opened(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        del self._opening[task]
        if task.cancelled():
            sock.close()

    async def _open(self, sock: socket.socket) -> None:
        """Make a connection of an accepted socket, with the TLS settings in force."""
        loop, tls = asyncio.get_running_loop(), self._app.gate.tls
        options: dict[str, Any] = {}
        if tls is not None:
            options = {
                "ssl": tls.context,
                "ssl_handshake_timeout": self.limits.handshake_timeout_s,
                "ssl_shutdown_timeout": self.limits.linger_s,
            }
        protocol = partial(
            BoundedProtocol, self._table, tls, self._config, self._state, {}, _loop=loop
        )
        try:
            await loop.connect_accepted_socket(protocol, sock, **options)
        except (OSError, ssl.SSLError) as error:
            # Port scanners and clients that do not trust us: theirs to see, not ours to act on.
            _log.debug("connection not opened", cause=str(error) or type(error).__name__)
            sock.close()

    def _sweep(self) -> None:
        assert self._loop is not None  # noqa: S101
        self._sweep_timer = self._loop.call_later(self.limits.sweep_interval_s, self._sweep)
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._table.check_deadlines()

    async def _wait_until_gone(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._table.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
