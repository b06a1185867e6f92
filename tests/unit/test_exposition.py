"""Snapshots become the page: whole texts, rendered once a change and read back without loss."""

from __future__ import annotations

import gzip
import itertools
import math
import re
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import prometheus_client.openmetrics.parser as openmetrics_parser
import prometheus_client.parser as text_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric as ParsedMetric

import exporter.metrics.encoding
import exporter.metrics.exposition
from exporter.catalogue import Label, Metric, Query, Series
from exporter.metrics.exposition import (
    FORGET_AFTER_S,
    MAX_PAGE_AGE_S,
    MAX_SHARE,
    Exposition,
    Source,
    own_families,
)
from exporter.metrics.snapshot import Family, QueryResult, Sample, Snapshot, build_families

TEXT = "text/plain; version=0.0.4; charset=utf-8"
TEXT_1 = "text/plain; version=1.0.0; charset=utf-8; escaping="
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping="
# As they stand in the sources of Prometheus.
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROMETHEUS_PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;"
    "q=0.6," + PROMETHEUS_3
)


class World:
    """What an exposition sees: snapshots, a clock, and how often it was asked."""

    def __init__(self, *snapshots: Snapshot, own: Iterable[Family] = ()) -> None:
        self.source = Source(snapshots, tuple(own))
        self.now = 100.0
        self.exposition = Exposition(lambda: self.source, lambda: self.now)

    def text(self, accept: str = "") -> str:
        """The page without the process's own figures, which the library adds."""
        lines = self.exposition.page(accept).body.decode().split("\n")
        own = re.compile("(# (HELP|TYPE|UNIT) )?(process|python)_")
        return "\n".join(line for line in lines if not own.match(line))


def gauge(name: str, *values: tuple[str, float], unit: str = "") -> Family:
    samples = tuple(Sample((("state", state),) if state else (), v) for state, v in values)
    return Family(name, "gauge", f"Help of {name}.", unit, samples)


def result_of(*families: Family, expires_at: float = 1e6) -> QueryResult:
    return QueryResult("q", families, True, 1700000000.5, expires_at, 15.0, 0.25, 2, {})


def snapshot_of(
    *families: Family, database: str = "main", labels: dict[str, str] | None = None
) -> Snapshot:
    return Snapshot(
        database=database,
        labels=tuple((labels or {}).items()),
        up=True,
        up_until=1e6,
        clock_skew_s=None,
        in_recovery=None,
        hidden=(),
        results=(result_of(*families),),
        thresholds=(),
    )


def bare(snapshot: Snapshot, *families: Family) -> Snapshot:
    """The snapshot with those families and no query."""
    return replace(snapshot, results=(), thresholds=families)


COUNTER = Family(
    "things_total",
    "counter",
    "Things.",
    "",
    (Sample((("kind", "a"),), 3.0), Sample((("kind", "b"),), 0.0)),
)
AGES = gauge("age_seconds", ("waiting", 1.5), ("assigned", math.inf), unit="seconds")

DATABASE_TEXT = """\
# HELP chatqueue_database_up Whether the database answers now.
# TYPE chatqueue_database_up gauge
chatqueue_database_up{database="main",env="production"} 1.0
# HELP chatqueue_database_row_security_hidden Whether row-level security hides rows of the relation from the exporter's role.
# TYPE chatqueue_database_row_security_hidden gauge
# HELP chatqueue_database_reconnections_total Connections that were closed while idle and opened again for the next poll.
# TYPE chatqueue_database_reconnections_total counter
chatqueue_database_reconnections_total{database="main",env="production"} 0.0
# HELP chatqueue_exporter_query_success Whether the query's latest run succeeded and its result is still fresh.
# TYPE chatqueue_exporter_query_success gauge
# HELP chatqueue_exporter_query_last_success_timestamp_seconds Unix time of the query's last success; 0 before the first.
# TYPE chatqueue_exporter_query_last_success_timestamp_seconds gauge
# HELP chatqueue_exporter_query_duration_seconds Time the query's latest run took, network included.
# TYPE chatqueue_exporter_query_duration_seconds gauge
# HELP chatqueue_exporter_query_rows Rows of the query's last success.
# TYPE chatqueue_exporter_query_rows gauge
# HELP chatqueue_exporter_query_interval_seconds Time between runs in force; longer than configured where a run costs too much.
# TYPE chatqueue_exporter_query_interval_seconds gauge
"""  # noqa: E501


