"""What a watch stores of one database: its beginning, its last digest, its counts. Pure.

A counter starts again with each process: what it counted is added up here, so that a restart
neither loses nor repeats anything but what came between the last reading and the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from exporter.metrics.figures import FIGURES, Reading

_COUNTERS = frozenset(figure.key for figure in FIGURES.values() if figure.is_counter)


@dataclass(frozen=True, slots=True)
class Account:
    """One database's values over a watch. By figure's key; an unknown one is missing.

    Attributes:
        start: At the beginning; a counter begins at 0.
        digest: At the last digest, or at the beginning before the first.
        now: At the latest reading; counters since the beginning.
        raw: What counters showed at the latest reading.
        details: Of the latest reading.
    """

    start: Mapping[str, float] = field(default_factory=dict)
    digest: Mapping[str, float] = field(default_factory=dict)
    now: Mapping[str, float] = field(default_factory=dict)
    raw: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)

    def update(self, reading: Reading) -> Account:
        """Return the account after another reading; what is new in it begins there."""
        raw = {key: value for key, value in reading.values.items() if key in _COUNTERS}
        # A count is kept while its metric is missing.
        totals = {key: value for key, value in self.now.items() if key in _COUNTERS}
        for key, value in raw.items():
            before = self.raw.get(key, value)
            totals[key] = totals.get(key, 0.0) + (value - before if value >= before else value)
        now = {**reading.values, **totals}
        return Account(
            start={**now, **dict.fromkeys(totals, 0.0), **self.start},
            digest={**now, **self.digest},
            now=now,
            raw={**self.raw, **raw},
            details=reading.details,
        )

    def mark_sent(self) -> Account:
        """Return the account after a digest."""
        return replace(self, digest=self.now)
