"""Rows become families, and a snapshot shows them for as long as they are fresh."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.catalogue import Label, Metric, Query, Series
from exporter.errors import Reason, RowMismatch
from exporter.metrics.snapshot import (
    MAX_LABEL_LENGTH,
    Family,
    QueryResult,
    Sample,
    Snapshot,
    build_families,
    merge_families,
)

STATE = Label("state", "state", ("waiting", "assigned"))
WHO = Label("who", "who_column", ())
CHATS = Metric("chats", "gauge", "Chats.", "", (STATE,), (Series((), "chats"),), 0.0)
SHARE = Metric(
    "share_ratio",
    "gauge",
    "Share.",
    "ratio",
    (WHO,),
    (Series((("window", "1h"),), "hour"), Series((("window", "24h"),), "day")),
    None,
)
ALONE = Metric("alone", "gauge", "Alone.", "", (), (Series((), "value"),), None)


def query_of(*metrics: Metric, max_rows: int = 10) -> Query:
    return Query(
        name="mine",
        path=Path("queries/mine.sql"),
        sql="SELECT",
        interval_s=15,
        timeout_s=5,
        max_age_s=None,
        needs=(),
        metrics=metrics,
        max_rows=max_rows,
        parameters=(),
    )


def samples_of(
    metric: Metric, *rows: Mapping[str, Any]
) -> dict[tuple[tuple[str, str], ...], float]:
    """Samples by labels of one metric's rows."""
    query = query_of(metric)
    (family,) = build_families(query, query.columns, rows)
    samples = {sample.labels: sample.value for sample in family.samples}
    assert len(samples) == len(family.samples)
    return samples


def by_state(*rows: Mapping[str, Any], metric: Metric = CHATS) -> dict[str, float]:
    return {labels[0][1]: value for labels, value in samples_of(metric, *rows).items()}


def mismatch_of(query: Query, columns: Sequence[str], *rows: Mapping[str, Any]) -> str:
    with pytest.raises(RowMismatch) as caught:
        build_families(query, columns, rows)
    assert caught.value.reason is Reason.MISMATCH
    return str(caught.value)


def test_families_come_in_the_catalogues_order_with_all_it_says() -> None:
    query = query_of(SHARE, CHATS)
    row = {"state": "waiting", "chats": 3, "who_column": "Ann", "hour": 0.5, "day": 0.25}

    assert build_families(query, query.columns, [row]) == (
        Family(
            "share_ratio",
            "gauge",
            "Share.",
            "ratio",
            (
                Sample((("who", "Ann"), ("window", "1h")), 0.5),
                Sample((("who", "Ann"), ("window", "24h")), 0.25),
            ),
        ),
        Family(
            "chats",
            "gauge",
            "Chats.",
            "",
            (Sample((("state", "waiting"),), 3.0), Sample((("state", "assigned"),), 0.0)),
        ),
    )


def test_every_listed_label_value_is_there_without_a_row() -> None:
    assert by_state() == {"waiting": 0, "assigned": 0}
    assert by_state({"state": "assigned", "chats": 2}) == {"waiting": 0, "assigned": 2}


def test_every_combination_of_listed_values_and_series_is_there_without_a_row() -> None:
    side = Label("side", "side", ("left", "right"))
    series = (Series((("kind", "a"),), "a"), Series((("kind", "b"),), "b"))
    metric = replace(CHATS, labels=(STATE, side), series=series, empty=7.0)

    samples = samples_of(metric, {"state": "assigned", "side": "left", "a": 1, "b": None})

    assert samples == {
        **{
            (("state", state), ("side", side), ("kind", kind)): 7
            for state in ("waiting", "assigned")
            for side in ("left", "right")
            for kind in ("a", "b")
            if (state, side) != ("assigned", "left")
        },
        (("state", "assigned"), ("side", "left"), ("kind", "a")): 1,
    }


def test_without_empty_there_is_no_sample_without_a_row() -> None:
    assert samples_of(replace(CHATS, empty=None)) == {}
    assert samples_of(ALONE) == {}


