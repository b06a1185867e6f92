"""The dashboards: well made for Grafana, and every question has an answer."""
