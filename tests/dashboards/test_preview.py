"""The parts of the preview that must be as Grafana and Prometheus are."""

from __future__ import annotations

import pytest

from tools.dashboards.questions import interpolate
from tools.preview.history import find_firing
from tools.preview.values import find_properties, judge, name_series, write


def test_variables_are_replaced_and_groups_of_an_expression_are_not() -> None:
    text = 'label_replace(rate(a{job=~"$job|",x="${instance}"}[$__rate_interval]), "le", "$1")'

    done = interpolate(text, rate_interval="4m", time_range="1d")

    assert done == 'label_replace(rate(a{job=~".+|",x=".+"}[4m]), "le", "$1")'


def test_a_variable_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError, match="unheard_of"):
        interpolate("$unheard_of", rate_interval="4m", time_range="1d")


@pytest.mark.parametrize(
    ("moments", "for_s", "firing"),
    [
        ([0, 60, 120, 180], 120, [120, 180]),
        ([0, 60, 120], 0, [0, 60, 120]),
        ([0, 60, 180, 240, 300], 120, [300]),
        ([], 60, []),
    ],
    ids=["after its time", "at once", "a gap begins anew", "never"],
)
def test_an_alert_fires_when_it_was_true_for_long_enough(
    moments: list[float], for_s: float, firing: list[float]
) -> None:
    assert list(find_firing(moments, for_s, 60)) == firing


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"),
        (90, "s", "1.50 min"),
        (7200, "s", "2 h"),
        (0.875, "percentunit", "87.5 %"),
        (float("inf"), "s", "∞"),
        (float("nan"), "short", "-"),
        (1, "bool_yes_no", "yes"),
        (3 * 2**20, "bytes", "3 MiB"),
    ],
)
def test_values_are_written_in_their_unit(value: float, unit: str, text: str) -> None:
    assert write(value, unit) == text


def test_a_value_gets_its_words_or_its_step() -> None:
    defaults = {
        "mappings": [
            {"type": "value", "options": {"1": {"text": "UP", "color": "green"}}},
            {
                "type": "special",
                "options": {"match": "null+nan", "result": {"text": "gone", "color": "red"}},
            },
        ],
        "thresholds": {"steps": [{"value": None, "color": "#000"}, {"value": 5, "color": "#fff"}]},
    }

    assert judge(defaults, 1)[0] == "UP"
    assert judge(defaults, None)[0] == "gone"
    assert judge(defaults, 4) == (None, "#000")
    assert judge(defaults, 5) == (None, "#fff")


def test_overrides_are_found_by_name_and_by_expression() -> None:
    override = {"properties": [{"id": "color", "value": "red"}]}
    by_name = {**override, "matcher": {"id": "byName", "options": "late"}}
    by_expression = {**override, "matcher": {"id": "byRegexp", "options": "/^far/"}}
    panel = {"fieldConfig": {"overrides": [by_name, by_expression]}}

    assert find_properties(panel, "late") == {"color": "red"}
    assert find_properties(panel, "far too late") == {"color": "red"}
    assert find_properties(panel, "calm") == {}
    assert name_series("{{query}} {{ reason }}", {"query": "waits"}) == "waits "