def test_an_unlabelled_metric_may_have_a_value_without_a_row() -> None:
    assert samples_of(replace(ALONE, empty=0.0)) == {(): 0}


def test_null_gives_no_sample_not_even_the_empty_one() -> None:
    assert by_state({"state": "waiting", "chats": None}) == {"assigned": 0}
    assert samples_of(SHARE, {"who_column": "Ann", "hour": None, "day": 1}) == {
        (("who", "Ann"), ("window", "24h")): 1
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0),
        (-1.5, -1.5),
        (Decimal("1.25"), 1.25),
        (Decimal("1e400"), math.inf),
        (2**63 - 1, 9.223372036854775807e18),
        (True, 1.0),
        (False, 0.0),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
    ],
)
def test_every_kind_of_number_is_a_float(value: object, expected: float) -> None:
    samples = samples_of(ALONE, {"value": value})

    assert samples == {(): expected}
    assert type(samples[()]) is float


@pytest.mark.parametrize("value", [math.nan, Decimal("NaN")])
def test_nan_is_shown_as_it_is(value: object) -> None:
    assert math.isnan(samples_of(ALONE, {"value": value})[()])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("12", "str '12'"),
        (b"12", "bytes b'12'"),
        (datetime.timedelta(seconds=5), "timedelta datetime.timedelta(seconds=5)"),
        (datetime.date(2026, 1, 2), "date datetime.date(2026, 1, 2)"),
        ([1], "list [1]"),
    ],
)
def test_what_is_no_number_is_refused(value: object, shown: str) -> None:
    assert mismatch_of(query_of(ALONE), ["value"], {"value": value}) == (
        f"mine.sql column 'value' returned {shown}, "
        "expected a number (convert times with extract(EPOCH FROM …))"
    )


@pytest.mark.parametrize(("value", "label"), [(True, "true"), (7, "7"), ("", ""), ("ä\n", "ä\n")])
def test_a_label_shows_the_value_as_text(value: object, label: str) -> None:
    row = {"who_column": value, "hour": 1, "day": None}

    assert samples_of(SHARE, row) == {(("who", label), ("window", "1h")): 1}


def test_a_long_label_is_cut_at_its_limit() -> None:
    def label(text: str) -> str:
        ((labels, _),) = samples_of(SHARE, {"who_column": text, "hour": 1, "day": None}).items()
        return labels[0][1]

    longest = "x" * MAX_LABEL_LENGTH
    assert label(longest) == longest
    assert label(longest + "x") == "x" * 127 + "…"


def test_rows_that_differ_only_beyond_the_limit_are_refused() -> None:
    rows = [{"who_column": "x" * 200 + end, "hour": 1, "day": 1} for end in "ab"]

    assert mismatch_of(query_of(SHARE), ["who_column", "hour", "day"], *rows).startswith(
        "mine.sql returned two rows for share_ratio{'who': 'xxx"
    )


def test_two_rows_with_the_same_labels_are_refused() -> None:
    rows = [{"state": "waiting", "chats": 1}, {"state": "waiting", "chats": 2}]

    assert mismatch_of(query_of(CHATS), ["state", "chats"], *rows) == (
        "mine.sql returned two rows for chats{'state': 'waiting'}, "
        "expected labels that identify a row"
    )


def test_two_rows_without_labels_are_refused_even_where_one_is_null() -> None:
    assert mismatch_of(query_of(ALONE), ["value"], {"value": None}, {"value": 1}) == (
        "mine.sql returned two rows for alone{}, expected labels that identify a row"
    )


def test_a_label_value_that_is_not_listed_is_refused() -> None:
    row = {"state": "lost", "chats": 1}

    assert mismatch_of(query_of(CHATS), ["state", "chats"], row) == (
        "mine.sql column 'state' returned 'lost', expected one of waiting, assigned"
    )


