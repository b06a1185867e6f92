"""What a watch remembers of one database: its beginning, its last digest, what was counted. Pure.

A counter begins anew with every process: what it counted is added up here, so that a restart
neither loses nor repeats anything but what came between the last look and the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from exporter.metrics.figures import FIGURES, Reading

_COUNTERS = frozenset(figure.key for figure in FIGURES if figure.is_counter)


@dataclass(frozen=True, slots=True)
class Account:
    """One database's figures over a watch. By figure's key; one that is not known is missing.

    Attributes:
        start: At the beginning; a counter begins at 0.
        digest: At the last digest, or at the beginning before the first.
        now: At the latest look; counters since the beginning.
        raw: What counters showed at the latest look.
        details: Of the latest look.
    """

    start: Mapping[str, float] = field(default_factory=dict)
    digest: Mapping[str, float] = field(default_factory=dict)
    now: Mapping[str, float] = field(default_factory=dict)
    raw: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)

    def look(self, reading: Reading) -> Account:
        """Return the account after another look; what is new in it begins there."""
        totals = {**self._totals, **self._grown(reading)}
        gauges = {key: value for key, value in reading.values.items() if key not in _COUNTERS}
        now = {**gauges, **totals}
        raw = {key: value for key, value in reading.values.items() if key in _COUNTERS}
        return Account(
            start={**now, **dict.fromkeys(totals, 0.0), **self.start},
            digest={**now, **self.digest},
            now=now,
            raw={**self.raw, **raw},
            details=reading.details,
        )

    def told(self) -> Account:
        """Return the account after a digest."""
        return replace(self, digest=self.now)

    @property
    def _totals(self) -> dict[str, float]:
        """What was counted up to the latest look; kept while a metric is not there."""
        return {key: value for key, value in self.now.items() if key in _COUNTERS}

    def _grown(self, reading: Reading) -> dict[str, float]:
        """The counters of a reading, added up."""
        grown = {}
        for key in _COUNTERS & reading.values.keys():
            value = reading.values[key]
            before = self.raw.get(key, value)
            grown[key] = self.now.get(key, 0.0) + (value - before if value >= before else value)
        return grown
