"""What an operator reads when a query's files are wrong: the whole message, every time."""

# ruff: noqa: E501, ISC004  # messages stand whole, as an operator reads them
from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from exporter.catalogue import load_catalogue
from exporter.config import Override, Poll
from exporter.errors import CatalogueError

SQL = "SELECT 1 AS v"
GOOD = "metrics:\n  - {name: m, type: gauge, help: H, value: v}\n"
FACTS = {"facts/f.sql": SQL, "facts/f.yaml": "needs: [{relation: public.t}]\n"}
NAME_FORM = "lower-case letters, digits and _"
ONE_OF_BOTH = "expected one of them"
BUCKETS = "expected ascending upper bounds, without +Inf"
COUNTER = "metrics:\n  - {name: m_total, type: counter, help: H}\n"


def faults_of(
    folder: Path, files: Mapping[str, str | bytes], overrides: Mapping[str, Override] | None = None
) -> list[str]:
    """Load a folder with these files and give the messages, the folder cut off."""
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CatalogueError) as caught:
        load_catalogue([folder], poll=Poll(), overrides=overrides or {}, parameters={"a", "b"})
    return str(caught.value).replace(f"{folder}/", "").replace(str(folder), "DIR").split("\n")


def metric(text: str) -> str:
    """A mapping file with one metric, on line 2."""
    return f"metrics:\n  - {{{text}}}\n"


def with_label(text: str) -> str:
    """A mapping file with the label `t` described on line 1 and one metric on line 3."""
    return f"labels: {{t: {{column: t}}}}\n{metric('name: m, type: gauge, help: H, ' + text)}"


def of_events(text: str) -> str:
    """A mapping file of a query of events with one metric on line 3."""
    return f"events: {{}}\n{metric(text)}"