@pytest.mark.parametrize(
    ("metric", "column", "expected"),
    [(CHATS, "state", "one of waiting, assigned"), (SHARE, "who_column", "a value")],
)
def test_a_null_label_is_refused(metric: Metric, column: str, expected: str) -> None:
    query = query_of(metric)

    assert mismatch_of(query, query.columns, dict.fromkeys(query.columns)) == (
        f"mine.sql column '{column}' returned NULL, expected {expected}"
    )


def test_every_missing_column_is_named_even_without_a_row() -> None:
    assert mismatch_of(query_of(CHATS, SHARE), ["state", "hour"]) == (
        "mine.sql returned no column 'who_column', 'chats', 'day', expected by mine.yaml; "
        "it returned state, hour"
    )


def test_columns_that_no_metric_names_are_left_alone() -> None:
    (family,) = build_families(query_of(ALONE), ["extra", "value"], [{"extra": "x", "value": 1}])

    assert family.samples == (Sample((), 1.0),)


def test_more_rows_than_allowed_are_refused() -> None:
    query = query_of(SHARE, max_rows=2)
    rows = [{"who_column": str(number), "hour": 1, "day": 1} for number in range(3)]

    assert len(build_families(query, query.columns, rows[:2])[0].samples) == 4
    assert mismatch_of(query, query.columns, *rows) == (
        "mine.sql returned 3 rows, expected at most 2 (max_rows)"
    )


def test_families_of_one_name_are_joined_in_place() -> None:
    one, two = Sample((("state", "a"),), 1.0), Sample((("state", "b"),), 2.0)
    chats, other = (
        Family("chats", "gauge", "Chats.", "", (one,)),
        Family("x", "gauge", "X.", "", ()),
    )

    assert merge_families([chats, other, replace(chats, samples=(two,))]) == (
        replace(chats, samples=(one, two)),
        other,
    )


FIGURES = Family("chats", "gauge", "Chats.", "", (Sample((), 3.0),))
NEVER = QueryResult("never", (), False, 0.0, 0.0, 15.0, 0.0, 0, {})
FRESH = QueryResult(
    query="fresh",
    families=(FIGURES,),
    success=True,
    last_success_s=1000.0,
    expires_at=145.0,
    interval_s=15.0,
    duration_s=0.25,
    rows=3,
    errors={Reason.TIMEOUT: 2, Reason.LOCKED: 1},
)
SNAPSHOT = Snapshot(
    database="main",
    labels=(),
    up=True,
    up_until=150.0,
    clock_skew_s=None,
    in_recovery=None,
    hidden=(("public.chats", True), ("public.messages", False)),
    results=(FRESH, NEVER),
    thresholds=(Family("chatqueue_threshold_x", "gauge", "X.", "", (Sample((), 9.0),)),),
)


def shown(snapshot: Snapshot, at: float) -> dict[str, dict[str, float]]:
    """Samples by family name and label values, as the snapshot shows them at a moment."""
    return {
        family.name: {
            ",".join(value for _, value in sample.labels): sample.value for sample in family.samples
        }
        for family in snapshot.families(at)
    }


def test_a_snapshot_shows_figures_thresholds_and_its_own_state() -> None:
    snapshot = replace(SNAPSHOT, clock_skew_s=-0.5, in_recovery=True)

    assert shown(snapshot, 100.0) == {
        "chats": {"": 3},
        "chatqueue_threshold_x": {"": 9},
        "chatqueue_database_up": {"": 1},
        "chatqueue_database_row_security_hidden": {"public.chats": 1, "public.messages": 0},
        "chatqueue_database_clock_skew_seconds": {"": -0.5},
        "chatqueue_database_in_recovery": {"": 1},
        "chatqueue_database_reconnections_total": {"": 0},
        "chatqueue_exporter_query_success": {"fresh": 1, "never": 0},
        "chatqueue_exporter_query_last_success_timestamp_seconds": {"fresh": 1000, "never": 0},
        "chatqueue_exporter_query_duration_seconds": {"fresh": 0.25, "never": 0},
        "chatqueue_exporter_query_rows": {"fresh": 3, "never": 0},
        "chatqueue_exporter_query_interval_seconds": {"fresh": 15, "never": 15},
        "chatqueue_exporter_query_failed_runs_total": {"fresh": 3, "never": 0},
        "chatqueue_exporter_query_errors_total": {
            "fresh,timeout": 2,
            "fresh,locked": 1,
        },
    }


