"""Rows that several queries share: the files, the statements made of them, their outcomes."""

# ruff: noqa: E501  # messages stand whole, as an operator reads them
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.catalogue import Query, load_catalogue
from exporter.config import Poll
from exporter.database.requests import (
    Outcome,
    QueryRequest,
    group_requests,
    join_requests,
    split_outcome,
)
from exporter.errors import CatalogueError

MAPPING = "facts: rows\nmetrics:\n- {name: NAME, type: gauge, help: H., value: v}\n"
FILES = {
    "facts/rows.sql": "-- Rows.\nSELECT g AS n FROM generate_series(1, %(b)s) AS g",
    "facts/rows.yaml": "needs: [relation: public.chats]\n",
    "one.sql": "SELECT count(*) AS v FROM rows",
    "one.yaml": MAPPING.replace("NAME", "one"),
    "two.sql": "SELECT %(a)s + sum(n) AS v FROM rows WHERE n::text LIKE '%%'",
    "two.yaml": MAPPING.replace("NAME", "two") + "needs: [relation: public.messages]\n",
    "alone.sql": "SELECT 1 AS v",
    "alone.yaml": MAPPING.replace("NAME", "alone").replace("facts: rows\n", ""),
}


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def load(*folders: Path) -> dict[str, Query]:
    queries = load_catalogue(folders, poll=Poll(), overrides={}, parameters={"a", "b"})
    return {query.name: query for query in queries}


def test_a_query_has_the_needs_and_parameters_of_its_facts(tmp_path: Path) -> None:
    two = load(write(tmp_path, FILES))["two"]

    assert [need.name for need in two.needs] == ["public.messages", "public.chats"]
    assert two.parameters == ("a", "b")
    assert two.sql.startswith("/* chatqueue-exporter: two */ WITH rows AS MATERIALIZED (\n")


def test_facts_of_ones_own_replace_those_of_the_same_name(tmp_path: Path) -> None:
    write(tmp_path / "a", FILES)
    write(tmp_path / "b", {"facts/rows.sql": "SELECT 7 AS n", "facts/rows.yaml": "needs: []\n"})

    one = load(tmp_path / "a", tmp_path / "b")["one"]

    assert "SELECT 7 AS n" in one.sql
    assert one.needs == ()


FAULTS = {
    "unknown": (
        {"one.yaml": MAPPING.replace("rows", "row").replace("NAME", "one")},
        "one.yaml:1: facts: 'row' is unknown, expected one of facts: rows",
    ),
    "events": (
        {
            "one.yaml": MAPPING.replace("gauge", "counter").replace("NAME", "n_total")
            + "events: {}\n"
        },
        "one.yaml:1: facts: is given in a query of events, expected no facts: events have their own rows",
    ),
    "no mapping": (
        {"facts/more.sql": "SELECT 1"},
        "facts/more.sql: stands alone, expected more.yaml beside it",
    ),
    "unknown key": (
        {"facts/rows.yaml": "needs: []\nmetrics: []\n"},
        "facts/rows.yaml:2: metrics: unknown key, expected one of needs",
    ),
    "no name in SQL": (
        {"facts/My-rows.sql": "SELECT 1", "facts/My-rows.yaml": "needs: []\n"},
        "facts/My-rows.sql: its name is not a name in SQL, expected lower-case letters, digits and _, as queries read FROM it",
    ),
    "a write": (
        {"facts/rows.sql": "DELETE FROM chats"},
        "facts/rows.sql:1: begins with DELETE, expected SELECT or WITH",
    ),
}


@pytest.mark.parametrize(("files", "message"), FAULTS.values(), ids=list(FAULTS))
def test_a_fault_is_named_with_its_place(
    tmp_path: Path, files: Mapping[str, str], message: str
) -> None:
    write(tmp_path, FILES | files)

    with pytest.raises(CatalogueError) as caught:
        load(tmp_path)

    assert message in str(caught.value).replace(f"{tmp_path}/", "").split("\n")


def test_queries_over_the_same_facts_are_one_statement(tmp_path: Path) -> None:
    queries = load(write(tmp_path, FILES))
    requests = [QueryRequest(queries[name], {}) for name in ("one", "alone", "two")]

    groups = [tuple(r.query.name for r in g) for g in group_requests(requests, ())]
    apart = [tuple(r.query.name for r in g) for g in group_requests(requests, {"rows"})]
    joined = join_requests(requests[::2]).query

    assert sorted(groups) == [("alone",), ("one", "two")]
    assert sorted(apart) == [("alone",), ("one",), ("two",)]
    assert joined.sql.count("generate_series") == 1
    assert (joined.name, set(joined.parameters)) == ("one, two", {"a", "b"})
    assert {need.name for need in joined.needs} == {"public.chats", "public.messages"}


def test_an_outcome_is_taken_apart(tmp_path: Path) -> None:
    queries = load(write(tmp_path, FILES))
    requests = [QueryRequest(queries[name], {}) for name in ("one", "two")]
    row = {"of_0": [{"v": 1, "w": "x"}], "of_1": []}

    one, two = split_outcome(
        Outcome(join_requests(requests).query, ("of_0", "of_1"), (row,), None, 4.0), requests
    )

    assert (one.query.name, one.columns, one.rows) == ("one", ("v", "w"), ({"v": 1, "w": "x"},))
    assert (two.query.name, two.columns, two.rows) == ("two", ("v",), ())
    assert one.duration_s == two.duration_s == 2.0