MAPPINGS = {
    "unknown key": (
        "intervall: 15s\n" + GOOD,
        "q.yaml:1: intervall: unknown key, expected one of enabled, interval, timeout, max_age, max_rows, generic_plan, facts, needs, labels, events, metrics; did you mean interval?",
    ),
    "empty file": (
        "# nothing\n",
        "q.yaml: the file is empty, expected a YAML mapping with at least the key metrics",
    ),
    "a list": (
        "- a\n",
        "q.yaml:1: the file holds a list, expected a YAML mapping with at least the key metrics",
    ),
    "key twice": (
        "interval: 15s\ninterval: 15s\n" + GOOD,
        "q.yaml:2: interval: set twice, first on line 1, expected each key once",
    ),
    "not yaml": (
        "metrics: [\n",
        "q.yaml:2: column 1: a value is missing or malformed, expected quotes around a value with special characters",
    ),
    "no metrics key": (
        "interval: 15s\n",
        "q.yaml:1: metrics: missing, expected at least one metric",
    ),
    "no metric": (
        "metrics: []\n",
        "q.yaml:1: metrics: a list has no entries, expected at least one",
    ),
    "metrics left empty": (
        "metrics:\n",
        "q.yaml:1: metrics: an empty value is given, expected a list such as [one, two]",
    ),
    "metrics by name": (
        "metrics: {a: b}\n",
        "q.yaml:1: metrics: a mapping is not a list, expected a list such as [one, two]",
    ),
    "nothing of a metric": (
        metric(""),
        "q.yaml:2: metrics[0].name: missing, expected a metric name\n"
        "q.yaml:2: metrics[0].type: missing, expected gauge, counter or histogram\n"
        "q.yaml:2: metrics[0].help: missing, expected a sentence",
    ),
    "metric name": (
        metric("name: M-x, type: gauge, help: H, value: v"),
        f"q.yaml:2: metrics[0].name: 'M-x' is not a metric name, expected {NAME_FORM}",
    ),
    "metric name is a number": (
        metric("name: 5, type: gauge, help: H, value: v"),
        "q.yaml:2: metrics[0].name: 5 is not text, expected lower-case letters, digits and _",
    ),
    **{
        f"name of {prefix}": (
            metric(f"name: {prefix}, type: gauge, help: H, value: v"),
            f"q.yaml:2: metrics[0].name: '{prefix}' is a name the exporter gives out itself, expected another prefix",
        )
        for prefix in (
            "chatqueue_exporter_x",
            "chatqueue_database_up",
            "chatqueue_database_row_security_hidden",
            "chatqueue_database_clock_skew_seconds",
            "chatqueue_database_in_recovery",
            "chatqueue_database_reconnections_total",
            "chatqueue_threshold_x",
            "chatqueue_release_x",
            "process_x",
            "python_x",
        )
    },
    "type": (
        metric("name: m, type: summary, help: H, value: v"),
        "q.yaml:2: metrics[0].type: 'summary' is not known, expected gauge, counter or histogram",
    ),
    "gauge with a counter's name": (
        metric("name: m_total, type: gauge, help: H, value: v"),
        "q.yaml:2: metrics[0].type: 'gauge' does not fit the name m_total, expected a name that ends in _total for a counter, and for nothing else",
    ),
    "counter with a gauge's name": (
        metric("name: m, type: counter, help: H, value: v"),
        "q.yaml:2: metrics[0].type: 'counter' does not fit the name m, expected a name that ends in _total for a counter, and for nothing else",
    ),
    "help left empty": (
        metric("name: m, type: gauge, help: '', value: v"),
        "q.yaml:2: metrics[0].help: '' is empty, expected text",
    ),
    "unit that is no base unit": (
        metric("name: m_minutes, type: gauge, help: H, value: v, unit: minutes"),
        "q.yaml:2: metrics[0].unit: 'minutes' is not known, expected seconds, bytes or ratio",
    ),
    "unit that is not in the name": (
        metric("name: m, type: gauge, help: H, value: v, unit: seconds"),
        "q.yaml:2: metrics[0].unit: 'seconds' does not end the name m, expected a name ending in _seconds",
    ),
    "unit of a counter": (
        metric("name: seconds_total, type: counter, help: H, value: v, unit: seconds"),
        "q.yaml:2: metrics[0].unit: 'seconds' does not end the name seconds, expected a name ending in _seconds",
    ),
    "neither value nor series": (
        metric("name: m, type: gauge, help: H"),
        f"q.yaml:2: metrics[0]: has neither value nor series, {ONE_OF_BOTH}",
    ),
    "an empty list of series": (
        metric("name: m, type: gauge, help: H, series: []"),
        f"q.yaml:2: metrics[0]: has neither value nor series, {ONE_OF_BOTH}",
    ),
    "both value and series": (
        metric("name: m, type: gauge, help: H, value: v, series: [{value: w}]"),
        f"q.yaml:2: metrics[0]: has both value and series, {ONE_OF_BOTH}",
    ),
    "value is a number": (
        metric("name: m, type: gauge, help: H, value: 5"),
        "q.yaml:2: metrics[0].value: 5 is not text, expected text in quotes",
    ),
    "empty is no number": (
        metric("name: m, type: gauge, help: H, value: v, empty: none"),
        "q.yaml:2: metrics[0].empty: 'none' is not a number, expected a number such as 0.9",
    ),
    "empty is a switch": (
        metric("name: m, type: gauge, help: H, value: v, empty: true"),
        "q.yaml:2: metrics[0].empty: true is not a number, expected a number such as 0.9",
    ),
    "empty is infinite": (
        metric("name: m, type: gauge, help: H, value: v, empty: .inf"),
        "q.yaml:2: metrics[0].empty: .inf is not a finite number, expected a number such as 0.9",
    ),
    "empty without values": (
        with_label("labels: [t], value: v, empty: 0"),
        "q.yaml:3: metrics[0].empty: is given, but label 't' lists no values, expected values under labels.t, or no empty",
    ),
    "label not described": (
        with_label("labels: [s], value: v"),
        "q.yaml:3: metrics[0].labels[0]: 's' is not described, expected one of labels: t",
    ),
    "no label described": (
        metric("name: m, type: gauge, help: H, value: v, labels: [s]"),
        "q.yaml:2: metrics[0].labels[0]: 's' is not described, expected one of labels: none there",
    ),
    "label twice": (
        with_label("labels: [t, t], value: v"),
        "q.yaml:3: metrics[0].labels[1]: 't' stands twice, expected each label once",
    ),
    **{
        f"label {name}": (
            f"labels: {{{name}: {{column: c}}}}\n{GOOD}",
            f"q.yaml:1: labels.{name}: '{name}' is a label that Prometheus or the exporter sets, expected another name",
        )
        for name in ("database", "job", "instance", "le", "quantile")
    },
    "label name": (
        "labels: {Bad-x: {column: t}}\n" + GOOD,
        f"q.yaml:1: labels.Bad-x: 'Bad-x' is not a label name, expected {NAME_FORM}, not beginning with __",
    ),
    "label name of Prometheus": (
        "labels: {__x: {column: t}}\n" + GOOD,
        f"q.yaml:1: labels.__x: '__x' is not a label name, expected {NAME_FORM}, not beginning with __",
    ),
    "label without column": (
        "labels:\n  t: {values: [a]}\n" + GOOD,
        "q.yaml:2: labels.t.column: missing, expected a column of the query",
    ),
    "labels in a list": (
        "labels: [t]\n" + GOOD,
        "q.yaml:1: labels: a list is not a mapping, expected a mapping, one name: value per line",
    ),
    "label value is a number": (
        "labels: {t: {column: t, values: [1]}}\n" + GOOD,
        "q.yaml:1: labels.t.values[0]: 1 is not text, expected text in quotes",
    ),
    "label values in no list": (
        "labels: {t: {column: t, values: a}}\n" + GOOD,
        "q.yaml:1: labels.t.values: 'a' is not a list, expected a list such as [one, two]",
    ),
    "series without value": (
        metric("name: m, type: gauge, help: H, series: [{labels: {a: x}}]"),
        "q.yaml:2: metrics[0].series[0].value: missing, expected a column of the query",
    ),
    "series label is a number": (
        metric("name: m, type: gauge, help: H, series: [{labels: {a: 15}, value: v}]"),
        "q.yaml:2: metrics[0].series[0].labels.a: 15 is not text, expected text in quotes",
    ),
    "series label is empty": (
        metric("name: m, type: gauge, help: H, series: [{labels: {a: ''}, value: v}]"),
        "q.yaml:2: metrics[0].series[0].labels.a: '' is empty, expected text",
    ),
    "series that share labels": (
        metric(
            "name: m, type: gauge, help: H, "
            "series: [{labels: {a: x}, value: v}, {labels: {a: x}, value: w}]"
        ),
        "q.yaml:2: metrics[0].series: share their labels, expected labels that differ",
    ),
    "series of different labels": (
        metric(
            "name: m, type: gauge, help: H, "
            "series: [{labels: {a: x}, value: v}, {labels: {b: x}, value: w}]"
        ),
        "q.yaml:2: metrics[0].series: differ in label names, expected the same labels in each series",
    ),
    "series with a label of the rows": (
        with_label("labels: [t], series: [{labels: {t: x}, value: v}]"),
        "q.yaml:3: metrics[0].series: differ in label names, expected the same labels in each series",
    ),
    "metric twice": (
        GOOD + "  - {name: m, type: gauge, help: H, value: w}\n",
        "q.yaml:3: metrics[1].name: 'm' stands twice, expected each metric once",
    ),
    "interval without unit": (
        "interval: 15\n" + GOOD,
        "q.yaml:1: interval: 15 has no unit, expected a duration such as 15s",
    ),
    "interval too short": (
        "interval: 10ms\n" + GOOD,
        "q.yaml:1: interval: '10ms' is too short, expected 1s or more",
    ),
    "timeout beyond the interval": (
        "interval: 5s\ntimeout: 10s\n" + GOOD,
        "q.yaml:2: timeout: '10s' is longer than interval (5s), expected 5s or less",
    ),
    "timeout beyond the configuration's interval": (
        "timeout: 1m\n" + GOOD,
        "q.yaml:1: timeout: '1m' is longer than interval (15s), expected 15s or less",
    ),
    "max_age within the interval": (
        "interval: 1m\nmax_age: 10s\n" + GOOD,
        "q.yaml:2: max_age: '10s' is shorter than interval (1m), expected 1m or more",
    ),
    "max_rows out of range": (
        "max_rows: 0\n" + GOOD,
        "q.yaml:1: max_rows: 0 is too small, expected 1 or more",
    ),
    "max_rows is no number": (
        "max_rows: many\n" + GOOD,
        "q.yaml:1: max_rows: 'many' is not a whole number, expected digits such as 10",
    ),
    "enabled is no switch": (
        "enabled: maybe\n" + GOOD,
        "q.yaml:1: enabled: 'maybe' is not a switch, expected true or false",
    ),
    "need without a name": (
        "needs: [{reads: [a.b]}]\n" + GOOD,
        f"q.yaml:1: needs[0]: names neither relation nor function, {ONE_OF_BOTH}",
    ),
    "need with two names": (
        "needs: [{relation: a.b, function: a.b()}]\n" + GOOD,
        f"q.yaml:1: needs[0]: names both relation and function, {ONE_OF_BOTH}",
    ),
    "need without schema": (
        "needs:\n  - relation: chats\n" + GOOD,
        "q.yaml:2: needs[0].relation: 'chats' is not a qualified relation, expected schema.relation",
    ),
    "function without arguments": (
        "needs:\n  - function: public.f\n" + GOOD,
        "q.yaml:2: needs[0].function: 'public.f' is not a qualified function, expected schema.function(type, …)",
    ),
    "need behind a need without schema": (
        "needs: [{relation: a.b, reads: [c]}]\n" + GOOD,
        "q.yaml:1: needs[0].reads[0]: 'c' is not a qualified relation, expected schema.relation",
    ),
    "histogram without events": (
        metric("name: m, type: histogram, help: H, value: v, buckets: [1, 2]"),
        "q.yaml:2: metrics[0].type: 'histogram' needs events, expected gauge or counter, or the key events",
    ),
    "histogram with a counter's name": (
        metric("name: m_total, type: histogram, help: H, value: v, buckets: [1, 2]"),
        "q.yaml:2: metrics[0].type: 'histogram' does not fit the name m_total, expected a name that ends in _total for a counter, and for nothing else",
    ),
    "histogram without value": (
        of_events("name: m, type: histogram, help: H, buckets: [1, 2]"),
        "q.yaml:3: metrics[0].value: missing, expected the column with what is observed",
    ),
    "histogram without buckets": (
        of_events("name: m, type: histogram, help: H, value: v"),
        f"q.yaml:3: metrics[0].buckets: missing, {BUCKETS}",
    ),
    "histogram of no buckets": (
        of_events("name: m, type: histogram, help: H, value: v, buckets: []"),
        f"q.yaml:3: metrics[0].buckets: missing, {BUCKETS}",
    ),
    "buckets that do not ascend": (
        of_events("name: m, type: histogram, help: H, value: v, buckets: [1, 3, 2]"),
        f"q.yaml:3: metrics[0].buckets: do not ascend, {BUCKETS}",
    ),
    "a bucket twice": (
        of_events("name: m, type: histogram, help: H, value: v, buckets: [1, 1.0]"),
        f"q.yaml:3: metrics[0].buckets: do not ascend, {BUCKETS}",
    ),
    "a bucket without end": (
        of_events("name: m, type: histogram, help: H, value: v, buckets: [1, .inf]"),
        "q.yaml:3: metrics[0].buckets[1]: .inf is not a finite number, expected a number such as 0.9",
    ),
    "buckets in no list": (
        of_events("name: m, type: histogram, help: H, value: v, buckets: 1"),
        "q.yaml:3: metrics[0].buckets: 1 is not a list, expected a list such as [one, two]",
    ),
    "buckets on a gauge": (
        metric("name: m, type: gauge, help: H, value: v, buckets: [1, 2]"),
        "q.yaml:2: metrics[0].buckets: is given, but the type is gauge, expected type histogram, or no buckets",
    ),
    "buckets on a counter": (
        of_events("name: m_total, type: counter, help: H, buckets: [1, 2]"),
        "q.yaml:3: metrics[0].buckets: is given, but the type is counter, expected type histogram, or no buckets",
    ),
    "buckets on a type that is none": (
        metric("name: m, type: summary, help: H, value: v, buckets: [1, 2]"),
        "q.yaml:2: metrics[0].type: 'summary' is not known, expected gauge, counter or histogram",
    ),
    "a gauge in events": (
        of_events("name: m, type: gauge, help: H, value: v"),
        "q.yaml:3: metrics[0].type: 'gauge' cannot count events, expected counter or histogram",
    ),
    "series in events": (
        of_events("name: m_total, type: counter, help: H, series: [{labels: {a: x}, value: v}]"),
        "q.yaml:3: metrics[0].series: is given in a query of events, expected value, or neither to count rows",
    ),
    "empty in events": (
        of_events("name: m_total, type: counter, help: H, empty: 0"),
        "q.yaml:3: metrics[0].empty: is given in a query of events, expected no empty: counting starts at 0",
    ),
    "a counter without value, but for events": (
        metric("name: m_total, type: counter, help: H"),
        f"q.yaml:2: metrics[0]: has neither value nor series, {ONE_OF_BOTH}",
    ),
    "unknown key of events": (
        "events: {since: at}\n" + COUNTER,
        "q.yaml:1: events.since: unknown key, expected one of key, at, window",
    ),
    "a column of events is a number": (
        "events: {key: 1, at: '', window: [at]}\n" + COUNTER,
        "q.yaml:1: events.key: 1 is not text, expected text in quotes\n"
        "q.yaml:1: events.at: '' is empty, expected text\n"
        "q.yaml:1: events.window: a list is not text, expected text",
    ),
    "events as a word": (
        "events: yes\n" + COUNTER,
        "q.yaml:1: events: 'yes' is not a mapping, expected a mapping with key, at, window",
    ),
    "several faults, in the file's order": (
        "timeout: 1\nneeds: [{relation: c}]\nmax_rows: -1\n" + GOOD,
        "q.yaml:1: timeout: 1 has no unit, expected a duration such as 1s\n"
        "q.yaml:2: needs[0].relation: 'c' is not a qualified relation, expected schema.relation\n"
        "q.yaml:3: max_rows: -1 is too small, expected 1 or more",
    ),
}


