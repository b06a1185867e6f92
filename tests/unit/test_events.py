"""Rows that are events, counted once each: plain rows in, whole families out."""

# ruff: noqa: E501  # messages and pages stand whole, as an operator reads them
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.catalogue import Query, load_catalogue
from exporter.config import Config, Poll
from exporter.errors import CatalogueError, RowMismatch
from exporter.metrics import events
from exporter.metrics.events import EventCounter, families_of, first_values
from exporter.metrics.exposition import Exposition, Source
from exporter.metrics.snapshot import QueryResult, Snapshot
from exporter.polling.plan import RELEASE_REASONS, build_parameters

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OVERLAP_S = 30.0

MAPPING = """
events: {}
labels:
  sender: {column: sender, values: [customer, operator]}
metrics:
  - {name: messages_total, type: counter, help: Messages., labels: [sender]}
  - {name: words_total, type: counter, help: Words., value: words}
  - {name: wait_seconds, type: histogram, unit: seconds, help: Waits., value: wait, buckets: [1, 2.5, 10]}
"""


def load(
    folder: Path, mapping: str = MAPPING, sql: str = "SELECT %(since)s, %(seen)s, %(pending)s"
) -> Query:
    (folder / "q.sql").write_text(sql)
    (folder / "q.yaml").write_text(mapping)
    (query,) = load_catalogue([folder], poll=Poll(), overrides={}, parameters={"a", "b"})
    return query


def row(key: object, at_s: float | None = 0.0, **columns: Any) -> dict[str, Any]:
    """An event that happened so long after noon; None for one yet to happen."""
    at = None if at_s is None else NOW + timedelta(seconds=at_s)
    return {"key": key, "at": at, "sender": "customer", "words": 1, "wait": 1.0, **columns}


class Counting:
    """A counter and the rows it is given."""

    def __init__(self, query: Query, *, first: Sequence[dict[str, Any]] = ()) -> None:
        self.counter = EventCounter(query, OVERLAP_S)
        self.absorb(*first)

    def absorb(self, *rows: dict[str, Any], at_s: float = 0.0) -> None:
        columns = self.counter.query.columns
        self.counter.absorb(columns, rows, NOW + timedelta(seconds=at_s))

    def value(self, name: str, *labels: str) -> float:
        (value,) = (
            sample.value
            for family in self.counter.families()
            for sample in family.samples
            if family.name + sample.suffix == name
            and tuple(text for _, text in sample.labels) == labels
        )
        return value

    def parameters(self) -> dict[str, Any]:
        return self.counter.parameters()


@pytest.fixture
def query(tmp_path: Path) -> Query:
    return load(tmp_path)


@pytest.fixture
def counting(query: Query) -> Counting:
    """A counter after a first poll that saw nothing."""
    return Counting(query)


def test_everything_there_can_be_is_0_from_the_start(query: Query) -> None:
    for families in (
        EventCounter(query, OVERLAP_S).families(),
        families_of(query, query.columns, [row("a")], NOW),
    ):
        shown = {
            (family.name + sample.suffix, sample.labels): sample.value
            for family in families
            for sample in family.samples
        }
        assert shown == {
            ("messages_total", (("sender", "customer"),)): 0,
            ("messages_total", (("sender", "operator"),)): 0,
            ("words_total", ()): 0,
            ("wait_seconds_bucket", (("le", "1.0"),)): 0,
            ("wait_seconds_bucket", (("le", "2.5"),)): 0,
            ("wait_seconds_bucket", (("le", "10.0"),)): 0,
            ("wait_seconds_bucket", (("le", "+Inf"),)): 0,
            ("wait_seconds_count", ()): 0,
            ("wait_seconds_sum", ()): 0,
        }


def test_the_first_run_asks_without_a_watermark(query: Query) -> None:
    assert first_values(query) == {"since": None, "seen": [], "pending": []}
    assert EventCounter(query, OVERLAP_S).parameters() == first_values(query)
    assert first_values(replace(query, events=None)) == {}


def test_the_first_run_learns_and_counts_nothing(query: Query) -> None:
    counting = Counting(query, first=[row("a"), row("b", None)])

    assert counting.value("messages_total", "customer") == 0
    assert counting.parameters() == {
        "since": NOW - timedelta(seconds=OVERLAP_S),
        "seen": ["a"],
        "pending": ["b"],
    }
    counting.absorb(row("a"), row("b", 1), at_s=15)
    assert counting.value("messages_total", "customer") == 1


