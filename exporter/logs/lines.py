"""Bytes to lines. Pure."""

from __future__ import annotations

MAX_LINE_BYTES = 32 * 1024
"""Only the beginning of a longer line is read."""


class LineSplitter:
    """Cuts a stream into lines and keeps the beginning of the one that has not ended.

    A line ends with a line feed. NUL bytes are dropped: a writer that continues at its old position
    after its file was truncated leaves them. Empty lines are dropped too.

    Attributes:
        long_lines: How many lines were longer than MAX_LINE_BYTES.
    """

    def __init__(self) -> None:
        self.long_lines = 0
        self._begun = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that end in these bytes, each at most MAX_LINE_BYTES."""
        lines = []
        *ended, begun = data.translate(None, b"\0").split(b"\n")
        for part in ended:
            self._take(part)
            lines += self.finish()
        self._take(begun)
        return lines

    def skip(self) -> None:
        """Skip everything up to the next line feed."""
        self._skipping = True

    def finish(self) -> list[bytes]:
        """Return the line that was begun, if not empty; no more of it will come."""
        line, skipping = self._begun, self._skipping
        self._begun, self._skipping = b"", False
        if len(line) > MAX_LINE_BYTES:
            self.long_lines += 1
        return [line[:MAX_LINE_BYTES]] if line.strip() and not skipping else []

    def _take(self, part: bytes) -> None:
        # One byte more than a line may have marks it as too long.
        self._begun = (self._begun + part)[: MAX_LINE_BYTES + 1]
