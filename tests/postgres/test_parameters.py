"""Values of parameters arrive as they were given."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.database.session import Session
from exporter.errors import QueryFailed
from tests.servers import Platform

ODD_TEXTS = [
    "",
    "NULL",
    "null",
    "a,b",
    "{}",
    '"',
    "\\",
    '\\"',
    " space ",
    "line\nbreak",
    "é✓",
    "%s",
    "'",
]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", ODD_TEXTS),
        ("text", []),
        ("text", ["one", None]),
        ("text", [None]),
        ("bigint", [1, -(2**40)]),
        ("double precision", [0.5, float("inf")]),
        ("boolean", [True, False]),
        ("text", [["a", "b"], ["c", '"']]),
    ],
    ids=str,
)
def test_a_list_arrives_as_it_is(platform: Platform, kind: str, values: list[Any]) -> None:
    with Session(platform.dsn) as session, session.reading():
        ((row),) = session.rows(f"SELECT %(values)s::{kind} [] AS back", {"values": values})

    assert row["back"] == values


def test_a_list_without_a_cast_compares_with_text(platform: Platform) -> None:
    with Session(platform.dsn) as session, session.reading():
        ((row),) = session.rows(
            "SELECT 'b'::text = ANY(%(values)s) AS back", {"values": ["a", "b"]}
        )

    assert row["back"] is True


def test_a_text_with_a_zero_byte_is_refused(platform: Platform) -> None:
    with Session(platform.dsn) as session:
        session.begin()

        with pytest.raises(QueryFailed, match="NUL"):
            session.rows("SELECT %(values)s::text [] AS back", {"values": ["a\0b"]})
