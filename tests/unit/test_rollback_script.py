"""A plan as a script and back, without a server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from exporter.ops.rollback.definitions import Definition, Difference, Place, compare
from exporter.ops.rollback.plan import Item, Plan, PlanRefused
from exporter.ops.rollback.script import build_script, quote_literal, read_script

ASSIGN = Definition(
    "function",
    "assign",
    "public.assign(uuid)",
    "CREATE OR REPLACE FUNCTION public.assign(uuid)\n",
    detail="uuid -> uuid",
    owner="postgres",
    grants=("EXECUTE TO anon WITH GRANT OPTION",),
    comment="it's old",
)
TRIGGER = Definition(
    "trigger",
    "t",
    "t ON public.chats",
    "CREATE TRIGGER t BEFORE UPDATE ON public.chats EXECUTE FUNCTION public.check() enabled D",
    detail="check",
)


def build_plan(*, drop_columns: bool = False) -> Plan:
    """A plan of a function, a column, a view and a trigger."""
    return Plan(
        place=Place("shop's", "712", 150000, datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        items=(
            Item("column", "chats.chat_state", "missing"),
            Item("function", "assign", "(uuid) returns uuid"),
            Item("view", "summary", "missing"),
        ),
        definitions=(ASSIGN, TRIGGER),
        drop_columns=drop_columns,
        lock_timeout_s=3,
        statement_timeout_s=60,
    )


@pytest.mark.parametrize("drop_columns", [False, True])
def test_a_script_holds_its_plan(drop_columns: bool) -> None:
    plan = build_plan(drop_columns=drop_columns)

    again, body = read_script(build_script(plan, "SELECT"))

    assert again == plan
    assert body.startswith("SET LOCAL lock_timeout = '3000ms';\n")
    assert ("DROP COLUMN chat_state" in body) == drop_columns


def test_what_becomes_of_each_object_is_said() -> None:
    assert build_plan().actions() == (
        ("column", "chats.chat_state", "kept"),
        ("function", "assign", "restored"),
        ("view", "summary", "dropped"),
        ("trigger", "t ON public.chats", "restored"),
    )
    assert build_plan(drop_columns=True).actions()[0][2] == "dropped, its contents saved"


def test_a_function_comes_back_with_owner_grants_and_comment() -> None:
    script = build_script(build_plan(), "SELECT")

    assert "ALTER FUNCTION public.assign(uuid) OWNER TO postgres;" in script
    assert "GRANT EXECUTE ON FUNCTION public.assign(uuid) TO anon WITH GRANT OPTION;" in script
    assert "COMMENT ON FUNCTION public.assign(uuid) IS 'it''s old';" in script
    assert "ALTER TABLE public.chats DISABLE TRIGGER t;" in script


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3000ms", "0", "it was edited since it was written; psql runs it as it is"),
        ("\nBEGIN;\n", "\n", "it is no script of chatqueue rollback --plan"),
        ("\n--# ", "\n", "its end is missing"),
    ],
)
def test_a_script_that_was_changed_is_refused(old: str, new: str, message: str) -> None:
    script = build_script(build_plan(), "SELECT")
    assert old in script

    with pytest.raises(PlanRefused, match=message):
        read_script(script.replace(old, new))


def test_a_script_that_was_cut_off_is_refused() -> None:
    script = build_script(build_plan(), "SELECT")

    with pytest.raises(PlanRefused, match="its end is missing"):
        read_script(script[: len(script) // 2])


def test_a_plan_that_cannot_be_read_is_refused() -> None:
    script = build_script(build_plan(), "SELECT")

    with pytest.raises(PlanRefused, match="its plan cannot be read"):
        read_script(script.replace('"place"', '"spot"'))


@pytest.mark.parametrize(
    ("text", "quoted"), [("it's", "'it''s'"), ("a\\b'c", " E'a\\\\b''c'"), ("", "''")]
)
def test_strings_are_quoted_for_any_setting(text: str, quoted: str) -> None:
    assert quote_literal(text) == quoted


def test_differences_are_what_was_added_removed_and_changed() -> None:
    view = Definition("view", "summary", "public.summary", "SELECT 1")
    other = Definition("view", "summary", "public.summary", "SELECT 2")

    assert compare([ASSIGN, TRIGGER, view], [other, TRIGGER]) == (
        Difference("function", "public.assign(uuid)", "removed"),
        Difference("view", "public.summary", "changed"),
    )
    assert str(compare([], [TRIGGER])[0]) == "trigger t ON public.chats added"
