"""What the demo's page exports, by name, type and labels: `exported_metrics.txt`, read and written.

A line is a metric: name, type, then each label with its values, `*` where they are not known
beforehand. Whatever alerts, panels and other people rely on is in it, so a change of a line that is
there is a breaking change, which CHANGELOG.md lists. `make exported-metrics` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

FILE = Path(__file__).with_name("exported_metrics.txt")
# Of prometheus_client, as its users know them.
FOREIGN = ("process_", "python_info")
# Names of people and files, and versions.
OPEN_LABELS = {"operator", "query", "version", "pythonversion"}

Promise = tuple[str, dict[str, set[str]]]


def read_exported() -> dict[str, Promise]:
    """Return type and labels with their values by the name of each sample."""
    promises: dict[str, Promise] = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        name, kind, *labels = line.split(" ")
        pairs = (label.partition("=") for label in labels)
        promises[name] = (kind, {label: {*values.split("|")} for label, _, values in pairs})
    return promises


def render_exported(page: str) -> str:
    """Return the file's text for a page."""
    return "".join(f"{line}\n" for line in sorted(_lines(page)))


def _lines(page: str) -> Iterator[str]:
    for family in text_string_to_metric_families(page):
        labels: dict[str, dict[str, set[str]]] = {}
        for sample in family.samples:
            if not sample.name.startswith(FOREIGN):
                values = labels.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    values.setdefault(label, set()).add("*" if label in OPEN_LABELS else value)
        for name, values in labels.items():
            shown = (f"{label}={'|'.join(sorted(values[label]))}" for label in sorted(values))
            yield " ".join((name, family.type, *shown))
