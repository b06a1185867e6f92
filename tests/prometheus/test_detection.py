"""Every trouble the demo can play is found in time, and a calm shift wakes nobody.

CI plays the quick ones afresh and holds docs/detection-matrix.md against them and the rules; `make
detection-matrix` plays all of them at length, and writes the page.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.demo.scenarios import SCENARIOS
from tests.prometheus.matrix import (
    CALM_S,
    DAY,
    DOCUMENT,
    EXPECTED,
    FAST_CALM_S,
    WATCHDOG,
    describe,
    pages,
    read_document,
    record,
    rules_digest,
)
from tests.prometheus.promtool import RULES
from tests.prometheus.recording import SCRAPE_S

FAST = [scenario for scenario, expected in EXPECTED.items() if expected.fast_s]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", FAST)
def test_a_scenario_is_found_in_time(scenario: str, tmp_path: Path) -> None:
    expected = EXPECTED[scenario]
    recording = record(scenario, expected.fast_s, tmp_path)
    first = recording.firing(tmp_path)
    written = read_document()[scenario]

    assert first[expected.alert] - recording.truths[expected.truth] <= expected.within_s
    # The same people do the same things, but for what the database decides by itself.
    soon = {key for key, at_s in written.items() if at_s <= expected.fast_s - 2 * SCRAPE_S}
    assert soon <= set(first)
    assert {key for key in pages(first) if first[key] <= expected.fast_s} <= set(written)
    assert abs(first[expected.alert] - written[expected.alert]) <= 2 * expected.interval_s


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_calm_shift_wakes_nobody(tmp_path: Path) -> None:
    first = record("calm", FAST_CALM_S, tmp_path).firing(tmp_path)

    assert set(first) == {WATCHDOG}


def test_the_matrix_has_every_scenario_and_was_made_with_these_rules() -> None:
    written = read_document()

    assert set(written) == set(SCENARIOS) | {DAY}
    assert set(EXPECTED) == set(SCENARIOS) - {"calm"}
    assert {key for alerts in written.values() for key in alerts} <= set(RULES)
    assert f"Rules: `{rules_digest()}`" in DOCUMENT.read_text(), "run `make detection-matrix`"


def test_in_the_matrix_every_trouble_is_found_in_time_and_calm_pages_nobody() -> None:
    written = read_document()
    text = DOCUMENT.read_text()

    assert pages(written["calm"]) == pages(written[DAY]) == set()
    assert CALM_S >= 1800
    for scenario, expected in EXPECTED.items():
        (row,) = (
            line
            for line in text.splitlines()
            if line.startswith(f"| {scenario} | {expected.truth} |")
        )
        assert expected.alert in written[scenario]
        assert row.endswith(f" | {describe(expected.within_s)} |")
