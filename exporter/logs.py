"""Log lines: logfmt or JSON on standard error, one event a line, without secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

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
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def _redact_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The last look before a line is written: no password of a connection string leaves here."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = redact(value)
    return event
