"""Every list of chats fits the query whose chats it lists."""

from __future__ import annotations

import re

import pytest

from exporter.config.resources import find_resource
from exporter.ops.chats.listing import check_reasons
from exporter.ops.chats.lists import DETAILS, load_lists
from tests.postgres.test_queries_support import whole_plan_of

QUERIES = {query.name: query for query in whole_plan_of().queries}
FOLDER = find_resource("queries") / "chats"
LISTS = {each.query.path.stem: each for each in load_lists(QUERIES.values())}

# Of a chat that waits for its user, or whose state is unknown.
CLOCK = """
    c.chat_state = 'waiting_real_user_reply'
    AND c.operator_replied_at > '-infinity'
    AND c.operator_replied_at <= (SELECT now())
    THEN c.operator_replied_at
"""


def test_every_file_belongs_to_a_query() -> None:
    files = {path.stem for path in FOLDER.glob("*.sql")} - {DETAILS.removesuffix(".sql")}

    assert files == set(LISTS)


def test_every_check_of_an_invalid_chat_is_a_reason() -> None:
    checks = {
        f"invalid:{value}"
        for query in QUERIES.values()
        for metric in query.metrics
        if metric.name == "chatqueue_invalid_chats"
        for series in metric.series
        for name, value in series.labels
        if name == "check"
    }

    reasons = {reason for each in LISTS.values() for reason in each.reasons}
    assert {reason for reason in reasons if reason.startswith("invalid:")} == checks


@pytest.mark.parametrize("name", ["invalid_chats", "invalid_states", "invalid_times"])
def test_what_a_list_is_named_for_is_what_its_query_counts(name: str) -> None:
    counted = re.findall(r"k\.name = '(\w+)'", QUERIES[name].sql)

    assert [f"invalid:{check}" for check in counted] == list(LISTS[name].reasons)


@pytest.mark.parametrize("file", ["reply_clock.sql", f"chats/{DETAILS}"])
def test_a_chat_that_waits_for_its_user_has_one_clock(file: str) -> None:
    text = (find_resource("queries") / file).read_text(encoding="utf-8")

    assert " ".join(CLOCK.split()) in " ".join(text.split())


@pytest.mark.parametrize("page", ["runbooks.md", "chats.md"])
def test_a_reason_that_a_page_names_is_one(page: str) -> None:
    text = (find_resource("docs") / page).read_text(encoding="utf-8")
    named = re.findall(r"chatqueue chats [^`\n]*--reason ([\w:]+)", " ".join(text.split("\n")))

    assert named
    for reason in named:
        check_reasons(whole_plan_of(), [reason])
