"""The chaos run in a minute: everything goes wrong at once, and no invariant breaks."""

from __future__ import annotations

import pytest

from tests.chaos.course import run_chaos


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_invariant_breaks_in_chaos() -> None:
    report = run_chaos("1", least_s=30, most_s=600, releases=300, ordinary_s=2.0, rest_s=300.0)

    assert report.breaches == {}, report
    assert report.faults == [], report
    assert report.missing == [], report
    assert report.releases >= 300, report
    assert report.due >= 6, report
