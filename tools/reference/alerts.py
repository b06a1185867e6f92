"""What follows from the alert rules: the inputs they cannot do without, the runbooks' index.

Owns the inner part of `ChatQueueRuleInputsMissing` in `alerts/exporter.rules.yml`, and the list of
alerts at the head of `docs/runbooks.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from exporter.catalogue import Metric, Query
from exporter.config import Config
from exporter.config.exported import Exported, find_marked
from exporter.metrics.thresholds import PREFIX, build_thresholds
from exporter.polling.plan import load_queries

RULES = "alerts/exporter.rules.yml"
RUNBOOKS = "docs/runbooks.md"
DEFAULTS = Config.model_validate({"databases": {"main": {"dsn": "dbname=chat"}}})
_THRESHOLD_LABELS = {
    family.name: tuple(name for name, _ in family.samples[0].labels)
    for family in build_thresholds(DEFAULTS)
}
THRESHOLD_KEYS = {PREFIX + mark.name: field.key for mark, field in find_marked(DEFAULTS, Exported)}

_INPUTS_RULE = "ChatQueueRuleInputsMissing"
# Off unless configured: that it could not fire is no reason to wake anybody.
_OPTIONAL = {"ChatQueueUserSilent"}

_SELECTOR = re.compile(r"\b(chatqueue_\w+)\b(?:\{([^}]*)\})?(?=[\s)\[]|$)")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_BEGIN = "            # From the expressions of all rules, by `make docs`.\n"
_END = "          )\n          and ignoring (input, query) last_over_time(chatqueue_database_up"
# What an alert's component is called.
_COMPONENTS = {
    "queue": "The queue",
    "release": "Auto-release",
    "database": "The database",
    "exporter": "The exporter",
    "watchdog": "The watchdog",
}


class Selector(NamedTuple):
    """A metric as an expression selects it; the matchers as written, without braces."""

    name: str
    matchers: str


class Input(NamedTuple):
    """What alerts cannot do without.

    Attributes:
        metric: Its name.
        query: The query that gives it; empty for a threshold.
        selector: The metric, with matchers where several queries feed it.
        labels: What its series carry besides the labels of the target and the database.
    """

    metric: str
    query: str
    selector: str
    labels: tuple[str, ...]


def rendered_files(root: Path) -> dict[str, str]:
    """Return the text of each file by its path below the root."""
    rules = read_rules(root)
    return {
        RULES: _replace_inputs((root / RULES).read_text(encoding="utf-8"), find_inputs(rules)),
        RUNBOOKS: re.sub(
            r"^- \*\*The queue:\*\*.*?(?=^## )",
            lambda _: "\n".join(_index(rules)) + "\n\n",
            (root / RUNBOOKS).read_text(encoding="utf-8"),
            count=1,
            flags=re.MULTILINE | re.DOTALL,
        ),
    }


def read_rules(root: Path) -> list[dict[str, Any]]:
    """Return every alert rule, in the order of the files."""
    return [
        rule
        for path in sorted((root / "alerts").glob("*.rules.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def find_selectors(expression: str) -> Iterator[Selector]:
    """Yield the product's metrics of an expression, in its order."""
    for name, matchers in _SELECTOR.findall(expression):
        yield Selector(name, matchers)


