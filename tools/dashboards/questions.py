"""What Grafana asks Prometheus for a dashboard: every expression, and what its variables become."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([a-z_]\w*))")  # not $1, a group of label_replace
# What the variables are while all is chosen.
ALL = {"job": ".+", "instance": ".+", "database": ".+"}


@dataclass(frozen=True, slots=True)
class Question:
    """One expression of a dashboard.

    Attributes:
        key: `uid/panel id/refId`, `uid/variable/name` or `uid/annotation/name`.
        title: Of the panel, variable or annotation.
        expr: PromQL with Grafana's variables.
        instant: Whether the end of the time range is all that is asked.
    """

    key: str
    title: str
    expr: str
    instant: bool = False


def load_dashboards(folder: Path) -> dict[str, dict[str, Any]]:
    """Return every dashboard of a folder by its uid."""
    documents = [json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))]
    return {document["uid"]: document for document in documents}


def find_panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the panels, those inside collapsed rows too, without the rows."""
    every = [p for panel in dashboard["panels"] for p in (panel, *panel.get("panels", ()))]
    return [panel for panel in every if panel["type"] != "row"]


def find_questions(dashboard: Mapping[str, Any]) -> Iterator[Question]:
    """Return everything a dashboard asks Prometheus."""
    uid = dashboard["uid"]
    for panel in find_panels(dashboard):
        for target in panel["targets"]:
            key = f"{uid}/{panel['id']}/{target['refId']}"
            yield Question(key, panel["title"], target["expr"], target.get("instant", False))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = label_values_of(variable)
            expr = f"count by ({label}) ({metric})"
            yield Question(f"{uid}/variable/{variable['name']}", variable["name"], expr, True)
    for annotation in dashboard["annotations"]["list"]:
        key = f"{uid}/annotation/{annotation['name']}"
        yield Question(key, annotation["name"], annotation["expr"])


def label_values_of(variable: Mapping[str, Any]) -> tuple[str, str]:
    """Return the selector and the label that a query variable takes its values from."""
    match = _LABEL_VALUES.fullmatch(variable["query"]["query"])
    if match is None:
        raise ValueError(f"variable {variable['name']} is no label_values(metric, label)")
    return match[1], match[2]


def interpolate(
    text: str, *, rate_interval: str, time_range: str, chosen: Mapping[str, str] = ALL
) -> str:
    """Replace Grafana's variables as Grafana does.

    Raises:
        KeyError: A variable is none of Grafana's nor the dashboards'.
    """
    values = {"__rate_interval": rate_interval, "__range": time_range, **chosen}
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)
