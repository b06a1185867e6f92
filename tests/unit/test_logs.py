"""Log lines as the operator's tools read them."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from exporter.service import configure_logging

DSN = "postgresql://reader:s3cret@db/chat"


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def logged(log_format: str, level: str = "info") -> io.StringIO:
    """Configure the log and return where it goes."""
    stream = io.StringIO()
    configure_logging(level, log_format, stream)
    return stream


def without_time(line: str) -> str:
    """The line with its time replaced, which must be UTC in ISO form."""
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", "T", line)


def test_a_logfmt_line_begins_with_time_level_and_event() -> None:
    stream = logged("logfmt")
    structlog.get_logger("chatqueue").warning("query failed", query="own", error='a "b"\nc', n=1)

    assert without_time(stream.getvalue()) == (
        r'ts=T level=warning event="query failed" query=own error="a \"b\"\nc" n=1' + "\n"
    )


def test_a_json_line_holds_the_same() -> None:
    stream = logged("json")
    structlog.get_logger("chatqueue").warning("query failed", query="own", error='a "b"\nc', n=1)

    assert json.loads(without_time(stream.getvalue())) == {
        "ts": "T",
        "level": "warning",
        "event": "query failed",
        "query": "own",
        "error": 'a "b"\nc',
        "n": 1,
    }


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_dropped(level: str, written: list[str]) -> None:
    stream = logged("json", level)
    for method in ("debug", "info", "warning", "error"):
        getattr(structlog.get_logger("chatqueue"), method)("said")

    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == written


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_no_value_of_any_type_shows_a_password(log_format: str) -> None:
    stream = logged(log_format)
    values = {"text": DSN, "list": [DSN], "error": ValueError(DSN), "map": {"dsn": DSN}}
    structlog.get_logger("chatqueue").info(f"event {DSN}", **values)
    logging.getLogger("library").error("cannot use %s", DSN)

    assert "s3cret" not in stream.getvalue()
    assert stream.getvalue().count("postgresql://reader:***@") == 6


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_an_exception_stays_on_one_line_without_its_password(log_format: str) -> None:
    stream = logged(log_format)
    try:
        raise ValueError(DSN)
    except ValueError:
        structlog.get_logger("chatqueue").exception("poller failed")

    (line,) = stream.getvalue().splitlines()
    assert "Traceback" in line
    assert "s3cret" not in line


def test_what_a_library_logs_becomes_a_line_of_ours() -> None:
    stream = logged("json")
    logging.getLogger("asyncio").info("steady")
    try:
        raise OSError("broken")
    except OSError:
        logging.getLogger("asyncio").exception("Exception in callback %s", "f()")

    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("exception").endswith("OSError: broken")
    assert json.loads(without_time(json.dumps(event))) == {
        "ts": "T",
        "level": "error",
        "event": "Exception in callback f()",
        "logger": "asyncio",
    }


class FullDisk(io.StringIO):
    """A stream that cannot be written to."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    configure_logging("info", "logfmt", FullDisk())
    structlog.get_logger("chatqueue").error("lost")
    closed = io.StringIO()
    configure_logging("info", "logfmt", closed)
    closed.close()
    structlog.get_logger("chatqueue").error("lost")
    logging.getLogger("library").error("lost")