def find_alerts(rules: Sequence[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the alerts that use a metric, by the metric's name."""
    alerts: dict[str, dict[str, None]] = {}
    for rule in _without_inputs_rule(rules):
        for selector in find_selectors(rule["expr"]):
            alerts.setdefault(selector.name, {})[rule["alert"]] = None
    return {name: tuple(some) for name, some in alerts.items()}


def find_inputs(rules: Sequence[dict[str, Any]]) -> tuple[Input, ...]:
    """Return what alerts need: a metric of each query that some page needs, and every threshold.

    Without it they are silent for ever. A query's metrics come and go together, so one is enough.
    """
    queries = load_queries(DEFAULTS)
    metrics: dict[str, Input] = {}
    thresholds: dict[str, Input] = {}
    for rule in _without_inputs_rule(rules):
        for selector in find_selectors(rule["expr"]):
            if selector.name.startswith(PREFIX):
                labels = _THRESHOLD_LABELS[selector.name]
                thresholds[selector.name] = Input(selector.name, "", selector.name, labels)
            elif rule["labels"]["severity"] == "critical" and rule["alert"] not in _OPTIONAL:
                for found in _inputs_of(selector, queries):
                    metrics.setdefault(found.query, found)
    return (*metrics.values(), *thresholds.values())


def _without_inputs_rule(rules: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (rule for rule in rules if rule["alert"] != _INPUTS_RULE)


def _inputs_of(selector: Selector, queries: Sequence[Query]) -> Iterator[Input]:
    """The queries that can give a selector a series."""
    feeding = [(q, m) for q in queries for m in q.metrics if m.name == selector.name]
    chosen = f"{selector.name}{{{selector.matchers}}}" if len(feeding) > 1 else selector.name
    for query, metric in feeding:
        if _may_match(metric, selector.matchers):
            names = [label.name for label in metric.labels]
            names += [name for name, _ in metric.series[0].labels]
            yield Input(selector.name, query.name, chosen, ("query", *names))


def _may_match(metric: Metric, matchers: str) -> bool:
    """Whether some series of a metric, as one query gives it, fits all the matchers."""
    values: dict[str, set[str]] = {label.name: {*label.values} for label in metric.labels}
    for series in metric.series:
        for name, value in series.labels:
            values.setdefault(name, set()).add(value)
    return all(
        any(_matches(operator, text, value) for value in values[name])
        for name, operator, text in _MATCHER.findall(matchers)
        if values.get(name)
    )


def _matches(operator: str, text: str, value: str) -> bool:
    is_equal = re.fullmatch(text, value) is not None if "~" in operator else text == value
    return is_equal != operator.startswith("!")


def _replace_inputs(text: str, inputs: Sequence[Input]) -> str:
    """The rule file with the inner part of its rule on missing inputs."""
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    indent = " " * 12
    inner = f"\n{indent}or\n".join("\n".join(_missing(needed, indent)) for needed in inputs)
    return f"{head}{begin}{inner}\n{end}{tail}"


def _missing(needed: Input, indent: str) -> Iterator[str]:
    """An expression with a series where an input is not there."""
    there = "chatqueue_database_up"
    if needed.query:
        there = f'chatqueue_exporter_query_success{{query="{needed.query}"}}'
    ignored = f"ignoring ({', '.join(needed.labels)}) " if needed.labels else ""
    yield f"{indent}label_replace("
    yield f"{indent}  last_over_time({there}[2m])"
    yield f"{indent}  unless {ignored}last_over_time({needed.selector}[2m]),"
    yield f'{indent}  "input", "{needed.metric}", "", ""'
    yield f"{indent})"


def _index(rules: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A list of the alerts for each component, with the keys that set their limits."""
    entries: dict[str, dict[str, str]] = {component: {} for component in _COMPONENTS}
    for rule in rules:
        keys = {} if rule["alert"] == _INPUTS_RULE else THRESHOLD_KEYS
        names = (selector.name for selector in find_selectors(rule["expr"]))
        limits = dict.fromkeys(keys[name] for name in names if name in keys)
        link = f"[{_words(rule['alert'])}](#{rule['alert'].lower()})"
        shown = f" ({', '.join(f'`{key}`' for key in limits)})" if limits else ""
        entries[rule["labels"]["component"]].setdefault(rule["alert"], link + shown)
    for component, title in _COMPONENTS.items():
        yield f"- **{title}:** " + ",\n  ".join(entries[component].values()) + "."


def _words(alert: str) -> str:
    """An alert's name as words."""
    return " ".join(re.findall(r"[A-Z][a-z]+", alert.removeprefix("ChatQueue"))).lower()