def test_before_the_first_contact_nothing_is_said_of_clock_and_standby() -> None:
    names = shown(SNAPSHOT, 100.0)

    assert "chatqueue_database_clock_skew_seconds" not in names
    assert "chatqueue_database_in_recovery" not in names


@pytest.mark.parametrize(
    ("at", "figures", "success", "up"),
    [
        (144.999, {"": 3}, 1, 1),
        (145.0, None, 0, 1),
        (149.999, None, 0, 1),
        (150.0, None, 0, 0),
        (1e9, None, 0, 0),
    ],
)
def test_what_is_too_old_is_not_shown(
    at: float, figures: dict[str, float] | None, success: float, up: float
) -> None:
    families = shown(SNAPSHOT, at)

    assert families.get("chats") == figures
    assert families["chatqueue_exporter_query_success"]["fresh"] == success
    assert families["chatqueue_database_up"] == {"": up}
    assert families["chatqueue_exporter_query_last_success_timestamp_seconds"]["fresh"] == 1000


def test_a_failed_run_leaves_fresh_figures_and_says_so() -> None:
    snapshot = replace(SNAPSHOT, results=(replace(FRESH, success=False),))

    families = shown(snapshot, 100.0)

    assert families["chats"] == {"": 3}
    assert families["chatqueue_exporter_query_success"] == {"fresh": 0}


def test_a_database_that_is_down_is_down_however_young_the_poll() -> None:
    assert shown(replace(SNAPSHOT, up=False), 100.0)["chatqueue_database_up"] == {"": 0}


def test_results_of_several_queries_join_in_one_family_each_for_its_own_time() -> None:
    other = replace(FIGURES, samples=(Sample((("state", "x"),), 1.0),))
    results = (FRESH, replace(FRESH, query="other", families=(other,), expires_at=200.0))
    snapshot = replace(SNAPSHOT, results=results)

    assert [family.name for family in snapshot.families(100.0)].count("chats") == 1
    assert shown(snapshot, 100.0)["chats"] == {"": 3, "x": 1}
    assert shown(snapshot, 145.0)["chats"] == {"x": 1}


def test_the_next_expiry_is_the_next_moment_at_which_something_changes() -> None:
    assert SNAPSHOT.next_expiry(100.0) == 145.0
    assert SNAPSHOT.next_expiry(144.999) == 145.0
    assert SNAPSHOT.next_expiry(145.0) == 150.0
    assert SNAPSHOT.next_expiry(150.0) == math.inf


finite = st.floats(allow_nan=False) | st.integers(-(2**63), 2**63) | st.decimals(allow_nan=False)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "state": st.sampled_from(STATE.values),
            "chats": st.none() | finite | st.booleans(),
            "who_column": st.text(max_size=200) | st.integers() | st.booleans(),
            "hour": st.none() | finite,
            "day": st.none() | finite,
        }
    ),
    max_size=8,
)


@given(rows)
def test_any_rows_of_the_mapped_shape_give_unique_labels_or_a_mismatch(
    rows: list[dict[str, Any]],
) -> None:
    query = query_of(replace(CHATS, labels=(WHO, STATE), empty=None), SHARE)

    try:
        families = build_families(query, query.columns, rows)
    except RowMismatch:
        texts = [str(row["who_column"])[:127].lower() for row in rows]
        assert len(set(texts)) < len(texts)
        return
    for family in families:
        labels = [sample.labels for sample in family.samples]
        assert len(set(labels)) == len(labels)
        assert all(len(value) <= MAX_LABEL_LENGTH for pairs in labels for _, value in pairs)
    values = [row[column] for row in rows for column in ("hour", "day")]
    assert len(families[1].samples) == sum(value is not None for value in values)
