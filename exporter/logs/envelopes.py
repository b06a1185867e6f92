"""A JSON value → the entries in it, for senders that put many records into one object.

Opens the envelopes of collectors and cloud services (`records`, `logEvents`, OTLP's `resourceLogs`,
Loki's `streams` and the like, base64 and gzip in `data`), and refuses what it cannot open: an
envelope is never one entry with an empty text.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.logs import levels
from exporter.logs.entries import Entry, plain, read_line, read_object

MAX_UNPACKED_BYTES = 4 * 1024 * 1024

# In small letters. What stands under another key is opened where no message stands beside it.
_ENVELOPE_KEYS = frozenset((
    "records", "logs", "logevents", "resourcelogs", "scopelogs", "instrumentationlibrarylogs",
    "logrecords", "log_records", "streams", "values", "entries", "lines", "messages",
))  # fmt: skip
_MESSAGE_KEYS = (
    "message", "msg", "event", "text", "log", "body", "error", "err", "exception", "reason",
    "detail", "details", "cause",
)  # fmt: skip
_LABEL_KEYS = ("stream", "labels", "common", "attributes")
_MAX_OPENED = 12
# Of shorter texts a word may be base64 by chance.
_MIN_BASE64_CHARS = 24
_GZIP = b"\x1f\x8b"
_BLANK = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


class LogsRefused(Exception):
    """Records that cannot be read; the message is for the sender and repeats nothing of them.

    Args:
        message: What is wrong and what was expected.
        status: 400, 413 or 415 of HTTP.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        self.status = status
        super().__init__(message)

    def at(self, place: str) -> LogsRefused:
        """Return it with its place in front, where the place matters."""
        return LogsRefused(f"{place} {self}") if self.status == 400 else self


@dataclass(slots=True)
class Budget:
    """How much may still be unpacked of one body.

    Attributes:
        left_bytes: Shared by everything packed in it.
    """

    left_bytes: int = MAX_UNPACKED_BYTES

    def gunzip(self, data: bytes) -> bytes:
        """Return what one gzip member holds.

        Raises:
            LogsRefused: It is not gzip, does not end with the data, or holds too much.
        """
        unpacker = zlib.decompressobj(wbits=31)
        try:
            unpacked = unpacker.decompress(data, self.left_bytes + 1)
        except zlib.error:
            raise LogsRefused("is not gzip") from None
        self.spend(len(unpacked))
        if not unpacker.eof or unpacker.unused_data:
            raise LogsRefused("does not end with its gzip data, expected one gzip member")
        return unpacked

    def spend(self, size_bytes: int) -> None:
        """Take unpacked bytes from what is left.

        Raises:
            LogsRefused: There are more than that.
        """
        if size_bytes > self.left_bytes:
            limit = MAX_UNPACKED_BYTES // 1024
            message = f"too much, expected at most {limit} KiB unpacked"
            raise LogsRefused(message, 413)
        self.left_bytes -= size_bytes


def open_line(line: str, budget: Budget, level: str = "other", depth: int = 0) -> Iterator[Entry]:
    """Give the entries of one line: of the JSON value it is, or the line itself.

    Raises:
        LogsRefused: As `open_value`.
    """
    if line.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(line)
        # A number of more digits than Python reads, or brackets deeper than its stack.
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) or _holds_objects(value):
            yield from open_value(value, budget, level, depth)
            return
    yield read_line(line, level)


def open_value(value: Any, budget: Budget, level: str = "other", depth: int = 0) -> Iterator[Entry]:
    """Give the entries in a JSON value: one for an object that is no envelope.

    Args:
        value: An object, a text, or a list of them.
        budget: How much may be unpacked.
        level: Of the envelope, for records that name none.
        depth: In how many envelopes the value stood.

    Raises:
        LogsRefused: Envelopes in more envelopes than are opened; a record that is neither
            object nor text; packed data that cannot be unpacked.
    """
    if depth > _MAX_OPENED:
        raise LogsRefused(f"holds envelopes in more than {_MAX_OPENED} others")
    if isinstance(value, str):
        yield from open_line(value, budget, level, depth)
    elif isinstance(value, list):
        yield from _open_row(value, budget, level, depth)
    elif isinstance(value, dict):
        yield from _open_object(value, budget, level, depth)
    else:
        raise LogsRefused("is neither, expected an object or a text")


