"""What to ask: `queries/*.sql` with the mapping beside each, read into frozen `Query` entries."""

from exporter.catalogue.entries import Events, Label, Metric, Need, Query, Series
from exporter.catalogue.load import EVENT_PARAMETERS, load_catalogue

__all__ = [
    "EVENT_PARAMETERS",
    "Events",
    "Label",
    "Metric",
    "Need",
    "Query",
    "Series",
    "load_catalogue",
]