@pytest.mark.parametrize(("text", "message"), MAPPINGS.values(), ids=MAPPINGS)
def test_a_fault_in_a_mapping(tmp_path: Path, text: str, message: str) -> None:
    assert faults_of(tmp_path, {"q.sql": SQL, "q.yaml": text}) == message.split("\n")


FILES: dict[str, tuple[dict[str, str | bytes], str]] = {
    "no mapping": ({"q.sql": SQL}, "q.sql: stands alone, expected q.yaml beside it"),
    "no statement": ({"q.yaml": GOOD}, "q.yaml: stands alone, expected q.sql beside it"),
    "other ending": (
        {"q.sql": SQL, "q.yml": GOOD},
        "q.sql: stands alone, expected q.yaml beside it",
    ),
    "nothing": ({}, "DIR: holds no query, expected pairs of .sql and .yaml files"),
    "a name that is none": (
        {"a b%.sql": SQL, "a b%.yaml": GOOD},
        "a b%.sql: its name is not a query name, expected letters, digits, _, . and -",
    ),
    "statement not in UTF-8": (
        {"q.sql": b"SELECT 1 AS v,\n'\xff'", "q.yaml": GOOD},
        "q.sql: line 2 is not UTF-8, expected a readable SQL file in UTF-8",
    ),
    "mapping not in UTF-8": (
        {"q.sql": SQL, "q.yaml": b"# \xff\n" + GOOD.encode()},
        "q.yaml: line 1 is not UTF-8, expected a readable YAML file in UTF-8 of at most 1 MiB",
    ),
    "statement too large": (
        {"q.sql": SQL + " --" + "x" * 262_144, "q.yaml": GOOD},
        "q.sql: larger than 256 KiB, expected a readable SQL file in UTF-8",
    ),
    "statement that is none": (
        {"q.sql": "\n\nDELETE FROM chats", "q.yaml": GOOD},
        "q.sql:3: begins with DELETE, expected SELECT or WITH",
    ),
    "unknown parameter": (
        {"q.sql": "SELECT %(c)s AS v", "q.yaml": GOOD},
        "q.sql:1: parameter c is unknown, expected one of a, b",
    ),
    "a parameter of events, in a query of figures": (
        {"q.sql": "SELECT %(since)s AS v", "q.yaml": GOOD},
        "q.sql:1: parameter since is unknown, expected one of a, b",
    ),
    "unknown parameter of a query of events": (
        {"q.sql": "SELECT %(c)s AS v", "q.yaml": "events: {}\n" + COUNTER},
        "q.sql:1: parameter c is unknown, expected one of a, b, pending, seen, since",
    ),
    "facts that are not there": (
        {"q.sql": SQL, "q.yaml": "facts: f\n" + GOOD},
        "q.yaml:1: facts: 'f' is not known, expected a folder facts with it",
    ),
    "facts of another name": (
        {**FACTS, "q.sql": SQL, "q.yaml": "interval: 15s\nfacts: g\n" + GOOD},
        "q.yaml:2: facts: 'g' is not known, expected one of f",
    ),
    "facts in a query of events": (
        {**FACTS, "q.sql": SQL, "q.yaml": "events: {}\nfacts: f\n" + COUNTER},
        "q.yaml:2: facts: is given in a query of events, expected no facts",
    ),
    "facts with faults, reported once": (
        {
            "facts/f.sql": "DELETE FROM t",
            "facts/f.yaml": "needs: []\n",
            "q.sql": SQL,
            "q.yaml": "facts: f\n" + GOOD,
        },
        "facts/f.yaml:1: needs: a list has no entries, expected at least one\n"
        "facts/f.sql:1: begins with DELETE, expected SELECT or WITH",
    ),
    "facts without a mapping": (
        {"facts/f.sql": SQL, "q.sql": SQL, "q.yaml": GOOD},
        "facts/f.sql: stands alone, expected f.yaml beside it",
    ),
    "facts whose name SQL would not read": (
        {"facts/F.sql": SQL, "facts/F.yaml": FACTS["facts/f.yaml"], "q.sql": SQL, "q.yaml": GOOD},
        "facts/F.sql: its name is not a name of facts, expected lower-case letters, digits and _",
    ),
    "both files": (
        {"q.sql": "", "q.yaml": "metrics: []\n"},
        "q.yaml:1: metrics: a list has no entries, expected at least one\n"
        "q.sql: is empty, expected one SELECT",
    ),
    "several queries": (
        {"p.sql": "", "p.yaml": GOOD, "q.sql": SQL, "q.yaml": "metrics: []\n", "r.sql": SQL},
        "r.sql: stands alone, expected r.yaml beside it\n"
        "p.sql: is empty, expected one SELECT\n"
        "q.yaml:1: metrics: a list has no entries, expected at least one",
    ),
}


