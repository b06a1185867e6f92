"""The Grafana dashboards as Python: `python -m tools.dashboards` writes `dashboards/*.json`."""
