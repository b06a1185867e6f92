"""What can be said of a query's SQL without a server: one SELECT, with known parameters."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from exporter.errors import Fault

_PARAMETER = re.compile(r"%\((?P<name>\w+)\)s")
# Comments, quoted text, quoted names and dollar quotes: places where a semicolon means nothing.
_OPAQUE = re.compile(
    r"""
    --[^\n]*
    | /\*.*?\*/
    | \b[eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?P<tag>\$\w*\$).*?(?P=tag)
    """,
    re.DOTALL | re.VERBOSE,
)
_ALIAS = "asked"
_LONE_PERCENT = re.compile(r"%(?!%|\(\w+\)s)")


def parameter_names(sql: str) -> frozenset[str]:
    """Return the names of the `%(name)s` in a statement, those in comments left out."""
    return frozenset(_PARAMETER.findall(_without_comments(sql)))


def check_statement(path: Path, sql: str, parameters: Collection[str]) -> Iterable[Fault]:
    """Yield what is wrong with a query's SQL.

    Args:
        path: The file, for messages.
        sql: Its content without a closing semicolon.
        parameters: Names there are values for.
    """
    bare = _OPAQUE.sub(lambda match: " " * len(match[0]), sql)
    first = re.search(r"\w+", bare)
    if first is None:
        yield Fault(str(path), "", "is empty", "one SELECT")
        return
    if first[0].upper() not in ("SELECT", "WITH"):
        where = _at(path, sql, first.start())
        yield Fault(where, "", f"begins with {first[0]}", "SELECT or WITH")
    semicolon = bare.find(";")
    if semicolon >= 0 and bare[semicolon:].strip("; \t\r\n"):
        yield Fault(_at(path, sql, semicolon), "", "holds a second statement (;)", "one SELECT")
    code = _without_comments(sql)
    known = ", ".join(sorted(parameters))
    used = list(_PARAMETER.finditer(code))
    for match in used:
        if match["name"] not in parameters:
            found = f"parameter {match['name']} is unknown"
            yield Fault(_at(path, sql, match.start()), "", found, f"one of {known}")
    if used:
        # psycopg reads % as the start of a parameter as soon as there are any.
        for match in _LONE_PERCENT.finditer(code.replace("%%", "  ")):
            where = _at(path, sql, match.start())
            yield Fault(where, "", "holds a single %", "%% beside parameters")


def statement_text(name: str, sql: str) -> str:
    """Return the statement as it is sent: without comments, for psycopg would read a % in them,
    and with the query's name in front, for readers of pg_stat_activity.
    """
    lines = (line.rstrip() for line in _without_comments(sql).splitlines())
    return f"/* chatqueue-exporter: {name} */ " + "\n".join(line for line in lines if line)


def with_facts(name: str, facts: str, facts_sql: str, sql: str) -> str:
    """Return the statement that reads from facts, as it is asked alone.

    Args:
        name: Of the query.
        facts: The facts' name in it.
        facts_sql: What they are.
        sql: The query, as `statement_text` returns it.
    """
    facts_sql, sql = _alike([facts_sql, sql])
    return f"{_opening(name, facts, facts_sql)}SELECT * FROM (\n{sql}\n) AS {_ALIAS}"  # noqa: S608


def joined_statement(facts: str, facts_sql: str, queries: Mapping[str, str]) -> str:
    """Return one statement for several queries over the same facts.

    It gives one row, with the rows of each query as a JSON array, in their order.

    Args:
        facts: The facts' name in each query.
        facts_sql: What they are.
        queries: Statements as `statement_text` returns them, by name.
    """
    facts_sql, *statements = _alike([facts_sql, *queries.values()])
    columns = ",\n".join(
        f"(SELECT coalesce(json_agg({_ALIAS}.*), '[]') FROM (\n{sql}\n) AS {_ALIAS}) AS of_{n}"  # noqa: S608
        for n, sql in enumerate(statements)
    )
    return f"{_opening(', '.join(queries), facts, facts_sql)}SELECT\n{columns}"


def _opening(names: str, facts: str, facts_sql: str) -> str:
    return f"/* chatqueue-exporter: {names} */ WITH {facts} AS MATERIALIZED (\n{facts_sql}\n)\n"


def _alike(statements: Sequence[str]) -> list[str]:
    """The statements with each % written as in a statement with parameters, if any has some."""
    if not any(map(parameter_names, statements)):
        return list(statements)
    return [sql if parameter_names(sql) else sql.replace("%", "%%") for sql in statements]


def _without_comments(sql: str) -> str:
    """The statement with comments blanked, each character in its place."""

    def blank(match: re.Match[str]) -> str:
        if match[0].startswith(("--", "/*")):
            return re.sub(r"[^\n]", " ", match[0])
        return match[0]

    return _OPAQUE.sub(blank, sql)


def _at(path: Path, sql: str, offset: int) -> str:
    """`file:line` of a place in the statement."""
    return f"{path}:{sql.count(chr(10), 0, offset) + 1}"
