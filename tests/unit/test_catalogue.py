"""Folders of queries become a catalogue, overrides applied."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from exporter.catalogue import Events, Label, Metric, Need, Query, Series, load_catalogue
from exporter.config import Override, Poll, load_config
from exporter.errors import CatalogueError
from exporter.polling.plan import load_queries
from tests.counting import EVENT_QUERIES
from tests.watch import BUILT_IN

MAPPING = """
metrics:
  - {name: m, type: gauge, help: H., value: v}
"""


def write(folder: Path, name: str, mapping: str = MAPPING, sql: str = "SELECT 1 AS v") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.sql").write_text(sql)
    (folder / f"{name}.yaml").write_text(mapping)


def load(
    *dirs: Path, overrides: Mapping[str, Override] | None = None, poll: Poll | None = None
) -> dict[str, Query]:
    queries = load_catalogue(
        dirs, poll=poll or Poll(), overrides=overrides or {}, parameters={"p", "q"}
    )
    return {query.name: query for query in queries}


def metric_of(query: Query) -> str:
    return query.metrics[0].name


def named(metric: str) -> str:
    return MAPPING.replace("name: m", f"name: {metric}")


def test_a_pair_of_files_becomes_a_query_with_nothing_lost(tmp_path: Path) -> None:
    write(
        tmp_path,
        "mine",
        """
interval: 1m
timeout: 2s
max_age: 10m
max_rows: 7
needs:
  - relation: public.view_of_mine
    reads: [public.chats, public.messages]
  - function: public.f(integer, text)
    reads: [public.operators]
  - relation: public.chats
labels:
  kind: {column: kind_column, values: [a, b]}
  who: {column: who}
metrics:
  - name: mine_seconds
    type: gauge
    help: Mine.
    unit: seconds
    labels: [kind]
    value: seconds
    empty: 0
  - name: mine_total
    type: counter
    help: Theirs.
    labels: [kind, who]
    series:
      - {labels: {side: left}, value: l}
      - {labels: {side: right}, value: r}
""",
        "-- why\nSELECT %(q)s, %(p)s;\n",
    )

    assert load(tmp_path)["mine"] == Query(
        name="mine",
        path=tmp_path / "mine.sql",
        sql="/* chatqueue-exporter: mine */ SELECT %(q)s, %(p)s",
        interval_s=60,
        timeout_s=2,
        max_age_s=600,
        needs=(
            Need("relation", "public.view_of_mine"),
            Need("relation", "public.chats", "public.view_of_mine"),
            Need("relation", "public.messages", "public.view_of_mine"),
            Need("function", "public.f(integer, text)"),
            Need("relation", "public.operators", "public.f(integer, text)"),
            Need("relation", "public.chats"),
        ),
        metrics=(
            Metric(
                "mine_seconds",
                "gauge",
                "Mine.",
                "seconds",
                (Label("kind", "kind_column", ("a", "b")),),
                (Series((), "seconds"),),
                0.0,
            ),
            Metric(
                "mine_total",
                "counter",
                "Theirs.",
                "",
                (Label("kind", "kind_column", ("a", "b")), Label("who", "who", ())),
                (Series((("side", "left"),), "l"), Series((("side", "right"),), "r")),
                None,
            ),
        ),
        max_rows=7,
        parameters=("p", "q"),
    )
    assert load(tmp_path)["mine"].columns == ("kind_column", "who", "seconds", "l", "r")


def test_a_query_of_events_loses_nothing_either(tmp_path: Path) -> None:
    write(
        tmp_path,
        "mine",
        """
events: {key: id, at: happened_at, window: written_at}
labels:
  kind: {column: kind_column, values: [a, b]}
metrics:
  - {name: mine_total, type: counter, help: Rows., labels: [kind]}
  - {name: mine_work_seconds_total, type: counter, help: Sum., unit: seconds, value: took}
  - name: mine_seconds
    type: histogram
    help: Spread.
    unit: seconds
    labels: [kind]
    value: waited
    buckets: [0.5, 1, 30]
