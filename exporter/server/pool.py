"""A few threads with a bounded queue, for work that must not run on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from exporter.server.message import BUSY, Refused

T = TypeVar("T")


class BoundedPool:
    """Runs blocking calls on `threads` threads; at most `capacity` are running or waiting."""

    def __init__(self, name: str, *, threads: int, capacity: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = capacity

    async def run(self, call: Callable[[], T]) -> T:
        """Return what the call returns; for the event loop only.

        Raises:
            Refused: `capacity` calls are running or waiting.
        """
        if not self._free:
            raise Refused(BUSY)
        self._free -= 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._free += 1

    def close(self) -> None:
        """Take no more work and drop what waits; running calls are not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)