def test_the_whole_text_of_a_small_snapshot() -> None:
    world = World(
        bare(snapshot_of(labels={"env": "production"}), AGES, COUNTER),
        own=[gauge("own", ("", 1.0))],
    )

    assert world.text() == (
        """\
# HELP own Help of own.
# TYPE own gauge
own 1.0
# HELP age_seconds Help of age_seconds.
# TYPE age_seconds gauge
age_seconds{database="main",env="production",state="waiting"} 1.5
age_seconds{database="main",env="production",state="assigned"} +Inf
# HELP things_total Things.
# TYPE things_total counter
things_total{database="main",env="production",kind="a"} 3.0
things_total{database="main",env="production",kind="b"} 0.0
"""
        + DATABASE_TEXT
        + """\
# HELP chatqueue_exporter_query_failed_runs_total Failed runs of the query for any reason.
# TYPE chatqueue_exporter_query_failed_runs_total counter
# HELP chatqueue_exporter_query_errors_total Failed runs of the query, by reasons that occurred.
# TYPE chatqueue_exporter_query_errors_total counter
"""
    )


def test_the_whole_text_in_openmetrics() -> None:
    world = World(
        bare(snapshot_of(labels={"env": "production"}), AGES, COUNTER),
        own=[gauge("own", ("", 1.0))],
    )

    assert world.text(PROMETHEUS_3) == (
        """\
# HELP own Help of own.
# TYPE own gauge
own 1.0
# HELP age_seconds Help of age_seconds.
# TYPE age_seconds gauge
# UNIT age_seconds seconds
age_seconds{database="main",env="production",state="waiting"} 1.5
age_seconds{database="main",env="production",state="assigned"} +Inf
# HELP things Things.
# TYPE things counter
things_total{database="main",env="production",kind="a"} 3.0
things_total{database="main",env="production",kind="b"} 0.0
"""
        + DATABASE_TEXT.replace("reconnections_total C", "reconnections C")
        .replace("reconnections_total counter", "reconnections counter")
        .replace(
            "last_success_timestamp_seconds gauge\n",
            "last_success_timestamp_seconds gauge\n"
            "# UNIT chatqueue_exporter_query_last_success_timestamp_seconds seconds\n",
        )
        .replace(
            "duration_seconds gauge\n",
            "duration_seconds gauge\n# UNIT chatqueue_exporter_query_duration_seconds seconds\n",
        )
        .replace(
            "interval_seconds gauge\n",
            "interval_seconds gauge\n# UNIT chatqueue_exporter_query_interval_seconds seconds\n",
        )
        + """\
# HELP chatqueue_exporter_query_failed_runs Failed runs of the query for any reason.
# TYPE chatqueue_exporter_query_failed_runs counter
# HELP chatqueue_exporter_query_errors Failed runs of the query, by reasons that occurred.
# TYPE chatqueue_exporter_query_errors counter
# EOF
"""
    )


def test_two_databases_stand_under_one_heading_each_with_its_labels() -> None:
    world = World(
        bare(snapshot_of(labels={"env": "a"}), gauge("chats", ("", 1.0))),
        bare(snapshot_of(database="second", labels={"team": "b"}), gauge("chats", ("", 2.0))),
    )

    assert world.text().startswith(
        """\
# HELP chats Help of chats.
# TYPE chats gauge
chats{database="main",env="a"} 1.0
chats{database="second",team="b"} 2.0
"""
    )


