"""A request's body → its entries, all of them or none. Pure, and bounded whatever is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from exporter.logs.entries import Entry
from exporter.logs.envelopes import (
    Budget,
    LogsRefused,
    open_line,
    open_value,
    read_value,
    skip_blank,
)

_JSON = re.compile(r"application/(?:[\w.+-]+\+)?(?:json|x-ndjson|ndjson|jsonl|x-jsonlines?)")


def unpack(body: bytes, encoding: str) -> bytes:
    """Return the body without its Content-Encoding.

    Args:
        body: As sent, after chunking.
        encoding: The header's value; empty for none.

    Raises:
        LogsRefused: Another encoding than gzip, no gzip, or more than MAX_UNPACKED_BYTES.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise LogsRefused("unknown Content-Encoding, expected gzip or none", 415)
    try:
        return Budget().gunzip(body)
    except LogsRefused as error:
        raise error.at("the body") from None


def read_entries(body: bytes, content_type: str) -> Iterator[Entry]:
    """Read a body's entries.

    Args:
        body: Unpacked; invalid UTF-8 in it is replaced.
        content_type: The header's value. JSON (an object, an array, or one value per line) or
            lines of plain text; JSON where it is empty.

    Raises:
        LogsRefused: Another type, or invalid JSON; entries that came before do not count.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/plain":
        lines = body.decode("utf-8-sig", errors="replace").split("\n")
        yield from _open_each((line for line in lines if line.strip("\0 \t\r")), "line")
        return
    if kind and not _JSON.fullmatch(kind):
        message = "unknown Content-Type, expected application/json or text/plain"
        raise LogsRefused(message, 415)
    text = body.decode("utf-8-sig", errors="replace")
    yield from _open_each(_read_values(text), "entry")


def _open_each(values: Iterable[Any], what: str) -> Iterator[Entry]:
    """The entries in each value, all with one budget."""
    budget = Budget()
    for number, value in enumerate(values, start=1):
        opened = open_line if isinstance(value, str) else open_value
        try:
            if isinstance(value, list):
                raise LogsRefused("is neither, expected an object or a text")
            yield from opened(value, budget)
        except LogsRefused as error:
            raise error.at(f"{what} {number}") from None


def _read_values(text: str) -> Iterator[Any]:
    """The values of an array, or values one after another.

    One at a time, so that neither their memory nor the time in which nothing else runs adds up.
    """
    place = skip_blank(text, 0)
    if place == len(text):
        raise LogsRefused("the body is empty, expected JSON")
    if text[place] != "[":
        while place < len(text):
            value, place = read_value(text, place)
            yield value
        return
    place = skip_blank(text, place + 1)
    if text[place : place + 1] != "]":
        while True:
            value, place = read_value(text, place)
            yield value
            if text[place : place + 1] != ",":
                break
            place = skip_blank(text, place + 1)
    if text[place : place + 1] != "]" or skip_blank(text, place + 1) != len(text):
        raise LogsRefused(f"not JSON at character {place}, expected the end of the array")
