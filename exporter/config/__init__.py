"""The configuration: one YAML file in, one frozen `Config` or every fault at once out.

Owns reading, checking, durations and the hiding of secrets. What a query's name or a DSN's host
means is for `catalogue` and `database` to say.
"""

from exporter.config.dsn import redact
from exporter.config.durations import parse_duration
from exporter.config.exported import limit_seconds
from exporter.config.load import load_config
from exporter.config.logs import LogReceiver, Logs
from exporter.config.model import (
    Config,
    Database,
    Operators,
    Override,
    Poll,
    Queries,
)
from exporter.config.thresholds import (
    OldestAge,
    Threshold,
    Thresholds,
    burn_rates,
)
from exporter.config.values import RESERVED_LABELS

__all__ = [
    "RESERVED_LABELS",
    "Config",
    "Database",
    "LogReceiver",
    "Logs",
    "OldestAge",
    "Operators",
    "Override",
    "Poll",
    "Queries",
    "Threshold",
    "Thresholds",
    "burn_rates",
    "limit_seconds",
    "load_config",
    "parse_duration",
    "redact",
]
