"""The one table of values that people are shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.metrics.figures import ANY, FIGURES, NEW, STATE_FIGURES, Figure

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
EVERY = (*STATE_FIGURES, *FIGURES.values())


def test_each_metric_and_limit_is_one_of_ours() -> None:
    documented = set(re.findall(r"`(chatqueue_\w+)`", METRICS.read_text()))
    limits = {figure.limit for figure in EVERY} - {"", ANY, NEW}

    assert ({figure.metric for figure in EVERY} | limits) - documented == set()


def test_no_two_values_have_the_same_words() -> None:
    words = [figure.words for figure in FIGURES.values()]

    assert sorted(words) == sorted(set(words))


@pytest.mark.parametrize("figure", EVERY, ids=lambda figure: figure.key)
def test_a_unit_is_that_of_the_metric(figure: Figure) -> None:
    base_unit = figure.metric.rpartition("_")[2]

    assert (figure.unit in ("seconds", "ratio")) == (base_unit in ("seconds", "ratio"))
    assert figure.limit != NEW or figure.is_counter


def test_labels_are_matchers_in_promql() -> None:
    assert FIGURES["waiting"].matchers == ('state="waiting_assignment"',)
    assert FIGURES["released_replied"].matchers == ('outcome=~"replied|customer_replied"',)
