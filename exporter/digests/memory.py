"""The state of a watch, in a file that survives a restart and tolerates a broken disk."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from exporter.digests.account import Account

VERSION = 1
_LIMIT_BYTES = 1024 * 1024
_STORED = ("start", "digest", "now", "raw")


@dataclass(frozen=True, slots=True)
class Memory:
    """The state of one watch.

    Attributes:
        started_at: Of the watch; another beginning is another watch.
        last: The scheduled time of the last digest; None before the first.
        accounts: By database.
        announced: The kinds of announcements that were due so far; None where that is unknown.
    """

    started_at: datetime
    last: datetime | None = None
    accounts: Mapping[str, Account] = field(default_factory=dict)
    announced: tuple[str, ...] | None = None


def read_memory(file: Path, started_at: datetime) -> Memory | None:
    """Return what a file holds of the watch that began then; None of another or none.

    Raises:
        ValueError: The file cannot be read, or holds something else; the message says what.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if len(content) > _LIMIT_BYTES:
        raise ValueError("is too large")
    try:
        document = json.loads(content)
        version = document["version"]
        memory = _read(document) if version == VERSION else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError("does not hold the state of a watch") from None
    if memory is None:
        raise ValueError(f"is of version {version!r:.20}, expected {VERSION}")
    return memory if memory.started_at == started_at else None


def write_memory(file: Path, memory: Memory) -> None:
    """Replace the file in one step; a reader sees the old one or the new one.

    Raises:
        OSError: It cannot be written; the old file stays.
    """
    document = {
        "version": VERSION,
        "started_at": memory.started_at.isoformat(),
        "last": memory.last and memory.last.isoformat(),
        "announced": memory.announced,
        "databases": {
            database: {name: dict(getattr(account, name)) for name in _STORED}
            for database, account in memory.accounts.items()
        },
    }
    new = file.with_name(f".{file.name}.new")
    with new.open("w", encoding="utf-8") as stream:
        json.dump(document, stream)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)


def _read(document: Any) -> Memory:
    last = document["last"]
    accounts = {}
    for database, entry in document["databases"].items():
        start, digest, now, raw = (_read_values(entry[name]) for name in _STORED)
        accounts[str(database)] = Account(start, digest, now, raw)
    started_at = _read_time(document["started_at"])
    announced = document.get("announced")  # a version before announcements wrote none
    return Memory(
        started_at,
        None if last is None else _read_time(last),
        accounts,
        None if announced is None else tuple(map(str, announced)),
    )


def _read_time(value: Any) -> datetime:
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise ValueError("a time has no zone")
    return time


def _read_values(value: Any) -> dict[str, float]:
    values = {str(key): float(number) for key, number in value.items()}
    if not all(map(math.isfinite, values.values())):
        raise ValueError("a value is no number")
    return values