def test_an_event_counts_once_however_often_it_is_returned(counting: Counting) -> None:
    for at_s in (0, 15, 20):
        counting.absorb(row("a", words=3, wait=2), row("b", sender="operator"), at_s=at_s)

    assert counting.value("messages_total", "customer") == 1
    assert counting.value("messages_total", "operator") == 1
    assert counting.value("words_total") == 4
    assert counting.value("wait_seconds_count") == 2
    assert counting.value("wait_seconds_sum") == 3


def test_an_event_the_query_leaves_out_is_still_known_within_the_overlap(
    counting: Counting,
) -> None:
    counting.absorb(row("a", 0), at_s=0)
    counting.absorb(at_s=15)
    counting.absorb(row("a", 0), at_s=29)

    assert counting.value("messages_total", "customer") == 1


def test_an_event_is_counted_when_it_happens_and_asked_for_until_then(tmp_path: Path) -> None:
    query = load(tmp_path, MAPPING.replace("events: {}", "events: {window: began}"))
    counting = Counting(query)
    began = {"began": NOW}
    for at_s in (0, 100, 200):
        counting.absorb(row("a", None, **began), at_s=at_s)
        assert counting.parameters()["pending"] == ["a"]
        assert counting.parameters()["seen"] == []
        assert counting.value("messages_total", "customer") == 0

    counting.absorb(row("a", 210, **began), at_s=215)
    assert counting.value("messages_total", "customer") == 1
    assert counting.parameters()["pending"] == []
    # Its window has long passed: it is not returned again, and not kept for ever.
    counting.absorb(at_s=230)
    assert counting.parameters()["seen"] == []


def test_a_pending_event_is_asked_for_until_it_is_returned_with_a_time(counting: Counting) -> None:
    counting.absorb(row("a", None), row("b", None))
    counting.absorb(at_s=15)
    assert counting.parameters()["pending"] == ["a", "b"]

    counting.absorb(row("a", 30, sender=None), at_s=30)
    assert counting.parameters()["pending"] == ["b"]
    assert counting.value("messages_total", "customer") == 0


def test_beyond_the_limit_the_oldest_pending_events_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_PENDING", 2)
    counting = Counting(load(tmp_path, MAPPING.replace("events: {}", "events: {window: began}")))
    began = [NOW + timedelta(seconds=s) for s in (3, 1, 2)]
    counting.absorb(*(row(key, None, began=at) for key, at in zip("abc", began, strict=True)))

    assert counting.parameters()["pending"] == ["c", "a"]


def test_memory_is_that_of_one_overlap_however_long_it_runs(counting: Counting) -> None:
    for poll in range(1000):
        counting.absorb(*(row(f"{poll} {n}", 15 * poll) for n in range(10)), at_s=15 * poll)
        # Two polls lie within 30 s, and the one at its very edge is asked for no more.
        assert len(counting.parameters()["seen"]) <= 20

    assert counting.value("messages_total", "customer") == 10_000


def test_an_event_from_the_future_is_known_until_the_watermark_has_passed_it(
    counting: Counting,
) -> None:
    for at_s in range(0, 90, 15):
        counting.absorb(row("a", 40), at_s=at_s)
    assert counting.value("messages_total", "customer") == 1

    counting.absorb(at_s=90)
    assert counting.parameters()["seen"] == []


def test_an_event_without_a_window_time_is_known_while_it_is_returned(tmp_path: Path) -> None:
    counting = Counting(load(tmp_path, MAPPING.replace("events: {}", "events: {window: began}")))
    for at_s in (0, 100, 200):
        counting.absorb(row("a", began=None), at_s=at_s)
    assert counting.value("messages_total", "customer") == 1

    counting.absorb(at_s=215)
    assert counting.parameters()["seen"] == []


def test_null_in_a_label_or_a_value_is_an_event_of_another_kind(counting: Counting) -> None:
    counting.absorb(row("a", sender=None), row("b", words=None), row("c", wait=None))

    assert counting.value("messages_total", "customer") == 2
    assert counting.value("words_total") == 2
    assert counting.value("wait_seconds_count") == 2


