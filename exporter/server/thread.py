"""A thread with an event loop of its own for one server."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from exporter.server.http_server import HttpServer


class ServerThread:
    """Runs a server beside the daemon's other threads; a context manager, or `start` and `stop`.

    Args:
        server: Not started yet; an object serves once.
    """

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self._started: Future[None] = Future()
        self._stop = asyncio.Event()
        self._grace_s = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the server really listens, as `host:port`."""
        return self.server.addresses

    def start(self) -> None:
        """Return once every address is listened on.

        Raises:
            ListenError: An address cannot be listened on; the thread has ended.
        """
        self._thread.start()
        self._started.result()

    def stop(self, grace_s: float = 5.0) -> None:
        """Finish what is under way for at most `grace_s`, close the rest, end the thread."""
        self._grace_s = grace_s
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        try:
            await self.server.start()
        except BaseException as error:
            self._started.set_exception(error)
            return
        self._loop = asyncio.get_running_loop()
        self._started.set_result(None)
        await self._stop.wait()
        await self.server.stop(self._grace_s)
