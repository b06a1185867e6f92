"""What the three dashboards have in common: variables, annotations, links, and rows of panels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from tools.dashboards.expressions import ALERT_FILTERS, select
from tools.dashboards.panels import BLUE, DATASOURCE, GREEN, PURPLE, RED, YELLOW

TAG = "chat-queue"
# Where the links to runbooks lead unless `chatqueue dashboards --runbook-url` says otherwise.
RUNBOOKS = "docs/runbooks.md"
_COLUMNS = 24
SCHEMA_VERSION = 39  # of Grafana 10.4; every later one brings it up to its own


def _firing(severity: str) -> str:
    return select(
        "ALERTS",
        'alertname=~"ChatQueue.+"',
        'alertstate="firing"',
        f'severity="{severity}"',
        filters=ALERT_FILTERS,
    )


_BUILD = select("chatqueue_exporter_build_info")
# Name to color, expression, and the keys that the SDK's model has no word for.
_ANNOTATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Watch begins": (
        GREEN,
        f"{select('chatqueue_watch_started_timestamp_seconds')} * 1000",
        {"titleFormat": "The watch begins", "useValueForTime": True},
    ),
    "Exporter changed": (
        BLUE,
        f"count by (version) ({_BUILD}) unless count by (version) ({_BUILD} offset 5m)",
        {"titleFormat": "Exporter {{version}}"},
    ),
    "Auto-release": (
        PURPLE,
        f"({select('chatqueue_release_last_timestamp_seconds')} > 0) * 1000",
        {"titleFormat": "A chat was released in {{database}}", "useValueForTime": True},
    ),
    "Critical alerts": (
        RED,
        _firing("critical"),
        {"titleFormat": "{{alertname}}", "textFormat": "{{database}}"},
    ),
    # Off at first: those who look for a cause switch them on.
    "Warnings": (
        YELLOW,
        _firing("warning"),
        {"titleFormat": "{{alertname}}", "textFormat": "{{database}}", "enable": False},
    ),
}


def make_board(
    uid: str, title: str, text: str, since: str, rows: Sequence[tuple[str, Sequence[Any]]]
) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it.

    Args:
        uid: For its address and for links to it; never changed.
        title: As people see it.
        text: What it answers, in a sentence.
        since: Beginning of the time range, such as `now-24h`.
        rows: Title, or "" for panels without one, and panels from left to right, line by line.
    """
    board = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(text)
        .tags([TAG])
        .readonly()
        .time(since, "now")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .links([_link_to_others()])
        .variables(_variables())
        .annotations([_annotation(name) for name in _ANNOTATIONS])
    )
    built = board.build()
    built.panels = _lay_out(rows)
    return _complete(built)


def _lay_out(rows: Sequence[tuple[str, Sequence[Any]]]) -> list[model.Panel | model.RowPanel]:
    """Number the panels and place each as high, then as far left, as there is room."""
    placed: list[model.Panel | model.RowPanel] = []
    used = [0] * _COLUMNS
    for title, panels in rows:
        below = max(used)
        if title:
            row = dashboard.Row(title).id(len(placed) + 1)
            placed.append(row.grid_pos(model.GridPos(h=1, w=_COLUMNS, x=0, y=below)).build())
        used = [below + bool(title)] * _COLUMNS
        for builder in panels:
            panel = builder.id(len(placed) + 1).build()
            at = panel.grid_pos
            at.y, at.x = min((max(used[x : x + at.w]), x) for x in range(_COLUMNS - at.w + 1))
            used[at.x : at.x + at.w] = [at.y + at.h] * at.w
            placed.append(panel)
    return placed


def _complete(built: model.Dashboard) -> dict[str, Any]:
    """The JSON, with what the SDK's model has no word for."""
    built.schema_version = SCHEMA_VERSION
    document: dict[str, Any] = json.loads(json.dumps(built, cls=JSONEncoder))
    document["id"] = None
    for panel in document["panels"]:
        # Grafana 12 no longer knows it, and it was off.
        panel.get("options", {}).pop("footer", None)
    for annotation in document["annotations"]["list"]:
        annotation.update(_ANNOTATIONS[annotation["name"]][2])
    for variable in document["templating"]["list"]:
        if variable["name"] == "runbooks":
            variable["hide"] = int(model.VariableHide.HIDE_VARIABLE)
    return document


def _variables() -> list[Any]:
    """The data source, then which exporters and databases."""
    source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
    runbooks = (
        dashboard.ConstantVariable("runbooks")
        .label("Runbooks")
        .description("Address of the page that the panels' links lead to.")
        .value(RUNBOOKS)
    )
    build, up = "chatqueue_exporter_build_info", "chatqueue_database_up"
    chosen = 'job=~"$job",instance=~"$instance"'
    return [
        source,
        _choice("job", "Job", f"label_values({build}, job)"),
        _choice("instance", "Instance", f'label_values({build}{{job=~"$job"}}, instance)'),
        _choice("database", "Database", f"label_values({up}{{{chosen}}}, database)"),
        runbooks,
    ]


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A variable of several values, all of them at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": f"variable-{name}"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _annotation(name: str) -> dashboard.AnnotationQuery:
    color, expr, _ = _ANNOTATIONS[name]
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .expr(expr)
    )


def _link_to_others() -> dashboard.DashboardLink:
    """A menu entry for each dashboard of the tag, with time and variables kept."""
    return (
        dashboard.DashboardLink("Chat queue")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(False)
        .include_vars(True)
        .keep_time(True)
    )