def test_buckets_are_cumulative_and_take_their_bound_in(counting: Counting) -> None:
    waits = [0, 1, 1.0000001, 2.5, Decimal("2.5"), 10, 10.1, 1e9]
    counting.absorb(*(row(str(n), wait=wait) for n, wait in enumerate(waits)))

    buckets = [counting.value("wait_seconds_bucket", le) for le in ("1.0", "2.5", "10.0", "+Inf")]
    assert buckets == [2, 5, 6, 8]
    assert counting.value("wait_seconds_count") == 8
    assert counting.value("wait_seconds_sum") == pytest.approx(sum(map(float, waits)))


def test_a_negative_observation_is_no_time_at_all(counting: Counting) -> None:
    counting.absorb(row("a", wait=-5))

    assert counting.value("wait_seconds_bucket", "1.0") == 1
    assert counting.value("wait_seconds_sum") == 0


MISMATCHES = {
    "key is NULL": (
        [row("a"), row(None)],
        "q.sql returned a key that is NULL or stands twice, expected 'key' to identify the event",
    ),
    "key stands twice": (
        [row("a"), row("a")],
        "q.sql returned a key that is NULL or stands twice, expected 'key' to identify the event",
    ),
    "key stands twice as text": (
        [row(1), row("1")],
        "q.sql returned a key that is NULL or stands twice, expected 'key' to identify the event",
    ),
    "time is no time": (
        [row("a"), row("b") | {"at": 5}],
        "q.sql column 'at' returned int, expected a timestamptz",
    ),
    "label is not listed": (
        [row("a"), row("b", sender="robot")],
        "q.sql column 'sender' returned 'robot', expected one of customer, operator",
    ),
    "value is no number": (
        [row("a"), row("b", wait=timedelta(seconds=1))],
        "q.sql column 'wait' returned timedelta datetime.timedelta(seconds=1), expected a number (convert times with extract(EPOCH FROM …))",
    ),
    "counter would fall": (
        [row("a"), row("b", words=-1)],
        "q.sql column 'words' returned -1.0, expected 0 or more for a counter",
    ),
    "sum would be spoilt": (
        [row("a"), row("b", wait=math.nan)],
        "q.sql column 'wait' returned nan, expected a finite number",
    ),
    "sum would be endless": (
        [row("a"), row("b", words=math.inf)],
        "q.sql column 'words' returned inf, expected a finite number",
    ),
}


@pytest.mark.parametrize(("rows", "message"), MISMATCHES.values(), ids=MISMATCHES)
def test_rows_that_do_not_fit_count_nothing_and_change_nothing(
    counting: Counting, rows: list[dict[str, Any]], message: str
) -> None:
    counting.absorb(row("before", 5), row("open", None), at_s=5)
    families, parameters = counting.counter.families(), counting.parameters()

    with pytest.raises(RowMismatch) as caught:
        counting.absorb(*rows, at_s=15)

    assert str(caught.value) == message
    assert counting.counter.families() == families
    assert counting.parameters() == parameters


def test_a_missing_column_is_told_even_where_there_is_no_row(query: Query) -> None:
    counter = EventCounter(query, OVERLAP_S)

    with pytest.raises(RowMismatch) as caught:
        counter.absorb(("key", "words", "wait", "sender"), (), NOW)
    assert str(caught.value) == (
        "q.sql returned no column 'at', expected by q.yaml; it returned key, words, wait, sender"
    )


def test_more_rows_than_max_rows_are_a_mistake(tmp_path: Path) -> None:
    counting = Counting(load(tmp_path, MAPPING + "max_rows: 2\n"))

    with pytest.raises(RowMismatch) as caught:
        counting.absorb(row("a"), row("b"), row("c"))
    assert str(caught.value) == "q.sql returned 3 rows, expected at most 2 (max_rows)"
    counting.absorb(row("a"), row("b"))
    assert counting.value("messages_total", "customer") == 2


def test_a_label_whose_values_are_not_listed_grows_its_children(tmp_path: Path) -> None:
    mapping = MAPPING.replace("{column: sender, values: [customer, operator]}", "{column: sender}")
    counting = Counting(load(tmp_path, mapping))
    counting.absorb(row("a", sender="x"), row("b", sender="y"), row("c", sender="y"))

    assert counting.value("messages_total", "x") == 1
    assert counting.value("messages_total", "y") == 2


def test_the_metrics_or_the_columns_make_another_count_and_the_rest_does_not(
    query: Query,
) -> None:
    counter = EventCounter(query, OVERLAP_S)
    assert query.events is not None

    assert counter.counts_like(replace(query, sql="SELECT 2", interval_s=99))
    assert not counter.counts_like(replace(query, metrics=query.metrics[:1]))
    assert not counter.counts_like(replace(query, events=replace(query.events, key="id")))


