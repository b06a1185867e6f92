"""Every alert is tied to its other ends: its tests, its runbook, its dashboard, its metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.contracts.exported import read_exported
from tests.prometheus.alert_cases import CASES
from tests.prometheus.promtool import RULES, names_in, used_by_rules

ROOT = Path(__file__).parents[2]
REASONS = ROOT / "tests" / "contracts" / "metrics_without_use.yaml"
DASHBOARDS = ("chat-queue-watch", "chat-queue-operators", "chat-queue-exporter")
# Not of ours: what Prometheus itself says of a target.
FOREIGN = {"up"}
EXPORTED = {*read_exported()}


def expressions(node: Any) -> Iterator[str]:
    """Every `expr`, `query` and `definition` of a dashboard, however deep."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("expr", "query", "definition") and isinstance(value, str):
                yield value
            yield from expressions(value)
    elif isinstance(node, list):
        for item in node:
            yield from expressions(item)


def used_by_panels() -> set[str]:
    """Metrics of all dashboards there are."""
    return {
        name
        for path in (ROOT / "dashboards").glob("*.json")
        for expression in expressions(json.loads(path.read_text()))
        for name in names_in(expression)
    }


def family(name: str) -> str:
    """A histogram's name without what its series add."""
    return re.sub(r"_(bucket|sum|count)$", "", name)


@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_an_alert_says_all_that_a_page_needs(key: tuple[str, str]) -> None:
    rule = RULES[key]
    annotations = rule["annotations"]
    uid = annotations["dashboard_url"].removeprefix("/d/").partition("?")[0]

    assert re.fullmatch(r"ChatQueue([A-Z][a-z]+)+", rule["alert"])
    texts = {"summary", "description", "runbook_url", "dashboard_url"}
    assert set(annotations) - {"page_url"} == texts
    # Where the runbook lists chats, the page does.
    runbooks = (ROOT / "docs" / "runbooks.md").read_text()
    section = runbooks.partition(f"\n## {rule['alert']}\n")[2].partition("\n## ")[0]
    assert ("page_url" in annotations) == ("`chatqueue chats " in section)
    assert annotations.get("page_url") in (None, "/#chats-{{ $labels.database }}")
    assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
    assert rule["labels"]["component"] in ("queue", "release", "database", "exporter", "watchdog")
    assert "{{" not in annotations["summary"]
    assert annotations["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"
    assert uid in DASHBOARDS
    assert not re.search(r"or\s+(on\s*\(.*\)\s*)?vector\(0\)", rule["expr"])


def test_every_alert_has_its_case_and_every_case_its_alert() -> None:
    # The watchdog fires always; a test of its own sees it do so.
    watchdog = {("ChatQueueWatchdog", "none")}

    assert {(case.alert, case.severity) for case in CASES} | watchdog == set(RULES)


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))

    assert set(sections) == {alert for alert, _ in RULES}
    for name, section in sections.items():
        headings = re.findall(r"^\*\*(.+?):\*\*", section, re.MULTILINE)
        expected = ["Users feel", "Make sure", "First", "Roll back", "Sleep again"]
        assert (name, headings) == (name, expected)
        assert f"](#{name.lower()})" in text


def test_every_alert_has_its_dashboard() -> None:
    found = {json.loads(p.read_text())["uid"] for p in (ROOT / "dashboards").glob("*.json")}
    wanted = {
        rule["annotations"]["dashboard_url"].removeprefix("/d/").partition("?")[0]
        for rule in RULES.values()
    }

    # Dashboards may be none of the checkout yet; where there are any, all are.
    assert not found or wanted <= found


def test_a_rule_uses_only_what_is_exported() -> None:
    assert used_by_rules() - EXPORTED == FOREIGN


def test_what_is_exported_is_used_or_has_its_reason() -> None:
    reasons = yaml.safe_load(REASONS.read_text())
    exported = {family(name) for name in EXPORTED}
    used = {family(name) for name in used_by_rules() | used_by_panels()}

    assert exported - used == set(reasons)
    assert all(isinstance(reason, str) and len(reason) > 15 for reason in reasons.values())


def labels_of(node: Any) -> frozenset[str] | None:
    """Labels of an expression's series beyond those of target and database; None of a number.

    Judges every pair that is matched on the way: series of the two sides differ in nothing but the
    labels that are ignored, or they never meet.
    """
    match node:
        case promql_parser.VectorSelector():
            labels = {} if node.name in FOREIGN else read_exported()[node.name][1]
            return frozenset(labels) - {"database"}
        case promql_parser.MatrixSelector():
            return labels_of(node.vector_selector)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return None
        case promql_parser.Call():
            vectors = [labels for labels in map(labels_of, node.args) if labels is not None]
            added = {node.args[1].val} if node.func.name == "label_replace" else set()
            return vectors[0] | added if vectors else None
        case promql_parser.AggregateExpr():
            inner, modifier = labels_of(node.expr), node.modifier
            assert inner is not None
            assert "By" not in str(modifier.type), "by () loses external labels"
            return inner - {*modifier.labels}
        case promql_parser.BinaryExpr():
            return labels_of_pair(node)
        case _:
            return labels_of(node.expr)


def labels_of_pair(node: Any) -> frozenset[str] | None:
    """The same of two expressions with an operator between them."""
    left, right = labels_of(node.lhs), labels_of(node.rhs)
    if left is None or right is None:
        return right if left is None else left
    if str(node.op) == "or":
        return left | right
    matching = node.modifier.matching if node.modifier else None
    assert (
        matching is None or "Exclude" in str(matching.type) or "Ignoring" in str(matching.type)
    ), "on () forgets external labels"
    ignored = {*matching.labels} if matching else set()
    assert left ^ right <= ignored <= left | right, f"{node}: {left ^ right} differ"
    return left


@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_series_are_matched_on_all_labels_but_those_that_differ(key: tuple[str, str]) -> None:
    labels_of(promql_parser.parse(RULES[key]["expr"]))
