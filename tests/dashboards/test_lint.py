"""The rules of Grafana's dashboard-linter, and what makes a file importable in Grafana 10 to 13."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import pytest

from tests.dashboards.documents import (
    DASHBOARDS,
    PANELS,
    QUESTIONS,
    RANGE_S,
    RATE_INTERVAL_S,
    nodes,
    parse,
    selectors,
)

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# The types of panels that Grafana 10 to 13 all bring along.
PANEL_TYPES = {"stat", "timeseries", "heatmap", "bargauge", "table"}
UNITS = {"s", "short", "percentunit", "ops", "cpm", "bytes", "dateTimeFromNow", "bool_yes_no"}
# What may be missing while all is well.
NO_FAULT = {"no watch", "no waits", "no traffic", "none on duty", "not known", "not installed"}
COUNTERS = ("_total", "_bucket", "_count", "_sum")
# The series of these are not there before their first event, which no increase counts.
BORN_AT_ONE = "chatqueue_exporter_query_errors_total"
# Written by an exporter as a whole, not by one of its databases.
OWN = re.compile(
    r"chatqueue_(exporter_(build|config)|watch|log|notifications)_.+|(process|scrape)_.+|up"
)

each_dashboard = pytest.mark.parametrize("uid", sorted(DASHBOARDS))
each_panel = pytest.mark.parametrize("key", sorted(PANELS))
each_question = pytest.mark.parametrize("key", sorted(QUESTIONS))


def variables(uid: str) -> dict[str, dict[str, Any]]:
    """The dashboard's variables by name."""
    return {variable["name"]: variable for variable in DASHBOARDS[uid]["templating"]["list"]}


def test_there_are_three_with_addresses_that_never_change() -> None:
    assert set(DASHBOARDS) == {"chat-queue-watch", "chat-queue-operators", "chat-queue-exporter"}


@each_dashboard
def test_it_imports_as_it_is(uid: str) -> None:
    dashboard = DASHBOARDS[uid]

    assert dashboard["id"] is None
    assert dashboard["editable"] is False
    assert dashboard["schemaVersion"] == 39
    assert dashboard["refresh"] == "30s"
    assert not {"__inputs", "__requires", "__elements", "spec", "apiVersion"} & set(dashboard)
    assert dashboard["title"].startswith("Chat queue: ")
    assert dashboard["description"]


@each_dashboard
def test_it_leads_to_the_others_with_time_and_variables(uid: str) -> None:
    (link,) = DASHBOARDS[uid]["links"]

    assert DASHBOARDS[uid]["tags"] == link["tags"] == ["chat-queue"]
    assert link["type"] == "dashboards"
    assert link["keepTime"] is link["includeVars"] is True


@each_dashboard
def test_the_data_source_is_a_variable(uid: str) -> None:
    variable = variables(uid)["datasource"]

    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    assert variable["label"] == "Data source"


@each_dashboard
@pytest.mark.parametrize("name", ["job", "instance", "database"])
def test_the_choices_are_several_or_all_and_follow_the_time_range(uid: str, name: str) -> None:
    variable = variables(uid)[name]

    assert variable["type"] == "query"
    assert variable["label"] == name.capitalize()
    assert variable["datasource"] == DATASOURCE
    assert variable["multi"] is variable["includeAll"] is True
    assert variable["allValue"] == ".+"
    assert variable["refresh"] == 2


