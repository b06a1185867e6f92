"""`make dashboards-preview`: live through the days and draw the dashboards at their ends."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from exporter.service import configure_logging
from tools.dashboards.questions import load_dashboards
from tools.preview.drawing import Artist
from tools.preview.history import backfill, run_prometheus, write_alerts
from tools.preview.recording import STEP_S, record
from tools.preview.story import DAY_S, DAYS, HOUR_S, START_S

ROOT = Path(__file__).parents[2]
# Name, hours from the beginning, dashboard, and how many of its rows: those of the documentation.
PICTURES = (
    ("calm", 46.0, "watch", 4),
    ("rush", 48.0, "watch", 2),
    ("vanished-operators", 72.0, "watch", 4),
    ("database-down", 96.0, "watch", 1),
    ("rush", 48.0, "operators", None),
    ("database-down", 96.0, "exporter", None),
)


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tools.preview", description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--rules", type=Path, default=ROOT / "alerts", help="the alert rules")
    parser.add_argument("--keep", type=Path, help="folder to record into, or to draw from again")
    options = parser.parse_args()
    configure_logging("error", "logfmt")
    with tempfile.TemporaryDirectory(prefix="chatqueue-preview-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        data = folder / "prometheus"
        span = (START_S, START_S + len(DAYS) * DAY_S)
        if not data.exists():
            print("Living through", len(DAYS), "days …")
            backfill(sorted(folder.glob("*.om")) or record(folder), data)
            with run_prometheus(data) as server:
                alerts = folder / "alerts.txt"
                write_alerts(server, options.rules, span, STEP_S, alerts)
            backfill([alerts], data)
        dashboards = load_dashboards(ROOT / "dashboards")
        with run_prometheus(data) as server:
            for name, hour, dashboard, rows in PICTURES:
                file = options.output / f"{dashboard}-{name}.png"
                artist = Artist(server, START_S + hour * HOUR_S - STEP_S, STEP_S)
                artist.draw(dashboards[f"chat-queue-{dashboard}"], file, rows)
                print(file)


if __name__ == "__main__":
    main()
