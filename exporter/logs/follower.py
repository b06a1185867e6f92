"""One log file by its path: through rotation, truncation, deletion and recreation.

A file is identified by device and inode of its open handle, never by its name alone, so that no
line is read twice after a rename. Files are polled: rotation tools rename, copy and recreate in so
many ways that the current state is more reliable than the events that led to it.

Lines that are written and truncated away between two polls are missed, and so is a file that is
under the path only between two polls.
"""

from __future__ import annotations

import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from exporter.logs.lines import LineSplitter

LINGER_S = 30.0
"""How long a rotated file must be quiet before it is closed; its writer may be late."""

_READ_BYTES = 256 * 1024
_TAIL_BYTES = 1024
_MAX_RETIRED = 8

Identity = tuple[int, int]
Lines = list[bytes]


class Follower:
    """Returns each line that is written to a path once.

    Attributes:
        is_up: Whether the path is a file that is open here.
        problem: Why not; empty while it is up.

    Args:
        path: Need not exist.
        from_end: Whether the present content of an existing file is skipped.
        clock: Monotonic seconds.
    """

    def __init__(
        self, path: Path, *, from_end: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self.is_up = False
        self.problem = "not read yet"
        self._drops: Counter[str] = Counter()
        self._from_end = from_end
        self._clock = clock
        self._current: _Handle | None = None
        self._retired: list[_Handle] = []

    def poll(self) -> Iterator[Lines]:
        """Read what came since the last call; a chunk's lines at a time, none of them empty."""
        for handle in tuple(self._retired):
            yield from self._read(handle)
            if self._clock() - handle.quiet_since >= LINGER_S:
                yield from self._finish(handle)
        identity = self._identify()
        current = self._current
        if current is not None:
            # Also where the path is another file by now: the rest of the old one comes first.
            yield from self._read(current)
            if identity is None:
                if current.is_deleted():
                    self._retire(current)
            elif identity != current.identity:
                yield from self._open(identity)
        elif identity is not None:
            yield from self._open(identity)
        if len(self._retired) > _MAX_RETIRED:
            yield from self._finish(self._retired[0])

    def take_drops(self) -> Counter[str]:
        """Return what was lost since the last call: truncations, and lines cut for their length."""
        drops, self._drops = self._drops, Counter()
        return drops

    def close(self) -> None:
        """Close every handle; lines that have not ended are dropped."""
        for handle in (*self._retired, *([self._current] if self._current else [])):
            handle.close()
        self._retired, self._current = [], None

    def _identify(self) -> Identity | None:
        """The identity of the path's file; None and a problem where it cannot be followed."""
        try:
            status = self.path.stat()
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                self._from_end = False  # a file that is created later is read from its start
            self._fail(error.strerror or type(error).__name__)
            return None
        if not stat.S_ISREG(status.st_mode):
            self._fail("not a regular file")
            return None
        self.is_up, self.problem = self._current is not None, ""
        return status.st_dev, status.st_ino

    def _open(self, identity: Identity) -> Iterator[Lines]:
        """Make the file of the path the current one."""
        handle = next((old for old in self._retired if old.identity == identity), None)
        if handle is not None:
            self._retired.remove(handle)
        else:
            try:
                handle = _Handle(self.path, from_end=self._from_end, now=self._clock())
            except OSError as error:
                self._fail(error.strerror or type(error).__name__)
                return
        self._from_end = False
        if self._current is not None:
            self._retire(self._current)
        self._current = handle
        self.is_up, self.problem = True, ""
        yield from self._read(handle)

    def _read(self, handle: _Handle) -> Iterator[Lines]:
        try:
            for lines in handle.read():
                handle.quiet_since = self._clock()
                yield lines
        except OSError as error:
            self._fail(error.strerror or type(error).__name__)
        self._drops["truncated"] += handle.truncations
        self._drops["long_line"] += handle.splitter.long_lines
        handle.truncations = handle.splitter.long_lines = 0

    def _retire(self, handle: _Handle) -> None:
        handle.quiet_since = self._clock()
        self._retired.append(handle)
        self._current = None

    def _finish(self, handle: _Handle) -> Iterator[Lines]:
        self._retired.remove(handle)
        handle.close()
        yield handle.splitter.finish()

    def _fail(self, problem: str) -> None:
        self.is_up, self.problem = False, problem


class _Handle:
    """An open file and how far it was read.

    Raises:
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path, *, from_end: bool, now: float) -> None:
        # A FIFO in the file's place must not block the thread.
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self.identity: Identity = (status.st_dev, status.st_ino)
        self.quiet_since = now
        self.splitter = LineSplitter()
        self.truncations = 0
        self._offset = status.st_size if from_end else 0
        # The bytes before the offset: where they differ, the file was rewritten.
        self._tail = self._before_offset()
        self._seen = (-1, -1)
        if self._tail and not self._tail.endswith(b"\n"):
            self.splitter.skip()

    def read(self) -> Iterator[Lines]:
        """Give what is new up to the size the file has now."""
        status = os.fstat(self._fd)
        seen = (status.st_size, status.st_mtime_ns)
        if seen == self._seen:
            return
        if status.st_size < self._offset or self._before_offset() != self._tail:
            self.truncations += 1
            self._offset, self._tail = 0, b""
            yield self.splitter.finish()
        while self._offset < status.st_size:
            size = min(_READ_BYTES, status.st_size - self._offset)
            data = os.pread(self._fd, size, self._offset)
            if not data:
                return
            self._offset += len(data)
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
            yield self.splitter.feed(data)
        # Not before: the caller may stop in the middle and come back.
        self._seen = seen

    def is_deleted(self) -> bool:
        """Return whether the file has no name any more."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _before_offset(self) -> bytes:
        size = min(_TAIL_BYTES, self._offset)
        return os.pread(self._fd, size, self._offset - size)