def _open_object(value: dict[str, Any], budget: Budget, level: str, depth: int) -> Iterator[Entry]:
    packed = _packed(value)
    inner = {key: each for key, each in value.items() if _holds_packed(each)}
    has_message = _has_message({key: each for key, each in value.items() if key not in inner})
    inner |= {key: each for key, each in value.items() if _is_envelope(key, each, has_message)}
    if not inner and packed is None:
        yield read_object(value, level)
        return
    level = _level_for_records(value, level)
    if packed is not None:
        yield from _open_packed(packed, budget, level, depth + 1)
        return
    # What stands beside a known envelope's records is about their sender.
    is_known = any(key.lower() in _ENVELOPE_KEYS or _holds_packed(value[key]) for key in inner)
    beside = read_object({key: value[key] for key in value if key not in inner}, level)
    if has_message or (beside.text and not is_known):
        yield beside
    for records in inner.values():
        for record in records if isinstance(records, list) else [records]:
            yield from open_value(record, budget, level, depth + 1)


def _has_message(value: Mapping[str, Any]) -> bool:
    names = {key.lower(): key for key in value}
    return any(value[names[key]] for key in _MESSAGE_KEYS if key in names)


def _is_envelope(key: str, value: Any, has_message: bool, depth: int = 0) -> bool:
    """Whether a key's value is records rather than a part of this one."""
    if isinstance(value, dict):
        return (
            depth < _MAX_OPENED
            and not has_message
            and not _has_message(value)
            and any(_is_envelope(*item, has_message, depth + 1) for item in value.items())
        )
    if not isinstance(value, list) or not value or isinstance(plain(value), dict):
        return False
    return key.lower() in _ENVELOPE_KEYS or (not has_message and _holds_objects(value))


def _level_for_records(value: Mapping[str, Any], level: str) -> str:
    """The level an envelope or its labels give every record in it."""
    for holder in (value, *(plain(value.get(key)) for key in _LABEL_KEYS)):
        if isinstance(holder, dict):
            own = levels.level_of({key.lower(): inner for key, inner in holder.items()})
            level = level if own == "other" else own
    return level


def _open_row(value: list[Any], budget: Budget, level: str, depth: int) -> Iterator[Entry]:
    """A record as a list: Loki's `[time, line, …]`, Fluentd's `[time, record]`, or many of them."""
    texts = [each for each in value if isinstance(each, str) and not _is_number(each)]
    records = [each for each in value if isinstance(each, dict | list)]
    is_row = len(value) > 1 and (_is_number(value[0]) or isinstance(value[0], int | float))
    if is_row and texts:
        yield from open_value(" ".join(texts), budget, level, depth + 1)
        return
    if not (texts or records) and value:
        raise LogsRefused("is neither, expected an object or a text")
    for record in (*texts, *records):
        yield from open_value(record, budget, level, depth + 1)


def _packed(value: Mapping[str, Any]) -> bytes | None:
    """What an object's `data` holds in base64; None where it is none."""
    data = value.get("data", value.get("Data"))
    if not isinstance(data, str) or len(data) < _MIN_BASE64_CHARS or _has_message(value):
        return None
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _holds_packed(value: Any) -> bool:
    """Whether a value is an object around packed data: Pub/Sub's message, Kinesis, awslogs."""
    return isinstance(value, dict) and _packed(value) is not None


def _open_packed(data: bytes, budget: Budget, level: str, depth: int) -> Iterator[Entry]:
    if data.startswith(_GZIP):
        data = budget.gunzip(data)
    else:
        budget.spend(len(data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        message = "holds data that is no text, expected text or gzip of it in base64"
        raise LogsRefused(message) from None
    for value in _values_or_lines(text):
        yield from open_value(value, budget, level, depth)


def _values_or_lines(text: str) -> Iterator[Any]:
    """The JSON values of a text, one after another with or without line ends; else its lines."""
    values, place, text = [], 0, text.strip()
    try:
        while place < len(text):
            value, place = read_value(text, place)
            if not isinstance(value, dict | list):
                raise LogsRefused("is neither")
            values.append(value)
    except LogsRefused:
        yield from filter(str.strip, text.split("\n"))
        return
    yield from values


def read_value(text: str, place: int) -> tuple[Any, int]:
    """Return the JSON value that begins at a place, and the place of what follows it.

    Raises:
        LogsRefused: It is not JSON, or nested too deep.
    """
    try:
        value, place = _DECODER.raw_decode(text, place)
    except RecursionError:
        problem = "nested too deep"
    # ValueError: also a number of more digits than Python reads.
    except ValueError:
        problem = "not JSON"
    else:
        return value, skip_blank(text, place)
    raise LogsRefused(f"{problem} at character {place}, expected an object or a text")


def skip_blank(text: str, place: int) -> int:
    """Return the place of the first character from there on that is no white space."""
    match = _BLANK.match(text, place)
    return place if match is None else match.end()


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict) for each in value)


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.strip().isdigit()
