"""The configured thresholds as metric families, for rules and panels to compare with. Pure."""

from __future__ import annotations

from exporter.config import Config
from exporter.config.exported import Exported, Marked, find_marked, plain_values
from exporter.metrics.snapshot import Family, make_family

PREFIX = "chatqueue_threshold_"


def build_thresholds(config: Config) -> tuple[Family, ...]:
    """Return the thresholds as families; one that is off is +Inf."""
    return tuple(_build_family(mark, field) for mark, field in find_marked(config, Exported))


def _build_family(mark: Exported, field: Marked) -> Family:
    """The key in the file and what the reference of the configuration says first are its help."""
    text = mark.help or f"{field.key}: {field.description.partition('. ')[0].rstrip('.')}."
    samples = (
        (tuple(zip(mark.labels, keys, strict=True)), value)
        for keys, value in plain_values(mark.convert(field.value))
    )
    return make_family(PREFIX + mark.name, text, samples)