def test_label_values_are_escaped() -> None:
    label = 'quote " newline \n backslash \\ umlaut ü smile 🙂 brace } comma ,'
    world = World(bare(snapshot_of(), gauge("chats", (label, 1.0))))
    line = (
        'chats{database="main",state="quote \\" newline \\n backslash \\\\ umlaut ü smile 🙂'
        ' brace } comma ,"} 1.0'
    )

    for accept in ("", PROMETHEUS_2, PROMETHEUS_3):
        assert line in world.text(accept).split("\n")


@pytest.mark.parametrize("accept", ["", PROMETHEUS_2, PROMETHEUS_3])
def test_there_are_no_created_series_no_timestamps_and_no_family_twice(accept: str) -> None:
    world = World(snapshot_of(AGES, COUNTER), snapshot_of(AGES, database="other"))

    page = world.exposition.page(accept).body.decode()

    assert "_created" not in page
    samples = [line for line in page.splitlines() if not line.startswith("#")]
    assert samples
    assert all(len(line.rsplit("}", 1)[-1].split()) <= 2 for line in samples)
    headings = [line for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(set(headings)) == len(headings)


def test_the_exporters_own_figures_carry_no_database() -> None:
    own = own_families(
        reload_success=False, reload_success_time_s=12.5, watch=(5.0, 86405.0, 14405.0)
    )

    text = World(own=own).text()

    assert "chatqueue_exporter_config_last_reload_successful 0.0\n" in text
    assert "chatqueue_exporter_config_last_reload_success_timestamp_seconds 12.5\n" in text
    assert "\nchatqueue_watch_started_timestamp_seconds 5.0\n" in text
    assert "\nchatqueue_watch_ends_timestamp_seconds 86405.0\n" in text
    assert "\nchatqueue_watch_rollback_until_timestamp_seconds 14405.0\n" in text
    assert 'chatqueue_exporter_build_info{pythonversion="' in text
    assert "database=" not in text


def test_without_a_watch_nothing_speaks_of_one() -> None:
    own = own_families(reload_success=True, reload_success_time_s=12.5)

    assert "chatqueue_watch_" not in World(own=own).text()


def test_the_process_is_on_the_page() -> None:
    page = World().exposition.page("").body.decode()

    assert "\nprocess_resident_memory_bytes " in page
    assert "\npython_info{" in page


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        ("text/plain", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("application/json", TEXT),
        (PROMETHEUS_2, OPENMETRICS + "underscores"),
        (PROMETHEUS_3, OPENMETRICS + "allow-utf-8"),
        (PROMETHEUS_PROTOBUF, OPENMETRICS + "allow-utf-8"),
        ("application/openmetrics-text", OPENMETRICS + "underscores"),
        ("APPLICATION/OpenMetrics-Text; Version=1.0.0", OPENMETRICS + "underscores"),
        ("application/openmetrics-text; version=0.0.1", TEXT),
        ("text/plain; version=1.0.0; escaping=dots", TEXT_1 + "dots"),
        ("text/plain; version=1.0.0; escaping=values", TEXT_1 + "values"),
        # The client's own order of preference, wherever it stands in the header.
        ("application/openmetrics-text;version=1.0.0;q=0.1,text/plain;q=0.9", TEXT),
        ("application/openmetrics-text;q=0,text/plain;q=0.1", TEXT),
        (
            "text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0",
            OPENMETRICS + "underscores",
        ),
        ("application/openmetrics-text;q=lots", TEXT),
        # What prometheus_client would repeat, or break on.
        ("application/openmetrics-text;version=1.0.7", TEXT),
        ("application/openmetrics-text;version=99.0.0", TEXT),
        ("application/openmetrics-text;version=soon", TEXT),
        ("text/plain;version=soon", TEXT),
        ("application/openmetrics-text;version=1.0.0;escaping=none", OPENMETRICS + "underscores"),
        (",;=,;;version", TEXT),
    ],
)
def test_the_format_is_what_the_client_prefers(accept: str, content_type: str) -> None:
    assert World().exposition.page(accept).content_type == content_type


