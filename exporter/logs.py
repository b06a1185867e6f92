"""Log lines: logfmt or JSON on standard error, one event a line, without secrets.

What libraries say through Python's own `logging` becomes such a line as well. A line that cannot be
written is dropped: a full disk or a reader that went away must not end the watch.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

from exporter.config.dsn import redact

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("logfmt", "json")


def configure_logging(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send the product's log to a stream.

    Args:
        level: One of LEVELS; lines below it are dropped.
        log_format: One of FORMATS.
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
    """A stream that loses what it cannot write instead of raising."""

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
    """Hands a record of Python's own `logging` to structlog."""

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
    """The last look before a line is written: no password of a connection string leaves here."""
    for key, value in event.items():
        if not isinstance(value, bool | int | float | None):
            event[key] = redact(str(value))
    return event