""",
        "SELECT %(since)s, %(seen)s, %(pending)s, %(p)s",
    )

    query = load(tmp_path)["mine"]

    kind = Label("kind", "kind_column", ("a", "b"))
    assert query.events == Events("id", "happened_at", "written_at")
    assert query.metrics == (
        Metric("mine_total", "counter", "Rows.", "", (kind,), (Series((), ""),), None),
        Metric(
            "mine_work_seconds_total",
            "counter",
            "Sum.",
            "seconds",
            (),
            (Series((), "took"),),
            None,
        ),
        Metric(
            "mine_seconds",
            "histogram",
            "Spread.",
            "seconds",
            (kind,),
            (Series((), "waited"),),
            None,
            (0.5, 1.0, 30.0),
        ),
    )
    assert query.parameters == ("p", "pending", "seen", "since")
    assert query.columns == ("kind_column", "took", "waited", "id", "happened_at", "written_at")


def test_events_name_their_columns_as_one_would_expect(tmp_path: Path) -> None:
    rest = "\nmetrics: [{name: m_total, type: counter, help: H.}]"
    write(tmp_path, "a", "events: {}" + rest)
    write(tmp_path, "b", "events: {at: sent_at}" + rest.replace("m_total", "n_total"))

    queries = load(tmp_path)

    assert queries["a"].events == Events("key", "at", "at")
    assert queries["b"].events == Events("key", "sent_at", "sent_at")
    assert queries["a"].columns == ("key", "at")


def test_a_query_that_names_no_times_takes_the_configurations(tmp_path: Path) -> None:
    write(tmp_path, "mine")

    query = load(tmp_path, poll=Poll(interval=timedelta(seconds=30), timeout=timedelta(seconds=4)))

    assert (query["mine"].interval_s, query["mine"].timeout_s) == (30, 4)
    assert (query["mine"].max_age_s, query["mine"].max_rows) == (None, 1000)


def test_a_short_interval_shortens_the_timeout_with_it(tmp_path: Path) -> None:
    write(tmp_path, "mine", "interval: 2s" + MAPPING)

    assert load(tmp_path)["mine"].timeout_s == 2
    overrides = {"mine": Override(interval=timedelta(seconds=1))}
    assert load(tmp_path, overrides=overrides)["mine"].timeout_s == 1


def test_queries_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write(tmp_path, name, named(name))

    assert list(load(tmp_path)) == ["a", "b", "c"]


def test_a_query_of_an_own_folder_replaces_the_built_in_one(tmp_path: Path) -> None:
    write(tmp_path / "built-in", "q", named("built_in"))
    write(tmp_path / "built-in", "other", named("other"))
    write(tmp_path / "own", "q", named("own"))

    queries = load(tmp_path / "built-in", tmp_path / "own")

    assert {name: metric_of(query) for name, query in queries.items()} == {
        "other": "other",
        "q": "own",
    }
    assert queries["q"].path == tmp_path / "own" / "q.sql"


def test_a_query_reads_from_facts_and_has_their_needs_and_parameters(tmp_path: Path) -> None:
    facts = "-- Head.\nSELECT t.v FROM public.t WHERE v <> '%' -- 5 %"
    write(tmp_path / "facts", "shared", "needs: [{relation: public.t}]", facts)
    needs = "facts: shared\nneeds: [{relation: public.u}]"
    write(tmp_path, "q", needs + MAPPING, "SELECT v, %(p)s FROM shared, public.u;\n")
    write(tmp_path, "plain", "facts: shared" + named("plain"), "SELECT v, '%' FROM shared")

    queries = load(tmp_path)

    assert queries["q"].sql == (
        "/* chatqueue-exporter: q */ WITH shared AS MATERIALIZED (\n"
        "SELECT t.v FROM public.t WHERE v <> '%%'\n)\n"
        "SELECT s.* FROM (\nSELECT v, %(p)s FROM shared, public.u\n) AS s"
    )
    assert queries["q"].needs == (Need("relation", "public.u"), Need("relation", "public.t"))
    assert queries["q"].parameters == ("p",)
    assert queries["q"].own_sql == "SELECT v, %(p)s FROM shared, public.u"
    # Without parameters psycopg leaves a % alone.
    assert "v <> '%'" in queries["plain"].sql
    assert "v, '%' FROM" in queries["plain"].sql
    assert queries["plain"].own_sql == "SELECT v, '%%' FROM shared"
    assert queries["plain"].facts == queries["q"].facts


def test_facts_of_an_own_folder_replace_the_built_in_ones_for_all_queries(tmp_path: Path) -> None:
    write(tmp_path / "built-in", "q", "facts: f" + MAPPING, "SELECT v FROM f")
    write(tmp_path / "built-in" / "facts", "f", "needs: [{relation: public.t}]")
    (tmp_path / "own").mkdir()
    write(tmp_path / "own" / "facts", "f", "needs: [{relation: public.u}]", "SELECT 2 AS v")

    query = load(tmp_path / "built-in", tmp_path / "own")["q"]

    assert "SELECT 2 AS v" in query.sql
    assert query.needs == (Need("relation", "public.u"),)


def test_an_override_changes_only_what_it_names(tmp_path: Path) -> None:
    write(tmp_path, "q", "interval: 1m\ntimeout: 2s\nmax_age: 5m" + MAPPING)
    as_written = load(tmp_path)["q"]

    def times(**override: timedelta) -> tuple[float, float, float | None]:
        query = load(tmp_path, overrides={"q": Override(**override)})["q"]
        return query.interval_s, query.timeout_s, query.max_age_s

    assert load(tmp_path, overrides={"q": Override()})["q"] == as_written
    assert times(interval=timedelta(minutes=2)) == (120, 2, 300)
    assert times(timeout=timedelta(seconds=9)) == (60, 9, 300)
    assert times(max_age=timedelta(minutes=1)) == (60, 2, 60)


def test_a_query_can_be_disabled_by_its_file_or_the_configuration(tmp_path: Path) -> None:
    write(tmp_path, "on", named("a"))
    write(tmp_path, "off", "enabled: false" + named("b"))

    assert list(load(tmp_path)) == ["on"]
    assert list(load(tmp_path, overrides={"on": Override(enabled=False)})) == []
    enabled = load(tmp_path, overrides={"off": Override(enabled=True)})
    assert list(enabled) == ["off", "on"]
    # Overriding something else of a disabled query does not switch it on.
    assert list(load(tmp_path, overrides={"off": Override(max_age=timedelta(hours=1))})) == ["on"]


def test_an_own_query_can_take_the_place_of_a_disabled_one(tmp_path: Path) -> None:
    write(tmp_path / "built-in", "q", "enabled: false" + MAPPING)
    write(tmp_path / "own", "q")

    assert list(load(tmp_path / "built-in", tmp_path / "own")) == ["q"]


def test_a_disabled_query_conflicts_with_none(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b")

    with pytest.raises(CatalogueError, match="may give the same series"):
        load(tmp_path)
    assert list(load(tmp_path, overrides={"b": Override(enabled=False)})) == ["a"]


def test_queries_may_share_a_metric_whose_labels_cannot_meet(tmp_path: Path) -> None:
    for name, values in (("a", "[x, y]"), ("b", "[z]")):
        write(
            tmp_path,
            name,
            f"labels: {{kind: {{column: k, values: {values}}}}}"
            + MAPPING.replace("value:", "labels: [kind], value:"),
        )
    write(tmp_path, "c", MAPPING.replace("value: v", "series: [{labels: {kind: w}, value: v}]"))

    assert list(load(tmp_path)) == ["a", "b", "c"]


def test_other_files_and_folders_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "q")
    (tmp_path / "README.md").write_text("# Queries")
    (tmp_path / "old.sql").mkdir()

    assert list(load(tmp_path)) == ["q"]


def test_a_byte_order_mark_is_no_part_of_the_statement(tmp_path: Path) -> None:
    write(tmp_path, "q", sql="\ufeffSELECT 1 AS v")

    assert load(tmp_path)["q"].sql == "/* chatqueue-exporter: q */ SELECT 1 AS v"


def test_every_built_in_query_loads(tmp_path: Path) -> None:
    file = tmp_path / "chatqueue.yaml"
    file.write_text("databases: {main: {dsn: host=db}}")
    queries = load_queries(load_config(file))

    assert [query.name for query in queries] == list(BUILT_IN)
    assert {query.interval_s for query in queries} == {15, 30, 60, 300, 3600}
    # Those two read system catalogues alone, which every role may.
    catalogues = {"contract_objects", "database_errors"}
    assert {query.name for query in queries if not query.needs} == catalogues
    assert {query.name for query in queries if query.events} == {*EVENT_QUERIES}
