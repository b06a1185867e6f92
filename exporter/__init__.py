"""Prometheus exporter for operator-staffed chat queues on PostgreSQL."""

__version__ = "0.1.0"
