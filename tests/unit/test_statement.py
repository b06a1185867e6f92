"""What is said of a query's SQL before any server sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.catalogue.statement import check_statement, parameter_names, statement_text

FILE = Path("q.sql")
SELECT = "expected SELECT or WITH"
FAULTS = {
    "nothing": ("", ["q.sql: is empty, expected one SELECT"]),
    "comments only": ("-- a\n/* b */\n", ["q.sql: is empty, expected one SELECT"]),
    "a write": ("DELETE FROM chats", [f"q.sql:1: begins with DELETE, {SELECT}"]),
    "a write after comments": (
        "-- why\n\n/* what\n*/ update chats",
        [f"q.sql:4: begins with update, {SELECT}"],
    ),
    "a list of values": ("VALUES (1)", [f"q.sql:1: begins with VALUES, {SELECT}"]),
    "a second statement": (
        "SELECT 1;\nDROP TABLE chats",
        ["q.sql:1: holds a second statement (;), expected one SELECT"],
    ),
    "a second statement after a quoted semicolon": (
        "SELECT ';',\n';'; COMMIT",
        ["q.sql:2: holds a second statement (;), expected one SELECT"],
    ),
    "an unknown parameter": (
        "SELECT %(good)s,\n%(bad)s",
        ["q.sql:2: parameter bad is unknown, expected one of also_good, good"],
    ),
    "every unknown parameter": (
        "SELECT %(a)s,\n%(b)s",
        [
            "q.sql:1: parameter a is unknown, expected one of also_good, good",
            "q.sql:2: parameter b is unknown, expected one of also_good, good",
        ],
    ),
    "a lone % beside a parameter": (
        "SELECT %(good)s\n, 5 % 2, 5 %% 2, '10%'",
        [
            "q.sql:2: holds a single %, expected %% beside parameters",
            "q.sql:2: holds a single %, expected %% beside parameters",
        ],
    ),
    "a positional parameter beside a named one": (
        "SELECT %(good)s, %s",
        ["q.sql:1: holds a single %, expected %% beside parameters"],
    ),
}


@pytest.mark.parametrize(("sql", "messages"), FAULTS.values(), ids=FAULTS)
def test_a_fault_names_file_line_and_remedy(sql: str, messages: list[str]) -> None:
    faults = check_statement(FILE, sql, {"good", "also_good"})

    assert [str(fault) for fault in faults] == messages


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "select 1",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "-- 100 % of it; and %(anything)s\nSELECT %(good)s",
        "/* ; % */ SELECT 1",
        "SELECT 5 % 2",
        "SELECT 'a;b', \"c;d\", $$e;f$$, $x$g;$$h$x$",
        "SELECT 'it''s; fine'",
        r"SELECT E'it\'s; fine'",
        "SELECT 1; -- done\n;",
    ],
)
def test_a_good_statement_has_no_fault(sql: str) -> None:
    assert list(check_statement(FILE, sql, {"good"})) == []


def test_parameters_in_comments_do_not_count() -> None:
    sql = "-- %(a)s\nSELECT %(b)s, '%(c)s' /* %(d)s */ + %(b)s"

    assert parameter_names(sql) == {"b", "c"}


def test_the_statement_is_sent_without_comments_under_the_querys_name() -> None:
    sql = "-- 100 %\n\nSELECT 1, -- one\n  '--2' /* two\n */ FROM a"

    assert statement_text("mine", sql) == (
        "/* chatqueue-exporter: mine */ SELECT 1,\n  '--2'\n    FROM a"
    )
