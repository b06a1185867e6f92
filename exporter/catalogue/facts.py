"""`facts/<name>.sql` with the mapping beside it: what several queries know of the same rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from exporter.catalogue.entries import Facts, Need, Query
from exporter.catalogue.files import list_pairs, read_mapping, read_sql
from exporter.catalogue.mapping import FactsMapping, NeedMapping
from exporter.catalogue.statement import (
    check_statement,
    escaped_statement,
    mark_statement,
    parameter_names,
)
from exporter.errors import ConfigError, Fault

FOLDER = "facts"


def load_facts(
    dirs: Sequence[Path], parameters: Collection[str], faults: list[Fault]
) -> dict[str, Facts | None]:
    """Read the facts of every folder of queries; a later one replaces one of the same name.

    Args:
        dirs: Folders of queries, the built-in one first; each may have a folder `facts`.
        parameters: Names that `%(name)s` may use.
        faults: Gets what is wrong.

    Returns:
        By name; None for facts with faults.
    """
    facts: dict[str, Facts | None] = {}
    expected = "lower-case letters, digits and _"
    for folder in (folder / FOLDER for folder in dirs):
        for name in list_pairs(folder, "[a-z_][a-z0-9_]*", "a name of facts", expected, faults):
            facts[name] = _load(folder / f"{name}.sql", parameters, faults)
    return facts


def read_from(query: Query, facts: Facts, sql: str) -> Query:
    """Return a query, whose own SQL is given, with the facts that it reads from."""
    own_sql = escaped_statement(sql)
    parameters = tuple(sorted({*query.parameters, *facts.parameters}))
    # It may begin with a WITH of its own, and a statement has one.
    whole = f"{facts.clause}\nSELECT s.* FROM (\n{own_sql}\n) AS s"
    return replace(
        query,
        sql=mark_statement(query.name, whole if parameters else whole.replace("%%", "%")),
        needs=tuple(dict.fromkeys((*query.needs, *facts.needs))),
        parameters=parameters,
        facts=facts,
        own_sql=own_sql,
    )


def build_needs(needs: Sequence[NeedMapping]) -> Iterable[Need]:
    """Yield every need, those behind a view or function after it."""
    for need in needs:
        if need.relation is not None:
            yield Need("relation", need.relation)
        else:
            yield Need("function", need.function or "")
        for relation in need.reads:
            yield Need("relation", relation, need.relation or need.function)


def _load(path: Path, parameters: Collection[str], faults: list[Fault]) -> Facts | None:
    """One pair of files; None where there are faults."""
    before = len(faults)
    mapping: FactsMapping | None = None
    try:
        mapping, found = read_mapping(path.with_suffix(".yaml"), FactsMapping, "the key needs")
        faults.extend(found.sorted())
    except ConfigError as error:
        faults.extend(error.faults)
    sql = read_sql(path, faults)
    if sql is not None:
        faults.extend(check_statement(path, sql, parameters))
    if mapping is None or sql is None or len(faults) > before:
        return None
    return Facts(
        name=path.stem,
        path=path,
        sql=escaped_statement(sql),
        needs=tuple(build_needs(mapping.needs)),
        parameters=tuple(sorted(parameter_names(sql))),
    )