@pytest.mark.parametrize(("files", "message"), FILES.values(), ids=FILES)
def test_a_fault_in_a_folder(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    assert faults_of(tmp_path, files) == message.split("\n")


def gauge(**changes: str) -> str:
    """A metric `m` with a label that has no value in common with any other's, but for changes."""
    fields = {"name": "m", "type": "gauge", "help": "H", "value": "v", **changes}
    return metric(", ".join(f"{key}: {value}" for key, value in fields.items()))


def enumerated(values: str, name: str = "t") -> str:
    """A mapping file whose metric has one label with those values."""
    return f"labels: {{{name}: {{column: t, values: {values}}}}}\n" + gauge(labels=f"[{name}]")


CONFLICTS = {
    "the same metric": (
        gauge(),
        gauge(),
        "may give the same series, expected a label that has no value in common with p.yaml",
    ),
    "a label with a value in common": (
        enumerated("[a, b]"),
        enumerated("[b, c]"),
        "may give the same series, expected a label that has no value in common with p.yaml",
    ),
    "a label of unknown values": (
        enumerated("[a, b]"),
        enumerated("[]"),
        "may give the same series, expected a label that has no value in common with p.yaml",
    ),
    "other labels": (
        enumerated("[a]"),
        enumerated("[b]", "s"),
        "differs in its labels, expected the same as m in p.yaml",
    ),
    "another help": (
        gauge(),
        gauge(help="Other"),
        "differs in help, expected the same as m in p.yaml",
    ),
}


@pytest.mark.parametrize(("one", "other", "message"), CONFLICTS.values(), ids=CONFLICTS)
def test_queries_that_cannot_share_a_metric(
    tmp_path: Path, one: str, other: str, message: str
) -> None:
    files = {"p.sql": SQL, "p.yaml": one, "q.sql": SQL, "q.yaml": other}

    assert faults_of(tmp_path, files) == [f"q.yaml: m: {message}"]


def test_metrics_of_one_name_differ_in_unit(tmp_path: Path) -> None:
    files = {
        "p.sql": SQL,
        "p.yaml": gauge(name="m_seconds", unit="seconds"),
        "q.sql": SQL,
        "q.yaml": gauge(name="m_seconds"),
    }

    assert faults_of(tmp_path, files) == [
        "q.yaml: m_seconds: differs in unit, expected the same as m_seconds in p.yaml"
    ]


def test_a_gauge_may_not_have_the_name_of_a_counter_without_its_total(tmp_path: Path) -> None:
    files = {
        "p.sql": SQL,
        "p.yaml": gauge(name="m_total", type="counter"),
        "q.sql": SQL,
        "q.yaml": gauge(),
    }

    assert faults_of(tmp_path, files) == [
        "q.yaml: m: differs in type, expected the same as m_total in p.yaml"
    ]


SECOND = timedelta(seconds=1)
OVERRIDES = {
    "an unknown query": (
        {"nope": Override(interval=60 * SECOND)},
        "the configuration: queries.overrides.nope: unknown, expected one of q",
    ),
    "a timeout beyond the query's own interval": (
        {"q": Override(timeout=90 * SECOND)},
        "the configuration: queries.overrides.q.timeout: 1m30s is longer than interval (1m), expected 1m or less",
    ),
    "a max_age within the query's own interval": (
        {"q": Override(max_age=30 * SECOND)},
        "the configuration: queries.overrides.q.max_age: 30s is shorter than interval (1m), expected 1m or more",
    ),
    "an interval beyond the query's own max_age": (
        {"q": Override(interval=600 * SECOND)},
        "the configuration: queries.overrides.q.max_age: 5m is shorter than interval (10m), expected 10m or more",
    ),
}


@pytest.mark.parametrize(("overrides", "message"), OVERRIDES.values(), ids=OVERRIDES)
def test_a_fault_in_an_override(
    tmp_path: Path, overrides: dict[str, Override], message: str
) -> None:
    files = {"q.sql": SQL, "q.yaml": "interval: 1m\nmax_age: 5m\n" + GOOD}

    assert faults_of(tmp_path, files, overrides) == [message]


def test_faults_of_files_and_overrides_are_reported_together(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"p.sql": SQL, "q.sql": SQL, "q.yaml": GOOD}

    assert faults_of(tmp_path, files, {"nope": Override()}) == [
        "p.sql: stands alone, expected p.yaml beside it",
        "the configuration: queries.overrides.nope: unknown, expected one of q",
    ]


def test_every_folder_is_checked(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "q.sql").write_text("")
        (folder / "q.yaml").write_text(GOOD)

    with pytest.raises(CatalogueError) as caught:
        load_catalogue(folders, poll=Poll(), overrides={}, parameters=())

    assert str(caught.value) == "\n".join(
        f"{folder}/q.sql: is empty, expected one SELECT" for folder in folders
    )