# The page.


def pages(query: Query, counter: EventCounter) -> tuple[str, str]:
    """The exposition in the text format and in OpenMetrics, of that query's families alone."""
    result = QueryResult(
        query=query.name,
        families=counter.families(),
        success=True,
        last_success_s=0,
        expires_at=math.inf,
        interval_s=15,
        duration_s=0,
        rows=0,
        errors={},
    )
    snapshot = Snapshot(
        database="main",
        labels=(),
        up=True,
        up_until=math.inf,
        clock_skew_s=None,
        in_recovery=None,
        hidden=(),
        results=(),
        thresholds=result.families,
    )
    exposition = Exposition(lambda: Source((snapshot,), ()))
    names = {metric.name.removesuffix("_total") for metric in query.metrics}

    def wanted(line: str) -> bool:
        return any(name in line for name in names) or line == "# EOF"

    bodies = [
        exposition.page(accept).body.decode().splitlines()
        for accept in ("text/plain", "application/openmetrics-text; version=1.0.0")
    ]
    text, openmetrics = ("".join(f"{x}\n" for x in body if wanted(x)) for body in bodies)
    return text, openmetrics


SAMPLES = """wait_seconds_bucket{database="main",le="1.0"} 1.0
wait_seconds_bucket{database="main",le="2.5"} 2.0
wait_seconds_bucket{database="main",le="10.0"} 2.0
wait_seconds_bucket{database="main",le="+Inf"} 3.0
wait_seconds_count{database="main"} 3.0
wait_seconds_sum{database="main"} 14.5
"""


def test_a_page_shows_counters_and_histograms_whole(query: Query, counting: Counting) -> None:
    waits = (1, 1.5, 12)
    counting.absorb(*(row(str(n), wait=wait) for n, wait in enumerate(waits)))

    text, openmetrics = pages(query, counting.counter)

    assert text == (
        "# HELP messages_total Messages.\n"
        "# TYPE messages_total counter\n"
        'messages_total{database="main",sender="customer"} 3.0\n'
        'messages_total{database="main",sender="operator"} 0.0\n'
        "# HELP words_total Words.\n"
        "# TYPE words_total counter\n"
        'words_total{database="main"} 3.0\n'
        "# HELP wait_seconds Waits.\n"
        f"# TYPE wait_seconds histogram\n{SAMPLES}"
    )
    assert openmetrics == (
        "# HELP messages Messages.\n"
        "# TYPE messages counter\n"
        'messages_total{database="main",sender="customer"} 3.0\n'
        'messages_total{database="main",sender="operator"} 0.0\n'
        "# HELP words Words.\n"
        "# TYPE words counter\n"
        'words_total{database="main"} 3.0\n'
        "# HELP wait_seconds Waits.\n"
        "# TYPE wait_seconds histogram\n"
        f"# UNIT wait_seconds seconds\n{SAMPLES}# EOF\n"
    )


def test_both_pages_are_read_back_by_their_parsers(query: Query, counting: Counting) -> None:
    counting.absorb(row("a", wait=1), row("b", wait=11))
    text, openmetrics = pages(query, counting.counter)

    for families in (list(parse_text(text)), list(parse_openmetrics(openmetrics))):
        (histogram,) = (family for family in families if family.type == "histogram")
        read = {(s.name, s.labels.get("le")): s.value for s in histogram.samples}
        assert read == {
            ("wait_seconds_bucket", "1.0"): 1,
            ("wait_seconds_bucket", "2.5"): 1,
            ("wait_seconds_bucket", "10.0"): 1,
            ("wait_seconds_bucket", "+Inf"): 2,
            ("wait_seconds_count", None): 2,
            ("wait_seconds_sum", None): 12,
        }


# The mapping.

COUNTER = "{name: m_total, type: counter, help: H}"
HISTOGRAM = "name: m_seconds, type: histogram, help: H, unit: seconds"


def of_events(metric: str, more: str = "") -> str:
    return f"events: {{}}\n{more}metrics:\n  - {metric}\n"


