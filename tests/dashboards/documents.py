"""The committed dashboards, and their expressions as a PromQL parser sees them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser

from tools.dashboards.questions import (
    Question,
    find_panels,
    find_questions,
    interpolate,
    load_dashboards,
)

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "dashboards"
DASHBOARDS = load_dashboards(FOLDER)
PANELS = {
    f"{uid}/{panel['id']}": panel
    for uid, dashboard in DASHBOARDS.items()
    for panel in find_panels(dashboard)
}
QUESTIONS: dict[str, Question] = {
    question.key: question
    for dashboard in DASHBOARDS.values()
    for question in find_questions(dashboard)
}
# Odd enough to be told from a range that is written out.
RATE_INTERVAL_S, RANGE_S = 1237, 86_413


def parse(question: Question) -> Any:
    """The expression's tree, Grafana's variables replaced."""
    text = interpolate(question.expr, rate_interval=f"{RATE_INTERVAL_S}s", time_range=f"{RANGE_S}s")
    return promql_parser.parse(text)


def nodes(tree: Any, parents: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every node of a tree with those above it, the nearest first."""
    yield tree, parents
    children = [getattr(tree, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    children += list(getattr(tree, "args", None) or ())
    for child in children:
        if type(child).__module__ == type(tree).__module__:
            yield from nodes(child, (tree, *parents))


def selectors(question: Question) -> list[tuple[Any, tuple[Any, ...]]]:
    """Every selector of a question with the nodes above it."""
    found = [
        (node, parents)
        for node, parents in nodes(parse(question))
        if isinstance(node, promql_parser.VectorSelector)
    ]
    assert found or not question.expr, question
    return found
