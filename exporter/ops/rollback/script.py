"""A plan as one guarded SQL script, and back. Pure.

The script carries its plan in comments, and a checksum of its statements: one that was edited is
noticed. What it does stands in docs/rehearsal.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from importlib.resources import files

from exporter import __version__
from exporter.ops.rollback.definitions import Definition
from exporter.ops.rollback.plan import MISSING, Plan, PlanRefused, from_json, to_json
from exporter.text import format_time

BEGIN, COMMIT = "BEGIN;", "COMMIT;"
_FOOTER = "-- The plan, for chatqueue rollback --check."
_PLAN = "--| "
_SUM = "--# "
_WIDTH = 90
_ACLS = {
    "FUNCTION": "SELECT coalesce(proacl, acldefault('f', proowner)) FROM pg_proc",
    "VIEW": "SELECT coalesce(relacl, acldefault('r', relowner)) FROM pg_class",
}
_PARTS = files(__package__).joinpath("script")


def build_script(plan: Plan, contract: str) -> str:
    """Return the whole script.

    Args:
        plan: What to restore.
        contract: The query of the fix's objects.
    """
    body = "\n".join((BEGIN, *_build_parts(plan, contract), COMMIT, ""))
    text = to_json(plan)
    lines = (text[start : start + _WIDTH] for start in range(0, len(text), _WIDTH))
    footer = [_FOOTER, *(f"{_PLAN}{line}" for line in lines), f"{_SUM}{_checksum(body)}", ""]
    return "\n".join((*_header(plan), body)) + "\n".join(footer)


def read_script(text: str) -> tuple[Plan, str]:
    """Return the plan of a script, and the statements between its BEGIN and COMMIT.

    Raises:
        PlanRefused: It is none, was cut off, or was edited.
    """
    begin, end = f"\n{BEGIN}\n", f"\n{COMMIT}\n{_FOOTER}\n"
    if begin not in text:
        raise PlanRefused("it is no script of chatqueue rollback --plan")
    body, _, footer = text.partition(begin)[2].partition(end)
    lines = footer.splitlines()
    if not lines or not lines[-1].startswith(_SUM):
        raise PlanRefused("its end is missing")
    whole = f"{BEGIN}\n{body}\n{COMMIT}\n"
    if lines[-1] != f"{_SUM}{_checksum(whole)}":
        raise PlanRefused("it was edited since it was written; psql runs it as it is")
    return from_json("".join(line.removeprefix(_PLAN) for line in lines[:-1])), f"{body}\n"


def quote_literal(text: str) -> str:
    """Return a string as SQL writes it, whatever standard_conforming_strings is."""
    quoted = text.replace("'", "''")
    return " E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else f"'{quoted}'"


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _header(plan: Plan) -> Iterator[str]:
    yield f"-- The way back from the assignment fix in database {plan.place.database!r}."
    made = format_time(plan.place.now)
    yield f"-- Written by chatqueue {__version__} on {made}, before the deployment."
    yield "-- One transaction: all of it is done or nothing. Run it by"
    yield "--   chatqueue rollback --apply FILE"
    yield "-- or, as the owner of the tables, by"
    yield "--   psql -X -v ON_ERROR_STOP=1 -f FILE"
    yield "--"
    for kind, name, action in plan.actions():
        yield f"--   {kind:10}  {name:31}  {action}"


def _build_parts(plan: Plan, contract: str) -> Iterator[str]:
    """The statements, part by part."""
    yield f"SET LOCAL lock_timeout = {_ms(plan.lock_timeout_s)};"
    yield f"SET LOCAL statement_timeout = {_ms(plan.statement_timeout_s)};"
    yield "SET LOCAL search_path = pg_catalog;"
    yield "SET LOCAL check_function_bodies = off;"
    yield "LOCK TABLE public.chats IN ACCESS EXCLUSIVE MODE;"
    yield "\n-- Every object of the fix, as chatqueue verify sees it, and what was there before."
    yield f"CREATE TEMPORARY VIEW chatqueue_contract AS\n{contract};"
    yield _build_before(plan)
    yield _fill(plan, "guard")
    yield "\n-- Take the fix away."
    yield _fill(plan, "drop")
    if plan.drop_columns:
        yield from _drop_columns(plan)
    else:
        yield _fill(plan, "keep_columns")
    yield "\n-- Bring back what was there."
    yield from _restore(plan)
    yield _fill(plan, "check")
    yield "DROP VIEW pg_temp.chatqueue_contract;"


def _build_before(plan: Plan) -> str:
    rows = ",\n".join(
        f"    ({', '.join(map(quote_literal, (item.kind, item.name, item.found)))})"
        for item in plan.items
    )
    return (
        "CREATE TEMPORARY TABLE chatqueue_before (kind, name, found) ON COMMIT DROP AS\n"
        f"SELECT * FROM (VALUES\n{rows}\n) AS before;"
    )


def _drop_columns(plan: Plan) -> Iterator[str]:
    columns = [name.partition(".")[2] for name in plan.new_names("column")]
    if not columns:
        return
    yield "\n-- The columns of the fix; their contents stay in a table that no API shows."
    yield "CREATE SCHEMA IF NOT EXISTS chatqueue_rollback;"
    yield f"CREATE TABLE {plan.saved_as} AS\nSELECT id, {', '.join(columns)} FROM public.chats;"
    drops = ",\n".join(f"    DROP COLUMN {column}" for column in columns)
    yield f"ALTER TABLE public.chats\n{drops};"


def _restore(plan: Plan) -> Iterator[str]:
    for column in plan.of_kind("column"):
        name = column.object.partition(".")[2]
        change = f"SET DEFAULT {column.detail}" if column.detail else "DROP DEFAULT"
        yield f"ALTER TABLE public.chats ALTER COLUMN {name} {change};"
    for kind, statement in (
        ("constraint", "ALTER TABLE public.chats ADD CONSTRAINT {object} {text}"),
        ("index", "{text}"),
    ):
        for definition in plan.of_kind(kind):
            yield _if_missing(definition, statement)
    for definition in plan.of_kind("function"):
        yield from _restore_owned(definition, "FUNCTION", definition.text.rstrip())
    for definition in plan.of_kind("view"):
        yield from _restore_owned(definition, "VIEW", definition.text.rstrip().rstrip(";"))
    for definition in plan.of_kind("trigger"):
        text, _, enabled = definition.text.partition(" enabled ")
        yield f"{text};"
        if enabled:
            change = {"D": "DISABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}[enabled]
            trigger, _, table = definition.name.partition(" ON ")
            yield f"ALTER TABLE {table} {change} TRIGGER {trigger};"


def _if_missing(definition: Definition, statement: str) -> str:
    """An index or a constraint that the drop left alone, because it is as it was, stays."""
    name = definition.name.partition(" ON ")[0]
    text = statement.format(object=name, text=definition.text)
    return (
        "DO $chatqueue$\nBEGIN\n"
        f"    IF NOT {_exists(definition)} THEN\n"
        f"        EXECUTE {quote_literal(text)};\n"
        "    END IF;\nEND;\n$chatqueue$;"
    )


def _exists(definition: Definition) -> str:
    name = quote_literal(definition.object)
    if definition.kind == "index":
        return f"to_regclass({quote_literal(definition.name)}) IS NOT NULL"
    return (
        f"EXISTS (SELECT FROM pg_constraint WHERE conname = {name}"
        " AND conrelid = 'public.chats'::regclass)"
    )


def _restore_owned(definition: Definition, kind: str, text: str) -> Iterator[str]:
    """Create a function or a view with its owner, its grants and its comment."""
    name = definition.name
    target = f"{kind} {name}"
    yield f"{text};"
    yield f"ALTER {target} OWNER TO {definition.owner};"
    granted_on = name if kind == "VIEW" else target
    yield _part("revoke").format(
        oid=_oid(definition),
        acl=_ACLS[kind],
        revoke=quote_literal(f"REVOKE ALL ON {granted_on} FROM "),
    )
    for grant in definition.grants or ():
        privilege, _, grantee = grant.partition(" TO ")
        yield f"GRANT {privilege} ON {granted_on} TO {grantee};"
    comment = "NULL" if definition.comment is None else quote_literal(definition.comment)
    yield f"COMMENT ON {target} IS {comment};"


def _oid(definition: Definition) -> str:
    """An expression for the oid of a function or a view."""
    if definition.kind == "view":
        return f"{quote_literal(definition.name)}::regclass"
    return _part("function").format(
        object=quote_literal(definition.object), signature=quote_literal(definition.detail)
    )


def _md5(function: Definition) -> str:
    """As the script computes it of what it finds."""
    text = f"{function.object} {function.text}"
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _fill(plan: Plan, name: str) -> str:
    """A part of the script that looks at what is there, with the plan's names in it."""
    functions = plan.of_kind("function")
    values = {
        "database": quote_literal(plan.place.database),
        "system": "NULL" if plan.place.system is None else quote_literal(plan.place.system),
        "is_kept": "false" if plan.drop_columns else "true",
        "functions": _array(plan.names("function")),
        "signatures": _array(f"{f.object} {f.detail}" for f in functions),
        "bodies": _array(map(_md5, functions)),
        "views": _array(plan.names("view")),
        "new_columns": _array(n.partition(".")[2] for n in plan.new_names("column")),
        "missing": quote_literal(MISSING),
        "made_at": quote_literal(plan.place.now.isoformat()),
        "saved_as": quote_literal(plan.saved_as) if plan.drop_columns else "NULL",
    }
    return _part(name).format(**values)


def _part(name: str) -> str:
    return _PARTS.joinpath(f"{name}.sql").read_text("utf-8").rstrip()


def _array(texts: Iterable[str]) -> str:
    return f"ARRAY[{', '.join(quote_literal(text) for text in texts)}]::text[]"


def _ms(seconds: float) -> str:
    return f"'{max(1, round(seconds * 1000))}ms'"
