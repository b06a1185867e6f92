"""A panel's series with the names, colors and words that Grafana gives them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

COLORS = {
    "green": "#73bf69",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "purple": "#b877d9",
}
PALETTE = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0")
_TIMES = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
_SIZES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (1024.0, "KiB"))


def name_series(legend: str, labels: Mapping[str, str]) -> str:
    """Return the name that a legend's format gives to a series."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match[1], ""), legend)


def find_properties(panel: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what the panel's overrides say of a series, later ones winning."""
    found: dict[str, Any] = {}
    for override in panel["fieldConfig"].get("overrides", ()):
        matcher = override["matcher"]
        wanted = str(matcher["options"])
        if matcher["id"] == "byRegexp":
            matches = re.search(wanted.strip("/"), name) is not None
        else:
            matches = wanted == name
        if matches:
            found |= {prop["id"]: prop["value"] for prop in override["properties"]}
    return found


def color_of(name: str) -> str:
    """Return one of Grafana's colors as matplotlib knows it."""
    return COLORS.get(name, name)


def judge(defaults: Mapping[str, Any], value: float | None) -> tuple[str | None, str]:
    """Return the words a value is mapped to, if it is, and its color."""
    steps = defaults.get("thresholds", {}).get("steps", [{"value": None, "color": "green"}])
    color = str(steps[0]["color"])
    for mapping in defaults.get("mappings", ()):
        if mapping["type"] == "special" and (value is None or math.isnan(value)):
            result = mapping["options"]["result"]
            return str(result["text"]), color_of(result["color"])
        if mapping["type"] == "range" and value is not None and value >= mapping["options"]["from"]:
            result = mapping["options"]["result"]
            return str(result["text"]), color_of(result["color"])
        if mapping["type"] == "value" and value is not None:
            known = mapping["options"].get(f"{value:g}")
            if known:
                return str(known["text"]), color_of(known["color"])
    for step in steps:
        if value is not None and (step["value"] is None or value >= step["value"]):
            color = str(step["color"])
    return None, color_of(color)


def write(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value in its unit, as a person reads it."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞"
    if unit == "bool_yes_no":
        return "yes" if value else "no"
    if unit == "percentunit":
        return f"{_number(100 * value, decimals)} %"
    if unit == "cpm":
        return f"{_number(value, decimals)} /min"
    if unit == "dateTimeFromNow":
        return "at the start"
    scales = _TIMES if unit == "s" else _SIZES if unit == "bytes" else ()
    for size, name in scales:
        if abs(value) >= size:
            return f"{_number(value / size, decimals)} {name}"
    return f"{_number(value, decimals)}{' s' if unit == 's' else ''}"


def _number(value: float, decimals: int | None) -> str:
    if decimals is None:
        decimals = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{decimals}f}"
