"""Connection strings for programs whose arguments every user of a machine sees."""

from __future__ import annotations

import pytest

from exporter.database.programs import change_database, split_password


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:se%20cret@db.example.com/chat",
        "host=db.example.com user=me dbname=chat password='se cret'",
    ],
)
def test_a_password_goes_to_the_environment(dsn: str) -> None:
    shown, secret = split_password(dsn)

    assert secret == {"PGPASSWORD": "se cret"}
    assert sorted(shown.split()) == ["dbname=chat", "host=db.example.com", "user=me"]


def test_without_a_password_there_is_nothing_to_hide() -> None:
    assert split_password("host=db.example.com")[1] == {}


def test_another_database_of_the_same_server() -> None:
    assert sorted(change_database("postgresql://me@db.example.com/chat", "copy").split()) == [
        "dbname=copy",
        "host=db.example.com",
        "user=me",
    ]
