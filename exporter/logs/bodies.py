"""A request's body → entries, all of them or none. Pure, and bounded whatever is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from exporter.logs.entries import Entry
from exporter.logs.envelopes import (
    Budget,
    EnvelopeRefused,
    open_line,
    open_value,
)

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?(?:json|x-ndjson|ndjson|jsonl|x-jsonlines?)")
_BLANK = re.compile(r"\s*")
_DECODER = json.JSONDecoder()
_ENTRY = "an object or a text"


class BodyRefused(Exception):
    """The body cannot be taken; the message is for the sender and repeats nothing of it.

    Args:
        status: 400, 413 or 415.
        message: What is wrong and what was expected.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def unpack(body: bytes, encoding: str) -> bytes:
    """Return the body without its Content-Encoding.

    Args:
        body: As sent, after chunking.
        encoding: The header's value; empty for none.

    Raises:
        BodyRefused: Another encoding than gzip, no gzip, or more than MAX_UNPACKED_BYTES.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise BodyRefused(415, "unknown Content-Encoding, expected gzip or none")
    try:
        return Budget().gunzip(body)
    except EnvelopeRefused as error:
        if error.is_too_large:
            raise BodyRefused(413, str(error)) from None
        if "not end" in str(error):
            found = "the gzip data does not end with the body, expected one gzip member"
        else:
            found = "the body is not gzip, expected what Content-Encoding says"
        raise BodyRefused(400, found) from None


def read_entries(body: bytes, content_type: str) -> Iterator[Entry]:
    """Read a body's entries.

    Args:
        body: Unpacked; invalid UTF-8 in it is replaced.
        content_type: The header's value. JSON (an object, an array, or one value a line) or plain
            text, a line each; JSON where there is none.

    Raises:
        BodyRefused: Another type, or JSON that is none; whatever was read before does not count.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/plain":
        lines = body.decode("utf-8-sig", errors="replace").split("\n")
        yield from _open_each((line for line in lines if line.strip("\0 \t\r")), "line")
        return
    if kind and not _JSON.fullmatch(kind):
        raise BodyRefused(415, "unknown Content-Type, expected application/json or text/plain")
    text = body.decode("utf-8-sig", errors="replace")
    yield from _open_each(_read_values(text), "entry")


def _open_each(values: Iterable[Any], what: str) -> Iterator[Entry]:
    """The entries in each value, all with one budget; the place of what is refused is named."""
    budget = Budget()
    for number, value in enumerate(values, start=1):
        try:
            if what == "entry" and not isinstance(value, dict | str):
                raise EnvelopeRefused(f"is neither, expected {_ENTRY}")
            opened = open_line if isinstance(value, str) else open_value
            yield from opened(value, budget)
        except EnvelopeRefused as error:
            if error.is_too_large:
                raise BodyRefused(413, str(error)) from None
            raise BodyRefused(400, f"{what} {number} {error}") from None


def _read_values(text: str) -> Iterator[Any]:
    """The values of an array, or values one after another.

    One at a time, so that neither their memory nor the time in which nothing else runs adds up.
    """
    place = _skip_blank(text, 0)
    if place == len(text):
        raise BodyRefused(400, "the body is empty, expected JSON")
    if text[place] != "[":
        while place < len(text):
            value, place = _read_value(text, place)
            yield value
            place = _skip_blank(text, place)
        return
    place = _skip_blank(text, place + 1)
    if text[place : place + 1] != "]":
        while True:
            value, place = _read_value(text, place)
            yield value
            place = _skip_blank(text, place)
            if text[place : place + 1] != ",":
                break
            place = _skip_blank(text, place + 1)
    if text[place : place + 1] != "]" or _skip_blank(text, place + 1) != len(text):
        raise BodyRefused(400, f"not JSON at character {place}, expected the end of the array")


def _read_value(text: str, place: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, place)
    except RecursionError:
        found = "nested too deep"
    # ValueError: also a number of more digits than Python reads.
    except ValueError:
        found = "not JSON"
    raise BodyRefused(400, f"{found} at character {place}, expected {_ENTRY}")


def _skip_blank(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    return place if match is None else match.end()
