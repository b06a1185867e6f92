"""A few threads with a bounded queue, for work that must not run on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class PoolFull(Exception):
    """No more work is taken until some of it is done."""


class BoundedPool:
    """Runs blocking calls on `threads` threads; at most `capacity` are running or waiting."""

    def __init__(self, name: str, *, threads: int, capacity: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._capacity = capacity
        self._taken = 0

    async def run(self, call: Callable[[], T]) -> T:
        """Give what the call returns; to be awaited on the event loop.

        Raises:
            PoolFull: `capacity` calls are already taken.
        """
        if self._taken >= self._capacity:
            raise PoolFull
        self._taken += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, call)
        finally:
            self._taken -= 1

    def close(self) -> None:
        """Take no more work and drop what waits; a call that runs is not waited for."""
        self._executor.shutdown(wait=False, cancel_futures=True)
