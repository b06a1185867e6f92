"""What to ask: `queries/*.sql` with the mapping beside each, read into frozen `Query` entries."""

from exporter.catalogue.entries import Label, Metric, Need, Query, Series
from exporter.catalogue.load import load_catalogue

__all__ = ["Label", "Metric", "Need", "Query", "Series", "load_catalogue"]
