"""One family as text, written anew only where it changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.metrics.snapshot import Family, Labels

END = b"# EOF\n"
"""What the library writes behind the last family of a page in OpenMetrics."""

_format_value: Callable[[float], str] = floatToGoString


@dataclass(frozen=True, slots=True)
class Encoded:
    """One family of a part.

    Attributes:
        family: As it was encoded.
        heading: Lines of help, type and unit.
        series: Name and labels of each sample as they stand before its value.
        lines: All sample lines.
    """

    family: Family
    heading: bytes
    series: tuple[str, ...]
    lines: bytes


def encode_family(
    encode: Callable[[Collector], bytes], family: Family, labels: Labels, before: Encoded | None
) -> Encoded:
    """Return a family as it was where nothing changed; of the same series only values are written.

    Args:
        encode: The library's, for a format.
        family: What is to be written.
        labels: Of all its series, before their own.
        before: The same family, as it was encoded the last time.
    """
    if before is not None and before.family == family:
        return before
    if before is not None and _shape(before.family) == _shape(family):
        heading, series = before.heading, before.series
    else:
        heading, series = _encode_series(encode, family, labels)
    values = map(_format_value, (sample.value for sample in family.samples))
    lines = "".join(f"{name} {value}\n" for name, value in zip(series, values, strict=True))
    return Encoded(family, heading, series, lines.encode())


def _shape(family: Family) -> object:
    """All of a family but its name and values."""
    series = [(sample.labels, sample.suffix) for sample in family.samples]
    return family.type, family.help, family.unit, series


def _encode_series(
    encode: Callable[[Collector], bytes], family: Family, labels: Labels
) -> tuple[bytes, tuple[str, ...]]:
    """A family's heading, and each sample's line up to its value, as the library writes them."""
    metric = Metric(family.name.removesuffix("_total"), family.help, family.type, family.unit)
    for sample in family.samples:
        metric.add_sample(family.name + sample.suffix, dict(labels + sample.labels), 0.0)
    text = encode(_OneFamily(metric)).removesuffix(END).decode()
    *lines, _ = text.split("\n")
    first = len(lines) - len(family.samples)
    heading = "".join(f"{line}\n" for line in lines[:first])
    return heading.encode(), tuple(line.rpartition(" ")[0] for line in lines[first:])


class _OneFamily(Collector):
    """What an encoder reads: one family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        """The family."""
        yield self._metric