FAULTS = {
    "gauge in events": (
        of_events("{name: m, type: gauge, help: H, value: v}"),
        "q.yaml:3: metrics[0].type: 'gauge' cannot count events, expected counter or histogram",
    ),
    "histogram without events": (
        f"metrics:\n  - {{{HISTOGRAM}, value: v, buckets: [1]}}\n",
        "q.yaml:2: metrics[0].type: 'histogram' needs events, expected gauge or counter, or the key events",
    ),
    "histogram without a value": (
        of_events(f"{{{HISTOGRAM}, buckets: [1]}}"),
        "q.yaml:3: metrics[0].value: missing, expected the column with what is observed",
    ),
    "histogram without buckets": (
        of_events(f"{{{HISTOGRAM}, value: v}}"),
        "q.yaml:3: metrics[0].buckets: missing, expected ascending upper bounds, without +Inf",
    ),
    "buckets of a counter": (
        of_events("{name: m_total, type: counter, help: H, buckets: [1]}"),
        "q.yaml:3: metrics[0].buckets: is given, but the type is counter, expected type histogram, or no buckets",
    ),
    "buckets that do not ascend": (
        of_events(f"{{{HISTOGRAM}, value: v, buckets: [1, 5, 5]}}"),
        "q.yaml:3: metrics[0].buckets: do not ascend, expected ascending upper bounds, without +Inf",
    ),
    "infinite bucket": (
        of_events(f"{{{HISTOGRAM}, value: v, buckets: [1, .inf]}}"),
        "q.yaml:3: metrics[0].buckets[1]: .inf is not a finite number, expected a number such as 0.9",
    ),
    "series in events": (
        of_events("{name: m_total, type: counter, help: H, series: [{labels: {a: b}, value: v}]}"),
        "q.yaml:3: metrics[0].series: is given in a query of events, expected value, or neither to count rows",
    ),
    "empty in events": (
        of_events("{name: m_total, type: counter, help: H, empty: 0}"),
        "q.yaml:3: metrics[0].empty: is given in a query of events, expected no empty: counting starts at 0",
    ),
    "counter without a value and without events": (
        f"metrics:\n  - {COUNTER}\n",
        "q.yaml:2: metrics[0]: has neither value nor series, expected one of them",
    ),
    "unknown key in events": (
        f"events: {{windows: w}}\nmetrics:\n  - {COUNTER}\n",
        "q.yaml:1: events.windows: unknown key, expected one of key, at, window; did you mean window?",
    ),
    "key of another kind": (
        f"events: {{key: 5}}\nmetrics:\n  - {COUNTER}\n",
        "q.yaml:1: events.key: 5 is not text, expected text in quotes",
    ),
}


def faults_of(folder: Path, mapping: str, sql: str) -> str:
    with pytest.raises(CatalogueError) as caught:
        load(folder, mapping, sql)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(("mapping", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_in_a_mapping_of_events(tmp_path: Path, mapping: str, message: str) -> None:
    assert faults_of(tmp_path, mapping, "SELECT 1") == message


@pytest.mark.parametrize("parameter", ["since", "seen", "pending"])
def test_what_the_counting_gives_is_given_to_events_only(tmp_path: Path, parameter: str) -> None:
    sql = f"SELECT\n%({parameter})s AS v"
    mapping = "metrics:\n  - {name: m, type: gauge, help: H, value: v}\n"

    assert faults_of(tmp_path, mapping, sql) == (
        f"q.sql:2: parameter {parameter} is unknown, expected one of a, b"
    )
    assert load(tmp_path, of_events(COUNTER), sql).parameters == (parameter,)


def test_a_query_of_events_names_its_columns(tmp_path: Path) -> None:
    mapping = MAPPING.replace("events: {}", "events: {key: id, at: ended, window: began}")

    assert load(tmp_path, mapping).columns == ("sender", "words", "wait", "id", "ended", "began")
    assert load(tmp_path).columns == ("sender", "words", "wait", "key", "at")


# The reasons.


def test_reasons_of_ones_own_come_first_and_replace_those_written_alike() -> None:
    own = {"%bot%": "manual", "idle_timeout": "auto_release"}
    config = Config.model_validate(
        {"databases": {"main": {"dsn": "host=/x"}}, "events": {"release_reasons": own}}
    )
    parameters = build_parameters(config)

    assert parameters["release_patterns"] == [
        "%bot%",
        "idle_timeout",
        *(pattern for pattern in RELEASE_REASONS if pattern != "idle_timeout"),
    ]
    assert parameters["release_outcomes"][:2] == ["manual", "auto_release"]
