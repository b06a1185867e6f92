"""One rule says which row an admin's reassignment left open, wherever it is asked."""

from __future__ import annotations

import pytest

from exporter.config.resources import find_resource
from exporter.release.statements import STATEMENTS

# Row q ended row a: the admin copied it, released, and left the first one open for ever. Not by
# equal times, for the copy carries the chat's assignment_time, which an earlier reassignment wrote
# in another request than the row; and not of a row that began as late as the copy ended, for that
# is the operator whom the admin named.
RULE = """
    q.chat_id = a.chat_id
    AND q.operator_id = a.operator_id
    AND q.id <> a.id
    AND starts_with(q.release_reason, 'manual_reassignment_by_admin')
    AND q.released_at > a.assigned_at
    AND q.released_at <= now()
    AND (a.released_at IS NULL OR a.released_at > q.released_at)
"""


@pytest.mark.parametrize(
    "query", ["assignments", "fairness", "invalid_chats", "invalid_states", "releases", "evidence"]
)
def test_a_superseded_row_is_known_by_the_same_rule(query: str) -> None:
    sql = STATEMENTS.get(query) or (find_resource("queries") / f"{query}.sql").read_text()

    assert " ".join(RULE.split()) in " ".join(sql.split())
