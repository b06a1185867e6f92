"""The SQL of lists of chats: the common tables of a query, an end that lists, and the details.

`queries/<name>.sql` counts chats in its last SELECT. `queries/chats/<name>.sql` is another last
SELECT for the same common tables, which names the chats that were counted. So what counts and what
is listed has one definition. Pure but for reading files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.catalogue import Query
from exporter.catalogue.facts import read_from
from exporter.catalogue.statement import (
    bare_statement,
    escaped_statement,
    parameter_names,
    statement_text,
)
from exporter.errors import ChatqueueError

FOLDER = "chats"
DETAILS = "details.sql"
TIMEOUT_S = 10.0
MOST_CHATS = 20_000
"""A list ends there, and says so: memory stays bounded in an incident of any size."""

_REASONS = re.compile(r"^-- Reasons:([^.]*)\.$", re.MULTILINE)
_WORDS = re.compile(r"[\w:]+")
_ASKED = re.compile(r"^-- Asked:\s+(always|by default|by its name only)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ChatList:
    """One query's list.

    Attributes:
        query: The query with the list's SQL; its metrics are none.
        reasons: What a chat may be listed for: `group:name`, or a word where nothing is wrong yet.
        asked: `always`, `by default`, or `by its name only` where it reads a big table whole.
    """

    query: Query
    reasons: tuple[str, ...]
    asked: str


def load_lists(queries: Iterable[Query]) -> tuple[ChatList, ...]:
    """Return the lists of those queries that have one, in a folder `chats` beside them."""
    return tuple(
        _load_list(query, file)
        for query in queries
        if (file := query.path.parent / FOLDER / query.path.name).is_file()
    )


def read_reasons(folder: Path) -> tuple[str, ...]:
    """Return the groups and names of the reasons of a folder of queries, sorted."""
    texts = (file.read_text(encoding="utf-8") for file in (folder / FOLDER).glob("*.sql"))
    found = (match[1] for text in texts if (match := _REASONS.search(text)))
    reasons = {reason for each in found for reason in _WORDS.findall(each)}
    return tuple(sorted({part for reason in reasons for part in reason.split(":")}))


def _load_list(query: Query, file: Path) -> ChatList:
    """One list from its file and the query's common tables."""
    text = file.read_text(encoding="utf-8")
    details = (file.parent / DETAILS).read_text(encoding="utf-8")
    reasons, asked = _REASONS.search(text), _ASKED.search(text)
    if reasons is None or asked is None:
        raise ChatqueueError(f"{file}: expected a header with Reasons: and Asked:")
    own_sql = query.own_sql if query.facts else escaped_statement(query.sql)
    tables = f"\n{own_sql}".rpartition("\nSELECT")[0].strip()
    tables = f"{tables}," if tables else "WITH"
    sql = f"{tables}\nlisted AS (\n{escaped_statement(text)}\n)\n{bare_statement(details)}"
    name = f"{FOLDER}/{query.name}"
    listing = replace(
        query,
        name=name,
        sql=statement_text(name, sql),
        timeout_s=TIMEOUT_S,
        metrics=(),
        parameters=tuple(sorted(parameter_names(sql))),
    )
    if query.facts is not None:
        listing = read_from(listing, query.facts, sql)
    return ChatList(listing, tuple(_WORDS.findall(reasons[1])), asked[1])


def choose_lists(
    lists: Iterable[ChatList], reasons: Collection[str], also: Collection[str] = ()
) -> tuple[ChatList, ...]:
    """Return what to ask for.

    Args:
        lists: All there are.
        reasons: What is wanted; for none, what reads no big table whole.
        also: Reasons whose lists are asked for besides.
    """
    return tuple(
        each
        for each in lists
        if each.asked == "always"
        or (not reasons and each.asked == "by default")
        or any(is_meant(reason, (*reasons, *also)) for reason in each.reasons)
    )


def is_meant(reason: str, wanted: Collection[str]) -> bool:
    """Return whether a chat's reason is one of those wanted: whole, by its group or its name."""
    return bool({reason, *reason.split(":")} & set(wanted))