@each_dashboard
def test_ids_are_unique_and_panels_neither_overlap_nor_leave_the_grid(uid: str) -> None:
    panels = DASHBOARDS[uid]["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x + at["x"], y + at["y"]) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells

    assert len({panel["id"] for panel in panels}) == len(panels)


@each_dashboard
def test_a_line_of_panels_fills_the_width(uid: str) -> None:
    panels = [panel["gridPos"] for panel in DASHBOARDS[uid]["panels"]]
    for y in range(max(at["y"] + at["h"] for at in panels)):
        width = sum(at["w"] for at in panels if at["y"] <= y < at["y"] + at["h"])
        assert width == 24, y


@each_panel
def test_a_panel_says_what_it_is_and_what_to_do(key: str) -> None:
    panel = PANELS[key]

    assert panel["title"]
    assert panel["title"][0].isupper()
    # Two sentences at the least: what it means, and what to do first.
    assert len(re.findall(r"[.:;?] ", panel["description"] + " ")) >= 2, panel["description"]
    assert panel["type"] in PANEL_TYPES
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["fieldConfig"]["defaults"]["noValue"]


@each_panel
def test_a_panel_leads_to_runbooks(key: str) -> None:
    links = PANELS[key]["links"]

    assert links
    for link in links:
        alert = link["title"].removeprefix("What to do: ")
        assert link["url"] == f"${{runbooks}}#{alert.lower()}"
        assert link["targetBlank"] is True


@each_panel
def test_a_panel_asks_the_chosen_data_source(key: str) -> None:
    panel = PANELS[key]

    assert panel["datasource"] == DATASOURCE
    assert panel["targets"]
    assert all(target["datasource"] == DATASOURCE for target in panel["targets"])
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)
    assert all(target.get("instant") is not target.get("range") for target in panel["targets"])


@pytest.mark.parametrize("key", sorted(k for k, p in PANELS.items() if p["type"] == "stat"))
def test_a_stat_without_a_value_is_red_unless_that_is_no_fault(key: str) -> None:
    defaults = PANELS[key]["fieldConfig"]["defaults"]
    (special,) = [m["options"] for m in defaults["mappings"] if m["type"] == "special"]

    assert special["match"] == "null+nan"
    assert special["result"]["text"] == defaults["noValue"]
    is_no_fault = defaults["noValue"] in NO_FAULT
    assert special["result"]["color"] == ("#8e8e8e" if is_no_fault else "red")


@pytest.mark.parametrize("key", sorted(k for k, p in PANELS.items() if p["type"] == "timeseries"))
def test_a_gap_stays_a_gap(key: str) -> None:
    assert PANELS[key]["fieldConfig"]["defaults"]["custom"]["spanNulls"] is False


@each_question
def test_every_selector_obeys_the_variables(key: str) -> None:
    question = QUESTIONS[key]
    for selector, _ in selectors(question):
        found = {
            m.name: m.value for m in selector.matchers.matchers if m.op == promql_parser.MatchOp.Re
        }
        wanted = {"job", "instance", "database"}
        if "/variable/" in key:
            wanted = {"job": set(), "instance": {"job"}, "database": {"job", "instance"}}[
                question.title
            ]
        elif OWN.fullmatch(selector.name):
            wanted = {"job", "instance"}
        # An alert on what is missing lacks these labels, and must be shown all the same.
        value = ".+|" if selector.name == "ALERTS" else ".+"
        assert {name: found.get(name) for name in wanted} == dict.fromkeys(wanted, value)


def is_first_event(parents: tuple[Any, ...]) -> bool:
    """Whether what was not there before is taken whole."""
    return any(isinstance(p, promql_parser.BinaryExpr) and str(p.op) == "unless" for p in parents)


@each_question
def test_a_counter_is_never_shown_raw_and_its_window_is_grafanas(key: str) -> None:
    for selector, parents in selectors(QUESTIONS[key]):
        if not selector.name.endswith(COUNTERS):
            continue
        if selector.name == BORN_AT_ONE and is_first_event(parents):
            continue
        window, call = parents[0], parents[1]
        assert isinstance(window, promql_parser.MatrixSelector)
        assert call.func.name in ("rate", "increase")
        seconds = window.range.total_seconds()
        allowed = {RATE_INTERVAL_S} if call.func.name == "rate" else {RATE_INTERVAL_S, RANGE_S}
        assert seconds in allowed


@each_question
def test_nothing_makes_a_green_zero_of_what_is_missing(key: str) -> None:
    calls = [node.func.name for node, _ in nodes(parse(QUESTIONS[key])) if hasattr(node, "func")]

    assert not {"vector", "absent", "absent_over_time"} & set(calls)


@each_question
def test_only_counters_are_rated(key: str) -> None:
    for selector, parents in selectors(QUESTIONS[key]):
        functions = {node.func.name for node in parents if hasattr(node, "func")}
        if functions & {"rate", "increase"}:
            assert selector.name.endswith(COUNTERS)