def test_no_client_can_make_the_exporter_render_ever_more_formats(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(snapshot_of(AGES))
    for number in range(200):
        for kind in ("application/openmetrics-text", "text/plain"):
            world.exposition.page(f"{kind};version=1.0.{number};escaping=e{number}")
            world.exposition.page(f"{kind};version=1.0.0;escaping=dots;n={number}")
    compressed = count_compressions(monkeypatch)

    world.exposition.publish()
    world.exposition._run_once()

    # Plain text, and each kind with underscores and with dots.
    assert len(compressed) == 5


def count_compressions(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies rendered from now on; each is compressed once."""
    bodies: list[bytes] = []

    def compress(body: bytes, *args: object, **kwargs: object) -> bytes:
        bodies.append(body)
        return original(body, *args, **kwargs)

    original = gzip.compress
    monkeypatch.setattr(exporter.metrics.exposition.gzip, "compress", compress)
    return bodies


def test_a_scrape_hands_out_what_is_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = count_compressions(monkeypatch)
    world = World(snapshot_of(AGES))

    pages = {id(world.exposition.page("")) for _ in range(100)}

    assert len(pages) == 1
    assert len(rendered) == 1


def test_a_change_renders_every_format_that_was_asked_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(snapshot_of(AGES))
    world.exposition.page("")
    world.exposition.page(PROMETHEUS_3)
    rendered = count_compressions(monkeypatch)

    world.source = Source((snapshot_of(gauge("new", ("", 1.0))),), ())
    assert "new{" not in world.text()
    world.exposition.publish()
    assert "new{" in world.text()
    assert "new{" in world.text(PROMETHEUS_3)

    assert len(rendered) == 2
    assert "new{" in world.text()
    assert "new{" in world.text(PROMETHEUS_3)
    assert len(rendered) == 2


def count_encodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The families whose series are encoded from now on, by name."""
    names: list[str] = []

    def encode(encoder: Any, family: Family, labels: Any) -> tuple[bytes, tuple[str, ...]]:
        names.append(family.name)
        return original(encoder, family, labels)

    original = exporter.metrics.encoding._encode_series
    monkeypatch.setattr(exporter.metrics.encoding, "_encode_series", encode)
    return names


def test_only_what_changed_of_one_database_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = snapshot_of(AGES, COUNTER), snapshot_of(AGES, COUNTER, database="second")
    world = World(first, second)
    world.exposition.page("")
    encoded = count_encodings(monkeypatch)

    changed = snapshot_of(AGES, gauge("things_total", ("", 9.0)), database="second")
    world.source = Source((first, changed), ())
    world.exposition.publish()
    text = world.text()

    assert encoded == ["things_total"]
    assert text == World(first, changed).text()


@pytest.mark.parametrize("accept", ["", PROMETHEUS_3])
def test_new_values_of_the_same_series_are_written_without_encoding_them_again(
    accept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = 'a "b" \\ \n \r # {x="1"} 2'
    values = (0.0, -0.0, 3.0, 1e6, 12345678.9, 1e21, 5e-7, math.inf, -math.inf, math.nan)

    def families(first: float, second: float) -> tuple[Family, ...]:
        histogram = Family(
            "wait_seconds",
            "histogram",
            "Waits.",
            "seconds",
            (
                Sample((("le", "1.0"),), first, "_bucket"),
                Sample((("le", "+Inf"),), first, "_bucket"),
                Sample((), first, "_count"),
                Sample((), second, "_sum"),
            ),
        )
        return (gauge("odd", (odd, first), ("plain", second)), histogram)

    world = World(bare(snapshot_of(), *families(1.0, 2.0)))
    world.text(accept)
    encoded = count_encodings(monkeypatch)
    for first, second in itertools.pairwise(values):
        snapshot = bare(snapshot_of(), *families(first, second))
        world.source = Source((snapshot,), ())
        world.exposition.publish()
        text = world.text(accept)

        assert encoded == []
        assert text == World(snapshot).text(accept)
        encoded.clear()


@pytest.mark.parametrize(
    "changed",
    [
        gauge("age_seconds", ("assigned", 1.0), ("waiting", 2.0), unit="seconds"),
        gauge("age_seconds", ("waiting", 1.0), unit="seconds"),
        gauge("age_seconds", ("waiting", 1.0), ("assigned", 2.0)),
        replace(AGES, help="Another help."),
    ],
)
def test_changed_series_and_headings_are_encoded_again(changed: Family) -> None:
    world = World(bare(snapshot_of(), AGES))
    world.text()

    world.source = Source((bare(snapshot_of(), changed),), ())
    world.exposition.publish()

    assert world.text() == World(bare(snapshot_of(), changed)).text()


@pytest.mark.parametrize("name", ["own", "database", "release"])
def test_a_database_may_have_any_name(name: str) -> None:
    labels = (("database", name),)
    world = World(bare(snapshot_of(database=name), AGES), own=[gauge("mine", ("", 1.0))])
    world.source = replace(world.source, releases=((labels, (gauge("released", ("", 2.0)),)),))

    text = world.text()

    assert "\nmine 1.0\n" in f"\n{text}"
    assert f'\nage_seconds{{database="{name}",state="waiting"}} 1.5\n' in text
    assert f'\nreleased{{database="{name}"}} 2.0\n' in text


def test_labels_that_a_reload_changes_are_on_every_line_at_once() -> None:
    world = World(snapshot_of(AGES, labels={"env": "old"}))
    assert 'env="old"' in world.text()

    world.source = Source((snapshot_of(AGES, labels={"env": "new"}),), ())
    world.exposition.publish()

    text = world.text()
    assert 'env="old"' not in text
    assert text == World(snapshot_of(AGES, labels={"env": "new"})).text()


def test_a_scrape_waits_for_no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding, go_on = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> tuple[bytes, bytes]:
        encoding.set()
        assert go_on.wait(20)
        return b"", b""

    world = World(snapshot_of(AGES))
    page = world.exposition.page("")
    world.exposition.start()
    try:
        monkeypatch.setattr(exporter.metrics.exposition, "encode_family", hang)
        world.source = Source((snapshot_of(gauge("new", ("", 1.0))),), ())
        world.exposition.publish()
        assert encoding.wait(20)

        assert world.exposition.page("") is page
    finally:
        go_on.set()
        assert world.exposition.stop(20)


def test_rendering_takes_its_share_of_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(snapshot_of(AGES))
    page = world.exposition.page("")

    def take_a_second(_: object, family: Family, __: object) -> tuple[bytes, tuple[str, ...]]:
        world.now += 1.0
        return b"", ("",) * len(family.samples)

    monkeypatch.setattr(exporter.metrics.encoding, "_encode_series", take_a_second)
    world.source = Source((bare(snapshot_of(), gauge("new", ("", 1.0))),), ())
    world.exposition.publish()
    world.exposition._run_once()
    assert world.exposition.page("") is not page
    took_s = world.now - 100.0
    world.exposition.publish()

    assert world.exposition._run_once() == pytest.approx(took_s / MAX_SHARE - took_s)


def test_a_format_that_is_asked_for_no_more_is_not_kept_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(snapshot_of(AGES))
    world.exposition.page("")
    world.exposition.page(PROMETHEUS_3)
    world.now += FORGET_AFTER_S
    world.exposition.page("")
    world.now += 1
    rendered = count_compressions(monkeypatch)

    world.exposition.publish()
    world.exposition._run_once()

    assert len(rendered) == 1
    assert "age_seconds{" in world.text(PROMETHEUS_3)
    assert len(rendered) == 2


def test_a_format_nobody_asked_for_is_not_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = count_compressions(monkeypatch)

    World(snapshot_of(AGES)).exposition.publish()

    assert rendered == []


def test_a_page_is_rendered_again_when_a_figure_expires() -> None:
    result = result_of(gauge("chats", ("", 1.0)), expires_at=105.0)
    world = World(replace(snapshot_of(), results=(result,)))
    first = world.exposition.page("")

    world.now = 104.999
    assert world.exposition.page("") is first
    world.now = 105.0
    assert "\nchats{" in first.body.decode()
    assert "\nchats{" not in world.exposition.page("").body.decode()


def test_a_page_is_rendered_again_when_the_database_was_not_asked_for_long() -> None:
    world = World(replace(snapshot_of(), up_until=110.0))
    assert 'chatqueue_database_up{database="main"} 1.0' in world.text()

    world.now = 110.0

    assert 'chatqueue_database_up{database="main"} 0.0' in world.text()


def test_no_page_is_older_than_the_limit_so_that_the_process_figures_move() -> None:
    world = World(snapshot_of(AGES))
    first = world.exposition.page("")

    world.now += MAX_PAGE_AGE_S - 0.001
    assert world.exposition.page("") is first
    world.now += 0.001
    assert world.exposition.page("") is not first


@pytest.mark.parametrize("accept", ["", PROMETHEUS_3])
def test_the_compressed_body_is_the_body(accept: str) -> None:
    world = World(snapshot_of(AGES))

    page = world.exposition.page(accept)

    assert gzip.decompress(page.compressed) == page.body
    assert len(page.compressed) < len(page.body)


def parsed(metrics: Iterable[ParsedMetric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by name and labels."""
    samples = [sample for metric in metrics for sample in metric.samples]
    found = {(s.name, frozenset(s.labels.items())): s.value for s in samples}
    assert len(found) == len(samples)
    return found


WHO, STATE = Label("who", "who", ()), Label("state", "state", ("a", "b"))
QUERY = Query(
    name="q",
    path=Path("q.sql"),
    sql="",
    interval_s=15,
    timeout_s=5,
    max_age_s=None,
    needs=(),
    metrics=(
        Metric(
            "wait_seconds",
            "gauge",
            'Waits: "\\"\n.',
            "seconds",
            (WHO,),
            (Series((), "wait"),),
            None,
        ),
        Metric(
            "things_total",
            "counter",
            "Things.",
            "",
            (WHO, STATE),
            (Series((("side", "l"),), "l"), Series((("side", "r"),), "r")),
            None,
        ),
        Metric("chats", "gauge", "Chats.", "", (), (Series((), "chats"),), 0.0),
    ),
    max_rows=100,
    parameters=(),
)
numbers = st.floats() | st.integers(-(2**63), 2**63) | st.decimals(allow_nan=False)
# OpenMetrics allows a counter neither NaN nor less than zero.
counts = st.none() | st.floats(min_value=0, allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
query_rows = st.lists(
    st.fixed_dictionaries(
        {
            "who": texts,
            "state": st.sampled_from(STATE.values),
            "wait": st.none() | numbers,
            "l": counts,
            "r": counts,
            "chats": st.none() | numbers,
        }
    ),
    max_size=6,
    unique_by=lambda row: row["who"],
)


@settings(max_examples=60, deadline=None)
@given(query_rows, texts)
def test_whatever_rows_there_are_the_page_reads_back_the_same(
    rows: list[dict[str, object]], team: str
) -> None:
    per_row = replace(QUERY, metrics=QUERY.metrics[:2])
    families = build_families(per_row, per_row.columns, rows)
    once = replace(QUERY, metrics=QUERY.metrics[2:])
    families += build_families(once, once.columns, rows[:1])
    expected = {
        (f.name, frozenset({"database": "main", "team": team, **dict(s.labels)}.items())): s.value
        for f in families
        for s in f.samples
    }
    world = World(bare(snapshot_of(labels={"team": team}), *families))

    texts = {
        text_parser: world.exposition.page("").body.decode(),
        openmetrics_parser: world.exposition.page(PROMETHEUS_3).body.decode(),
    }

    for parser, text in texts.items():
        found = parsed(parser.text_string_to_metric_families(text))
        ours = {key: found[key] for key in found if key[0] in {f.name for f in families}}
        assert ours.keys() == expected.keys()
        for key, value in expected.items():
            assert ours[key] == value or (math.isnan(ours[key]) and math.isnan(value))
