"""What a Prometheus would have stored of a daemon's pages, and the real rules over it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.openmetrics import format_sample, write_families
from tests.prometheus.promtool import run_tests

SCRAPE_S = 15
JOB, INSTANCE = "chatqueue", "watch:10847"
_LABEL = re.compile(r'(\w+)=\\?"([^"\\]*)\\?"')
_SAMPLE = re.compile(r"\{([^}]*)\} ([-+.\dE]+)")


@dataclass
class Recording:
    """What Prometheus would have stored of one play.

    Attributes:
        scenario: Its name.
        scrape_s: Time between two scrapes.
        scrapes: How many.
        series: Name and labels to one value a scrape; None where it was not on the page.
        truths: What was first seen to be true in the database itself: name to second.
    """

    scenario: str
    scrape_s: int = SCRAPE_S
    scrapes: int = 0
    series: dict[str, list[float | None]] = field(default_factory=dict)
    truths: dict[str, float] = field(default_factory=dict)

    def scrape(self, page: str, wanted: Iterable[str]) -> None:
        """Store a page."""
        names = frozenset(wanted)
        for line in page.splitlines():
            series, _, value = line.rpartition(" ")
            name, _, labels = series.partition("{")
            if name in names:
                key = f'{name}{{{labels.rstrip("}")}{"," if labels else ""}job="{JOB}",'
                key += f'instance="{INSTANCE}"}}'
                values = self.series.setdefault(key, [None] * self.scrapes)
                values.append(float(value))
        self.series.setdefault(f'up{{job="{JOB}",instance="{INSTANCE}"}}', []).append(1.0)
        self.scrapes += 1
        for values in self.series.values():
            values.extend([None] * (self.scrapes - len(values)))

    def repeat(self) -> None:
        """Store the latest page once more."""
        self.scrapes += 1
        for values in self.series.values():
            values.append(values[-1])

    def firing(self, folder: Path) -> dict[tuple[str, str], float]:
        """Evaluate the real rules; return alert and severity to the second it first fires at."""
        end_s = (self.scrapes - 1) * self.scrape_s
        asked = (
            f'min_over_time(timestamp(ALERTS{{alertstate="firing"}})[{end_s}s:{self.scrape_s}s])'
        )
        answer = ask_promtool(folder, self, asked, end_s)
        first: dict[tuple[str, str], float] = {}
        for labels, value in answer:
            key = labels["alertname"], labels["severity"]
            first[key] = min(value, first.get(key, math.inf))
        return first

    def write(self, file: Path, since_s: float) -> None:
        """Write all of it as OpenMetrics, the first scrape at that Unix time."""
        families: dict[str, list[str]] = {}
        for series, values in self.series.items():
            lines = families.setdefault(series.partition("{")[0], [])
            for number, value in enumerate(values):
                if value is not None:
                    at_s = since_s + number * self.scrape_s
                    lines.append(format_sample(series, value, at_s))
        write_families(file, families)

    def input_series(self) -> list[dict[str, str]]:
        """The series as promtool reads them; one that leaves the page goes stale."""
        return [
            {"series": name, "values": " ".join(_notation(values))}
            for name, values in self.series.items()
        ]


def _notation(values: Iterable[float | None]) -> Iterator[str]:
    """A sample each: a value, `stale` where it left the page, `_` while it is gone."""
    before: float | None = None
    for value in values:
        if value is None:
            yield "_" if before is None else "stale"
        else:
            # promtool 2.42 knows no exponent in a number.
            yield "+Inf" if value == math.inf else f"{value:.9f}".rstrip("0").rstrip(".")
        before = value


def ask_promtool(
    folder: Path, recording: Recording, expression: str, at_s: float
) -> list[tuple[dict[str, str], float]]:
    """Evaluate an expression after all rules.

    promtool has no command for that: its complaint that nothing was expected is the answer.
    """
    complaint = run_tests(
        folder,
        {
            "play": {
                "interval": f"{recording.scrape_s}s",
                "input_series": recording.input_series(),
                "promql_expr_test": [
                    {"expr": expression, "eval_time": f"{at_s:.0f}s", "exp_samples": []}
                ],
            }
        },
        interval_s=recording.scrape_s,
    )
    got = complaint.partition("got:")[2]
    assert got, complaint
    return [(dict(_LABEL.findall(labels)), float(value)) for labels, value in _SAMPLE.findall(got)]
