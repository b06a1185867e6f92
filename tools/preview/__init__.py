"""Pictures of the dashboards over simulated days: `make dashboards-preview`.

`recording` lives through the days of `story` on a PostgreSQL whose clock is ours, `history` turns
the pages into a Prometheus, `drawing` draws what the panels' own expressions give there.
"""
