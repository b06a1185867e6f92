"""The table of values over the last 24 h, one value per minute, in a fixed amount of memory. Pure.

Minutes are counted on a clock that only goes forward: one that is set moves the labels of all
minutes together, and loses none. A minute without a reading is NaN, never 0. A counter is kept as
what it grew by in the minute.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.metrics.figures import FIGURES, Reading

MINUTES = 24 * 60
STEP_S = 60.0
VERSION = 1
"""Of the stored form; another one when its meaning changes."""

_COUNTERS = frozenset(figure.key for figure in FIGURES.values() if figure.is_counter)
# A database that was lost within a minute did not answer in it.
_LOWEST = frozenset({"database_up"})
_NOTHING = array("f", [math.nan]) * MINUTES


class History:
    """One database's values, kept as a ring of minutes per figure."""

    def __init__(self) -> None:
        self._rings = {key: array("f", _NOTHING) for key in FIGURES}
        self._raw: dict[str, float] = {}
        self._last: int | None = None
        self._computed: int | None = None

    @property
    def size_bytes(self) -> int:
        """What the values take in memory; always the same."""
        return sum(len(ring) * ring.itemsize for ring in self._rings.values())

    def add(self, elapsed_s: float, reading: Reading) -> None:
        """Take a reading into its minute; of several the last counts, and counters add up.

        Args:
            elapsed_s: On a clock that only goes forward, in seconds.
            reading: A counter that is lower than before has begun anew, from 0.
        """
        place = self._advance(elapsed_s) % MINUTES
        for key, value in reading.values.items():
            ring = self._rings[key]
            if key in _COUNTERS:
                before = self._raw.get(key, value)
                self._raw[key] = value
                grown = value - before if value >= before else value
                ring[place] = grown + (0.0 if math.isnan(ring[place]) else ring[place])
            elif key not in _LOWEST or not ring[place] < value:
                ring[place] = value

    def fill(self, elapsed_s: float, minutes: Sequence[Mapping[str, float]]) -> None:
        """Put computed values into the minutes before a time, which are marked as computed.

        Args:
            elapsed_s: As in `add`, of the last of them.
            minutes: Figure's key to value, oldest first; a counter's growth in the minute.
        """
        last = self._advance(elapsed_s)
        for number, values in enumerate(minutes[-MINUTES:], last + 1 - len(minutes[-MINUTES:])):
            for key, value in values.items():
                self._rings[key][number % MINUTES] = value
        self._computed = last

    def read(self, elapsed_s: float, wall_s: float) -> Recorded:
        """Return all values as of now.

        Args:
            elapsed_s: Now, as in `add`.
            wall_s: Now, Unix time.
        """
        last = int(elapsed_s // STEP_S)
        end_s, computed_s = wall_s - elapsed_s % STEP_S, 0.0
        if self._computed is not None:
            computed_s = end_s - (last - self._computed) * STEP_S
        return Recorded(
            {key: self._unroll(ring, last) for key, ring in self._rings.items()}, end_s, computed_s
        )

    def _unroll(self, ring: array[float], last: int) -> array[float]:
        """The ring's minutes up to `last`, oldest first."""
        newest = last if self._last is None else self._last
        oldest, missed = (newest + 1) % MINUTES, min(MINUTES, max(0, last - newest))
        return (ring[oldest:] + ring[:oldest])[missed:] + _NOTHING[:missed]

    def _advance(self, elapsed_s: float) -> int:
        """Make a time's minute the last one, with gaps for those between; return its number."""
        number = int(elapsed_s // STEP_S)
        if self._last is None:
            self._last = number
        for missed in range(max(self._last, number - MINUTES) + 1, number + 1):
            for ring in self._rings.values():
                ring[missed % MINUTES] = math.nan
        self._last = max(self._last, number)
        return self._last


@dataclass(frozen=True, slots=True)
class Recorded:
    """One database's values as of one time.

    Attributes:
        values: Figure's key to one value per minute, oldest first, the last one of now; NaN where
            it is unknown, a counter's growth.
        end_s: Unix time at which the last minute began.
        computed_until_s: Unix time up to which values were computed from rows; 0 for none.
    """

    values: Mapping[str, array[float]]
    end_s: float
    computed_until_s: float = 0.0

    def time_of(self, minute: int) -> float:
        """Return the Unix time of a minute; 0 is the oldest."""
        return self.end_s - (MINUTES - 1 - minute) * STEP_S

    def total(self, key: str, minutes: int) -> float | None:
        """Return what a counter grew by in the last minutes; None where none is known."""
        known = [value for value in self.values[key][-minutes:] if not math.isnan(value)]
        return sum(known) if known else None

    @property
    def begins_s(self) -> float | None:
        """Unix time of the oldest minute of which anything is known; None where nothing is."""
        first = MINUTES
        for ring in self.values.values():
            known = (minute for minute in range(first) if not math.isnan(ring[minute]))
            first = next(known, first)
        return None if first == MINUTES else self.time_of(first)


def encode_histories(histories: Mapping[str, History], elapsed_s: float, wall_s: float) -> bytes:
    """Return what `decode_histories` reads: a line of JSON, and the compressed values.

    Args:
        histories: By database.
        elapsed_s: Now, as in `History.add`.
        wall_s: Now, Unix time.
    """
    databases, body = {}, bytearray()
    for name, history in histories.items():
        recorded = history.read(elapsed_s, wall_s)
        databases[name] = recorded.computed_until_s
        for ring in recorded.values.values():
            body += _swap(ring).tobytes()
    head = {"version": VERSION, "at": wall_s, "keys": list(FIGURES), "databases": databases}
    return json.dumps(head).encode() + b"\n" + zlib.compress(bytes(body), 1)


def decode_histories(content: bytes, elapsed_s: float, wall_s: float) -> dict[str, History]:
    """Return histories by database, the time since they were written as a gap.

    Args:
        content: Of `encode_histories`.
        elapsed_s: Now, as in `History.add`.
        wall_s: Now, Unix time; where it is before the time of writing, there is no gap.

    Raises:
        ValueError: It is something else; the message says what.
    """
    first, _, packed = content.partition(b"\n")
    try:
        head = json.loads(first)
        version = head["version"]
        if version != VERSION:
            raise ValueError(f"is of version {version!r:.20}, expected {VERSION}")
        keys = [str(key) for key in head["keys"]]
        databases = {str(name): float(until) for name, until in head["databases"].items()}
        written_s = float(head["at"])
        if not all(map(math.isfinite, (written_s, *databases.values()))):
            raise TypeError
    except (TypeError, KeyError, AttributeError, RecursionError, json.JSONDecodeError):
        raise ValueError("does not hold a history") from None
    values = _unpack(packed, len(databases) * len(keys))
    histories, gap_s = {}, max(0.0, wall_s - written_s)
    for index, (name, until_s) in enumerate(databases.items()):
        rings = dict(zip(keys, values[index * len(keys) :], strict=False))
        age_s = written_s - until_s if until_s else math.inf
        histories[name] = _restore(rings, elapsed_s - gap_s, age_s)
    return histories


def _restore(rings: Mapping[str, array[float]], elapsed_s: float, computed_age_s: float) -> History:
    """A history of unrolled rings that end at a time; figures of another version are left out."""
    history = History()
    last = history._advance(elapsed_s)
    for key, ring in rings.items():
        for minute, value in enumerate(ring):
            if key in history._rings:
                history._rings[key][(last + 1 + minute) % MINUTES] = value
    if computed_age_s < MINUTES * STEP_S:
        history._computed = last - int(computed_age_s // STEP_S)
    return history


def _unpack(packed: bytes, count: int) -> list[array[float]]:
    """That many rings.

    Raises:
        ValueError: There are more or fewer, or they are damaged.
    """
    size = MINUTES * _NOTHING.itemsize
    reader = zlib.decompressobj()
    try:
        body = reader.decompress(packed, count * size + 1)
    except zlib.error:
        raise ValueError("is damaged") from None
    if len(body) != count * size or not reader.eof:
        raise ValueError("is damaged")
    rings = []
    for index in range(count):
        ring: array[Any] = array("f")
        ring.frombytes(body[index * size : (index + 1) * size])
        rings.append(_swap(ring))
    return rings


def _swap(ring: array[float]) -> array[float]:
    """A copy in little-endian order, or back."""
    copy = array("f", ring)
    if sys.byteorder == "big":
        copy.byteswap()
    return copy
