"""The server: listening sockets, the table of connections, the sweep, reload and shutdown."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import structlog

from exporter.server.dispatch import Dispatcher, Gate
from exporter.server.limits import Limits
from exporter.server.listen import bound_address, open_listeners
from exporter.server.message import Application
from exporter.server.protocol import Connection, Phase
from exporter.server.uploads import UploadGate, Uploads
from exporter.server.web_config import WebConfig, load_web_config

_log = structlog.get_logger("chatqueue.server")

_READ_BYTES = 8 * 1024
_ACCEPTS_A_TURN = 64
_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BUSY = frozenset({Phase.ANSWERING, Phase.WRITING})


class HttpServer:
    """Serves one application on one event loop.

    Args:
        application: Called on the loop; must not block, except for `slow_paths`.
        listen_addresses: `host:port`, `[IPv6]:port`, or `:port` for every interface.
        web_config_file: TLS, users and headers in the exporter-toolkit's format; None for plain
            HTTP without authentication.
        slow_paths: Paths whose requests run in a small bounded pool of threads.
        limits: What one client may take.
        uploads: Takes larger bodies on paths of its own; nobody by default.

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
        self.buffer = memoryview(bytearray(_READ_BYTES))
        self.draining = False
        self._listen_addresses = tuple(listen_addresses)
        self._web_config_file = web_config_file
        self.upload_gate = None if uploads is None else UploadGate(uploads)
        self._dispatcher = Dispatcher(application, slow_paths, self._load(), uploads)
        self._listeners: tuple[socket.socket, ...] = ()
        # In order of usefulness: each response moves its connection to the end.
        self._connections: OrderedDict[Connection, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._all_gone = asyncio.Event()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._accepting = False
        self.answer = self._dispatcher.answer

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the server really listens, as `host:port`; empty before `start`."""
        return tuple(bound_address(listener) for listener in self._listeners)

    @property
    def connections(self) -> int:
        """How many connections are open, TLS handshakes included."""
        return len(self._connections)

    @property
    def gate(self) -> Gate:
        """The web configuration in force."""
        return self._dispatcher.gate

    async def start(self) -> None:
        """Listen on every address.

        Raises:
            ListenError: An address cannot be listened on; then none is.
        """
        self._loop = asyncio.get_running_loop()
        self.clock = self._loop.time
        self._listeners = open_listeners(self._listen_addresses)
        self._resume_accepting()
        self._sweep_timer = self._loop.call_later(self.limits.sweep_interval_s, self._sweep)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Stop listening, finish what is under way for at most `grace_s`, then close the rest."""
        self.draining = True
        self._pause_accepting()
        for listener in self._listeners:
            listener.close()
        self._listeners = ()
        for connection in tuple(self._connections):
            connection.retire()
        await self._wait_until_gone(grace_s)
        for connection in tuple(self._connections):
            connection.abort()
        await self._wait_until_gone(1.0)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._dispatcher.close()

    def reload_web_config(self) -> None:
        """Read the web configuration and its certificates again; safe from any thread.

        Listening sockets stay. New connections get the new certificates; every connection made
        with other TLS settings ends after the response that is under way. Users and headers
        count from the next request on.

        Raises:
            ConfigError: It cannot be used; the old one goes on.
        """
        self._dispatcher.use(self._load())
        if self._accepting:
            self._loop.call_soon_threadsafe(self._retire_stale)

    def _load(self) -> WebConfig:
        if self._web_config_file is None:
            return WebConfig()
        return load_web_config(self._web_config_file)

    # What a connection needs.

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine; it is cancelled when the server has stopped."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def served(self, connection: Connection) -> None:
        """Note that a connection has just been useful."""
        self._connections.move_to_end(connection)

    def forget(self, connection: Connection) -> None:
        """Drop a connection whose socket is closed."""
        self._connections.pop(connection, None)
        if not self._connections:
            self._all_gone.set()

    # Accepting.

    def _resume_accepting(self) -> None:
        if not self._accepting:
            self._accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener, self._accept, listener)

    def _pause_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, _peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._accept_failed(error)
                return
            sock.setblocking(False)
            if len(self._connections) >= self.limits.max_connections:
                self._evict()
            gate = self.gate  # once: a reload in another thread may replace it at any time
            connection = Connection(self, sock, gate)
            self._connections[connection] = None
            self.start_task(self._open(sock, connection, gate))

    def _accept_failed(self, error: OSError) -> None:
        """Make room where files or memory ran out; the next sweep accepts again."""
        if error.errno in _OUT_OF_RESOURCES:
            self._evict()
        _log.error("cannot accept connections", cause=error.strerror, open=self.connections)
        self._pause_accepting()

    def _evict(self) -> None:
        """Abort the connection that has been idle or unfinished longest, a busy one at need."""
        candidates = [c for c in self._connections if c.phase is not Phase.GONE]
        useless = next((c for c in candidates if c.phase not in _BUSY), None)
        victim = useless or next(iter(candidates), None)
        if victim is not None:
            victim.abort()

    async def _open(self, sock: socket.socket, connection: Connection, gate: Gate) -> None:
        try:
            if gate.tls is None:
                await self._loop.connect_accepted_socket(lambda: connection, sock)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: connection,
                    sock,
                    ssl=gate.tls.context,
                    ssl_handshake_timeout=self.limits.handshake_timeout_s,
                    ssl_shutdown_timeout=self.limits.linger_s,
                )
        except (OSError, ssl.SSLError) as error:
            # Port scanners and clients that do not trust us: theirs to see, not ours to act on.
            _log.debug("connection not opened", cause=str(error) or type(error).__name__)
            sock.close()
            self.forget(connection)

    # Periodic.

    def _sweep(self) -> None:
        self._sweep_timer = self._loop.call_later(self.limits.sweep_interval_s, self._sweep)
        now = self.clock()
        for connection in tuple(self._connections):
            connection.check_deadline(now)
        if not self.draining:
            self._resume_accepting()

    def _retire_stale(self) -> None:
        for connection in tuple(self._connections):
            connection.retire_if_stale()

    async def _wait_until_gone(self, timeout_s: float) -> None:
        self._all_gone.clear()
        if self._connections:
            try:
                await asyncio.wait_for(self._all_gone.wait(), timeout_s)
            except TimeoutError:
                _log.debug("connections left", open=self.connections)
