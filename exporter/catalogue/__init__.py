"""What to ask: `queries/*.sql` with the mapping beside each, read into frozen `Query` entries."""

from exporter.catalogue.entries import Events, Facts, Label, Metric, Need, Query, Series
from exporter.catalogue.load import EVENT_PARAMETERS, load_catalogue

__all__ = [
    "EVENT_PARAMETERS",
    "Events",
    "Facts",
    "Label",
    "Metric",
    "Need",
    "Query",
    "Series",
    "load_catalogue",
]
