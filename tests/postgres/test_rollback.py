"""The way back from the fix: planned on the platform before it, run after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql

from exporter.catalogue.statement import statement_text
from exporter.config.resources import find_resource
from exporter.database.session import Session
from exporter.demo.platform import MIGRATIONS, application
from exporter.demo.postgres import LocalServer
from exporter.ops.rollback.applying import (
    Fit,
    RollbackFailed,
    RollbackUnknown,
    apply_script,
    check_plan,
)
from exporter.ops.rollback.definitions import Definition, compare, read_definitions
from exporter.ops.rollback.plan import Plan, PlanRefused, make_plan
from exporter.ops.rollback.script import build_script, read_script
from exporter.release import admin
from tests.servers import Platform, old_platform

CONTRACT = statement_text(
    "contract_objects",
    (find_resource("queries") / "contract_objects.sql").read_text(encoding="utf-8"),
)
NEW_COLUMNS = [
    f"column public.chats.{name} added"
    for name in ("chat_state", "last_operator_id", "operator_replied_at")
]
KEPT = [
    *NEW_COLUMNS,
    "constraint chats_chat_state_check ON public.chats added",
    "constraint chats_last_operator_id_fkey ON public.chats added",
]


CUSTOM = r"""
ALTER FUNCTION public.assign_chat_to_operator(uuid) SET work_mem = '8MB';
COMMENT ON FUNCTION public.assign_chat_to_operator(uuid) IS 'it''s the \ old one';
REVOKE ALL ON FUNCTION public.assign_chat_to_operator(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.assign_chat_to_operator(uuid) TO authenticated, service_role
    WITH GRANT OPTION;
GRANT CREATE ON SCHEMA public TO ROLE;
ALTER FUNCTION public.release_and_reassign_chat OWNER TO ROLE;
-- The fix's function of this name returns other columns: no CREATE OR REPLACE can do that.
CREATE FUNCTION public.get_assignment_queue_status() RETURNS TABLE (waiting bigint)
LANGUAGE sql AS $$ SELECT count(*) FROM chats WHERE assigned_operator_id IS NULL $$;
CREATE VIEW public.chat_state_summary WITH (security_invoker = true) AS
SELECT count(*) FILTER (WHERE is_active) AS active FROM public.chats;
GRANT SELECT ON public.chat_state_summary TO authenticated;
CREATE FUNCTION public.validate_chat_state_transition() RETURNS trigger
LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER validate BEFORE UPDATE ON public.chats FOR EACH ROW
    EXECUTE FUNCTION public.validate_chat_state_transition();
ALTER TABLE public.chats DISABLE TRIGGER validate;
"""


@pytest.fixture
def before(postgres_server: LocalServer) -> Iterator[Platform]:
    """A platform of 40 chats without the fix."""
    with old_platform(postgres_server, 40) as platform:
        yield platform


def migrate(platform: Platform, *numbers: str) -> None:
    """Apply the migrations, or those of the numbers."""
    for file in sorted(MIGRATIONS.glob("*.sql")):
        if not numbers or file.name[:3] in numbers:
            platform.execute(file.read_bytes())


def plan(platform: Platform, *, drop_columns: bool = False, lock_timeout_s: float = 3.0) -> Plan:
    """A plan of the platform as it is."""
    with Session(platform.dsn) as session:
        return make_plan(
            session, CONTRACT, drop_columns=drop_columns, lock_timeout_s=lock_timeout_s
        )


def roll_back(platform: Platform, planned: Plan) -> None:
    """Apply the plan as the command does."""
    again, body = read_script(build_script(planned, CONTRACT))
    assert again == planned
    with Session(platform.dsn) as session:
        apply_script(session, body, "person test")


def definitions(platform: Platform) -> tuple[Definition, ...]:
    """All that stands in the schema public."""
    with Session(platform.dsn) as session:
        return read_definitions(session)


def check(platform: Platform, planned: Plan) -> Fit:
    """Whether the plan fits now."""
    with Session(platform.dsn) as session:
        return check_plan(session, planned, CONTRACT)


def differences(platform: Platform, was: tuple[Definition, ...]) -> list[str]:
    """What is not as it was."""
    return sorted(str(difference) for difference in compare(was, definitions(platform)))


def customise(platform: Platform) -> None:
    """What a real platform has and the reference has not: owners, grants, settings, a trigger."""
    role = f"{platform.database}_owner"
    platform.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    platform.execute(CUSTOM.replace("ROLE", role))


def test_a_rollback_brings_back_all_but_the_columns(before: Platform) -> None:
    was, planned = definitions(before), plan(before)
    assert check(before, planned).state == "before"
    migrate(before)
    assert check(before, planned).state == "after"

    roll_back(before, planned)

    assert differences(before, was) == sorted(KEPT)
    assert before.value("SELECT count(*) FROM public.chats WHERE chat_state = 'assigned'") == 20


def test_columns_are_dropped_after_their_contents_were_saved(before: Platform) -> None:
    was, planned = definitions(before), plan(before, drop_columns=True)
    migrate(before)
    states = before.fetch("SELECT id, chat_state FROM public.chats ORDER BY id")

    roll_back(before, planned)

    assert differences(before, was) == []
    saved = sql.SQL("SELECT id, chat_state FROM {} ORDER BY id").format(
        sql.Identifier(*planned.saved_as.split("."))
    )
    assert before.fetch(saved) == states


def test_owners_grants_settings_results_views_and_triggers_come_back(before: Platform) -> None:
    customise(before)
    was, planned = definitions(before), plan(before)
    before.execute("DROP VIEW public.chat_state_summary")
    before.execute("DROP FUNCTION public.get_assignment_queue_status()")
    migrate(before)
    before.execute(
        "REVOKE ALL ON FUNCTION public.assign_chat_to_operator FROM service_role CASCADE"
    )
    before.execute("GRANT EXECUTE ON FUNCTION public.assign_chat_to_operator TO anon")
    before.execute("ALTER TABLE public.chats ENABLE TRIGGER validate")

    roll_back(before, planned)

    assert differences(before, was) == sorted(KEPT)


@pytest.mark.newest
def test_the_old_application_works_again(before: Platform) -> None:
    planned = plan(before)
    migrate(before)
    roll_back(before, planned)
    operator, chat = before.fetch(
        "SELECT operator_id, chat_id FROM public.chat_assignments WHERE released_at IS NULL LIMIT 1"
    )[0]

    assert application.release(before.connection, chat, "operator_sent_message")
    assert application.assign(before.connection, operator) == chat


@pytest.mark.parametrize("drop_columns", [False, True])
def test_the_fix_can_be_deployed_again(before: Platform, drop_columns: bool) -> None:
    planned = plan(before, drop_columns=drop_columns)
    migrate(before)
    fixed = definitions(before)
    roll_back(before, planned)

    migrate(before)

    assert differences(before, fixed) == []


def test_a_deployment_that_stopped_half_way_can_be_rolled_back(before: Platform) -> None:
    was, planned = definitions(before), plan(before)
    migrate(before, "014")
    fit = check(before, planned)
    assert fit.state == "between"
    assert "view chat_state_summary" in fit.reasons[0]

    roll_back(before, planned)

    assert differences(before, was) == sorted(KEPT)


@pytest.mark.newest
@pytest.mark.parametrize("migrated", [False, True])
def test_nothing_is_rolled_back_where_the_fix_is_not(before: Platform, migrated: bool) -> None:
    planned = plan(before)
    if migrated:
        migrate(before)
        roll_back(before, planned)
    now = definitions(before)

    with pytest.raises(RollbackFailed, match="the fix is not here: there is nothing to roll back"):
        roll_back(before, planned)

    assert differences(before, now) == []


@pytest.mark.newest
def test_a_state_that_the_plan_does_not_know_is_refused(before: Platform) -> None:
    planned = plan(before)
    migrate(before)
    before.execute("DROP INDEX public.idx_chats_last_operator")
    before.execute("CREATE INDEX idx_chats_last_operator ON public.chats (last_operator_id)")
    now = definitions(before)

    (reason,) = check(before, planned).reasons
    assert reason == (
        "index idx_chats_last_operator is btree (last_operator_id), "
        "expected btree (last_operator_id, chat_state) where is_active"
    )
    with pytest.raises(
        RollbackFailed,
        match=r"neither as before the fix nor as the fix makes it: index idx_chats_last_operator "
        r"is btree \(last_operator_id\); nothing was changed",
    ):
        roll_back(before, planned)

    assert differences(before, now) == []


def test_a_function_replaced_since_makes_the_plan_stale(before: Platform) -> None:
    planned = plan(before)
    before.execute(
        "CREATE OR REPLACE FUNCTION public.assign_chat_to_operator(p_operator_id uuid)"
        " RETURNS uuid LANGUAGE sql SECURITY DEFINER AS 'SELECT NULL::uuid'"
    )

    name = "public.assign_chat_to_operator(p_operator_id uuid)"
    reason = f"function {name} changed since the plan was made"
    assert check(before, planned) == Fit("neither", (reason,))


@pytest.mark.newest
def test_another_database_is_refused(before: Platform, platform: Platform) -> None:
    planned = plan(before)

    assert check(platform, planned).state == "elsewhere"
    with pytest.raises(
        RollbackFailed,
        match=f"made for database {before.database}, this is {platform.database}; nothing",
    ):
        roll_back(platform, planned)


@pytest.mark.newest
def test_no_plan_is_made_once_the_fix_is_there(platform: Platform) -> None:
    with pytest.raises(PlanRefused, match="the fix is already here: a plan must be made before"):
        plan(platform)


@pytest.mark.newest
def test_a_lock_held_by_another_changes_nothing_and_names_it(before: Platform) -> None:
    planned = plan(before, lock_timeout_s=0.05)
    migrate(before)
    now = definitions(before)
    with before.connect(application_name="a report", autocommit=False) as other:
        other.execute("SELECT FROM public.chats LIMIT 1")

        with pytest.raises(
            RollbackFailed,
            match=r"public\.chats could not be locked in time, which is locked by process \d+ "
            r"\(a report, idle in transaction, for \d+ s\); nothing was changed",
        ):
            roll_back(before, planned)

    assert differences(before, now) == []


@pytest.mark.newest
def test_a_role_that_owns_nothing_is_told_so(before: Platform) -> None:
    planned = plan(before)
    migrate(before)
    _, body = read_script(build_script(planned, CONTRACT))
    role = f"{before.database}_other"
    before.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))

    with (
        Session(before.dsn_as(role)) as session,
        pytest.raises(RollbackFailed, match="it needs the owner of the tables"),
    ):
        apply_script(session, body, "person test")


@pytest.mark.newest
@pytest.mark.parametrize("step", ["run", "commit"])
def test_a_connection_that_breaks_leaves_the_fix_or_the_old_whole(
    before: Platform, step: str
) -> None:
    planned = plan(before)
    migrate(before)
    now = definitions(before)
    _, body = read_script(build_script(planned, CONTRACT))
    session = Session(before.dsn)

    def cut(at: str) -> None:
        if at == step:
            before.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'chatqueue%'"
            )

    with session, pytest.raises((RollbackUnknown, Exception), match=r"terminat|closed|unanswered"):
        apply_script(session, body, "person test", on_step=cut)

    assert differences(before, now) == []
    assert check(before, planned).state == "after"


@pytest.mark.newest
def test_what_was_done_is_in_the_audit(before: Platform) -> None:
    with Session(before.dsn) as session:
        admin.install(session)
    planned = plan(before, drop_columns=True)
    migrate(before)

    roll_back(before, planned)

    row = before.fetch("SELECT actor, made_at, saved_as FROM chatqueue.rollback_audit")
    assert row == [("person test", planned.place.now, planned.saved_as)]
