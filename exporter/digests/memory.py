"""What a watch remembers, in a file that survives a restart and forgives a broken disk."""

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
_FIGURES = ("start", "digest", "now", "raw")


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of one watch.

    Attributes:
        started_at: Of the watch; another beginning is another watch.
        last: The last moment told of; None before the first.
        accounts: By database.
    """

    started_at: datetime
    last: datetime | None = None
    accounts: Mapping[str, Account] = field(default_factory=dict)


def read_memory(file: Path, started_at: datetime) -> Memory | None:
    """Return what a file remembers of the watch that began then; None of another or none.

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
        raise ValueError("does not hold what a watch remembers") from None
    if memory is None:
        raise ValueError(f"is of version {version!r:.20}, expected {VERSION}")
    return memory if memory.started_at == started_at else None


def write_memory(file: Path, memory: Memory) -> None:
    """Replace the file in one step; whoever reads sees the old one or the new one.

    Raises:
        OSError: It cannot be written; the old file stays.
    """
    document = {
        "version": VERSION,
        "started_at": memory.started_at.isoformat(),
        "last": memory.last and memory.last.isoformat(),
        "databases": {
            database: {name: dict(getattr(account, name)) for name in _FIGURES}
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
    return Memory(
        _moment(document["started_at"]),
        None if last is None else _moment(last),
        {
            str(database): Account(
                start=_figures(entry["start"]),
                digest=_figures(entry["digest"]),
                now=_figures(entry["now"]),
                raw=_figures(entry["raw"]),
            )
            for database, entry in document["databases"].items()
        },
    )


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a moment has no zone")
    return moment


def _figures(value: Any) -> dict[str, float]:
    figures = {str(key): float(number) for key, number in value.items()}
    if not all(math.isfinite(number) for number in figures.values()):
        raise ValueError("a figure is no number")
    return figures
