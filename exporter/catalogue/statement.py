"""What can be said of a query's SQL without a server: one SELECT, with known parameters."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable
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


def split_statements(sql: str) -> tuple[tuple[int, str], ...]:
    """Return the statements of a script, each with the line of its first word.

    A script with `BEGIN ATOMIC`, in whose body a semicolon ends nothing, is one statement.
    """
    bare = _OPAQUE.sub(lambda match: " " * len(match[0]), sql)
    ends = [match.end() for match in re.finditer(";", bare)]
    if re.search(r"BEGIN\s+ATOMIC", bare, re.IGNORECASE):
        ends = []
    found = []
    for start, end in itertools.pairwise((0, *ends, len(sql))):
        if word := re.search(r"[^\s;]", bare[start:end]):
            at = start + word.start()
            found.append((sql.count("\n", 0, at) + 1, sql[at:end].strip()))
    return tuple(found)


def statement_text(name: str, sql: str) -> str:
    """Return the statement as it is sent: bare and marked."""
    return mark_statement(name, bare_statement(sql))


def bare_statement(sql: str) -> str:
    """Return the statement without comments and empty lines: psycopg would read a % in them."""
    lines = (line.rstrip() for line in _without_comments(sql).splitlines())
    return "\n".join(line for line in lines if line)


def escaped_statement(sql: str) -> str:
    """Return the bare statement as it is written beside one that has parameters."""
    bare = bare_statement(sql)
    return bare if parameter_names(bare) else bare.replace("%", "%%")


def mark_statement(names: str, sql: str) -> str:
    """Return the statement with the query's name in front, for readers of pg_stat_activity."""
    return f"/* chatqueue-exporter: {names} */ {sql}"


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
