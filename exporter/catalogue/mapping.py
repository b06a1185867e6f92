"""The form of a `queries/<name>.yaml`: how columns become metrics."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from exporter.config.section import Section
from exporter.config.values import (
    SOME,
    ByName,
    Duration,
    Form,
    Switch,
    Text,
    WholeNumber,
    between,
    fault,
    from_to,
    refuse,
)

# Names that the exporter gives out itself, whatever the catalogue says.
OWN_PREFIXES = (
    "chatqueue_exporter_",
    "chatqueue_threshold_",
    "chatqueue_release_",
    "process_",
    "python_",
)
OWN_NAMES = frozenset(
    {
        "chatqueue_database_up",
        "chatqueue_database_row_security_hidden",
        "chatqueue_database_clock_skew_seconds",
        "chatqueue_database_in_recovery",
        "chatqueue_database_reconnections_total",
    }
)
RESERVED_LABELS = frozenset({"database", "job", "instance", "le", "quantile"})


def _check_metric_name(name: str) -> str:
    if name.startswith(OWN_PREFIXES) or name in OWN_NAMES:
        raise fault("is a name the exporter gives out itself", "another prefix")
    return name


def _check_label_name(name: str) -> str:
    if name in RESERVED_LABELS:
        raise fault("is a label that Prometheus or the exporter sets", "another name")
    return name


MetricName = Annotated[
    str,
    Field(pattern="^[a-z][a-z0-9_]*$"),
    Form("is not a metric name", "lower-case letters, digits and _"),
    AfterValidator(_check_metric_name),
]
LabelName = Annotated[
    str,
    Field(pattern="^([a-z]|_[a-z0-9]|_$)[a-z0-9_]*$"),
    Form("is not a label name", "lower-case letters, digits and _, not beginning with __"),
    AfterValidator(_check_label_name),
]
Relation = Annotated[
    str,
    Field(pattern=r"^[a-z_][a-z0-9_$]*\.[a-z_][a-z0-9_$]*$"),
    Form("is not a qualified relation", "schema.relation"),
]
Function = Annotated[
    str,
    Field(pattern=r"^[a-z_][a-z0-9_$]*\.[a-z_][a-z0-9_$]*\([a-z0-9_, \[\].]*\)$"),
    Form("is not a qualified function", "schema.function(type, …)"),
]
Number = Annotated[float, Field(allow_inf_nan=False), refuse(bool, "float_type")]

# What stands behind `expected` where a required key is missing.
EXPECTED_KEYS = {
    "metrics": "at least one metric",
    "needs": "at least one relation or function",
    "name": "a metric name",
    "type": "gauge, counter or histogram",
    "help": "a sentence",
    "column": "a column of the query",
    "value": "a column of the query",
}
EXPECTED_BUCKETS = "ascending upper bounds, without +Inf"


class NeedMapping(Section):
    """A relation or function, and what lies behind it."""

    relation: Relation | None = None
    function: Function | None = None
    reads: tuple[Relation, ...] = ()

    @model_validator(mode="after")
    def _is_one_of_them(self) -> NeedMapping:
        if self.relation is None and self.function is None:
            raise fault("names neither relation nor function", "one of them", bare=True)
        if self.relation is not None and self.function is not None:
            raise fault("names both relation and function", "one of them", bare=True)
        return self


class LabelMapping(Section):
    """A label whose value stands in a column."""

    column: Text
    values: tuple[Text, ...] = ()


class SeriesMapping(Section):
    """One value column with its own labels."""

    labels: ByName[LabelName, Text] = Field(default={})
    value: Text


class EventsMapping(Section):
    """Rows that are events: the columns that identify and date them."""

    key: Text = "key"
    at: Text = "at"
    window: Text | None = None


class MetricMapping(Section):
    """One exported metric."""

    name: MetricName
    type: Literal["gauge", "counter", "histogram"]
    help: Text
    unit: Literal["seconds", "bytes", "ratio"] | None = None
    labels: tuple[LabelName, ...] = ()
    value: Text | None = None
    series: tuple[SeriesMapping, ...] = ()
    empty: Number | None = None
    buckets: Annotated[tuple[Number, ...], Field(validate_default=True)] = ()

    @field_validator("type")
    @classmethod
    def _fits_name(cls, kind: str, info: ValidationInfo) -> str:
        name: str = info.data.get("name", "")
        if name and (kind == "counter") != name.endswith("_total"):
            expected = "a name that ends in _total for a counter, and for nothing else"
            raise fault(f"does not fit the name {name}", expected)
        return kind

    @field_validator("unit")
    @classmethod
    def _ends_name(cls, unit: str | None, info: ValidationInfo) -> str | None:
        name = str(info.data.get("name", "")).removesuffix("_total")
        if unit and name and not name.endswith(f"_{unit}"):
            raise fault(f"does not end the name {name}", f"a name ending in _{unit}")
        return unit

    @field_validator("buckets")
    @classmethod
    def _ascend(cls, buckets: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        kind = info.data.get("type")
        if kind == "histogram" and not buckets:
            raise fault("missing", EXPECTED_BUCKETS, bare=True)
        if kind in ("gauge", "counter") and buckets:
            expected = "type histogram, or no buckets"
            raise fault(f"is given, but the type is {kind}", expected, bare=True)
        if any(low >= high for low, high in itertools.pairwise(buckets)):
            raise fault("do not ascend", EXPECTED_BUCKETS, bare=True)
        return buckets

    @model_validator(mode="after")
    def _has_one_kind_of_value(self) -> MetricMapping:
        if self.value is not None and self.series:
            raise fault("has both value and series", "one of them", bare=True)
        return self


class FactsMapping(Section):
    """A whole mapping file of facts."""

    needs: Annotated[tuple[NeedMapping, ...], SOME]


class QueryMapping(Section):
    """A whole mapping file of a query."""

    enabled: Switch | None = True
    interval: Annotated[Duration, between("1s", "1d")] | None = None
    timeout: Annotated[Duration, between("100ms", "1h")] | None = None
    max_age: Annotated[Duration, between("1s", "7d")] | None = None
    max_rows: Annotated[WholeNumber, from_to(1, 100_000)] = 1000
    generic_plan: Switch = False
    facts: Text | None = None
    needs: tuple[NeedMapping, ...] = ()
    labels: ByName[LabelName, LabelMapping] = Field(default={})
    events: EventsMapping | None = None
    metrics: Annotated[tuple[MetricMapping, ...], SOME]

    def seconds(self, value: timedelta | None) -> float | None:
        """A duration of this mapping in seconds; None stays None."""
        return None if value is None else value.total_seconds()
