"""What a message advises is enough to read on, and shows no address and no message's text."""

from __future__ import annotations

import contextlib
import re

import pytest

from exporter.database import Connection, QueryRequest
from exporter.database.rights import missing_grant
from exporter.errors import QueryFailed, Reason
from tests import builders
from tests.postgres.test_queries_support import whole_plan_of
from tests.servers import Platform

pytestmark = pytest.mark.newest

RELATIONS = (
    "public.chats",
    "public.operators",
    "public.messages",
    "public.real_users",
    "public.chat_assignments",
    "public.operator_activity",
    "public.platform_config",
    "public.chat_state_summary",
)
FUNCTIONS = ("public.get_assignment_queue_status()", "public.detect_stuck_chats(integer)")
ENOUGH = "chatqueue grants prints what is enough, column by column"
PRIVATE = {
    "public.chats": "real_profile_notes",
    "public.operators": "email",
    "public.messages": "content",
    "public.real_users": "email",
}


def advice_of(dsn: str) -> set[str]:
    """Every GRANT that the failures of a poll ask for; none fails for another reason."""
    plan = whole_plan_of()
    with contextlib.closing(Connection(dsn)) as connection:
        asked = [
            QueryRequest(q) for q in plan.queries if plan.parameters.keys() >= set(q.parameters)
        ]
        result = connection.poll(asked, plan.needs, plan.parameters)
    errors = [outcome.error for outcome in result.outcomes if outcome.error is not None]
    assert {e.reason for e in errors if isinstance(e, QueryFailed)} <= {Reason.PERMISSION}
    return {re.sub(r".*expected (GRANT )", r"\1", str(error)) for error in errors}


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_advised_grant_is_enough_and_no_more(platform: Platform, relation: str) -> None:
    role = builders.make_role(platform, "reader", policies=True)
    platform.execute(f"REVOKE SELECT ON {relation} FROM {role}")

    advice = advice_of(platform.dsn_as(role))
    for grant in advice:
        platform.execute(grant)

    assert len(advice) == 1
    assert advice_of(platform.dsn_as(role)) == set()
    if column := PRIVATE.get(relation):
        sees = "SELECT has_column_privilege(%s, %s, %s, 'SELECT')"
        assert not platform.value(sees, (role, relation, column))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_is_granted_to_the_role(platform: Platform, function: str) -> None:
    role = builders.make_role(platform, "reader", policies=True)
    platform.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")

    advice = advice_of(platform.dsn_as(role))
    for grant in advice:
        platform.execute(grant)

    assert advice == {f"GRANT EXECUTE ON FUNCTION {function} TO {role}"}
    assert advice_of(platform.dsn_as(role)) == set()


@pytest.mark.parametrize(("relation", "column"), sorted(PRIVATE.items()))
def test_one_column_that_is_missing_is_no_reason_to_grant_the_table(
    platform: Platform, relation: str, column: str
) -> None:
    role = builders.make_role(platform, "reader", policies=True)
    platform.execute(f"REVOKE SELECT ON {relation} FROM {role}")
    platform.execute(f"GRANT SELECT ({column}) ON {relation} TO {role}")

    table = relation.removeprefix("public.")
    assert advice_of(platform.dsn_as(role)) == {f"permission denied for table {table}; {ENOUGH}"}


def test_of_a_relation_that_the_script_does_not_name_the_owner_chooses_the_columns() -> None:
    assert missing_grant("relation", "app.chats", "On-call") == (
        'GRANT SELECT (the columns that the query reads) ON app.chats TO "On-call"'
    )
