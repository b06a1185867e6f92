"""Samples with their times as OpenMetrics, as promtool reads them into a Prometheus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path


def format_sample(series: str, value: float, at_s: float) -> str:
    """One line."""
    return f"{series} {'+Inf' if value == math.inf else repr(value)} {at_s:.0f}\n"


def write_families(file: Path, families: Mapping[str, Iterable[str]]) -> None:
    """Write each metric's lines below its type."""
    with file.open("w") as stream:
        for name, lines in families.items():
            kind = "counter" if name.endswith("_total") else "gauge"
            stream.write(f"# TYPE {name.removesuffix('_total')} {kind}\n")
            stream.writelines(lines)
        stream.write("# EOF\n")
