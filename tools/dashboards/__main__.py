"""Write `dashboards/*.json`."""

from __future__ import annotations

import json
from pathlib import Path

from tools.dashboards.health import make_health
from tools.dashboards.operators import make_operators
from tools.dashboards.watch import make_watch

FOLDER = Path(__file__).parents[2] / "dashboards"


def build() -> dict[str, str]:
    """Return every file's name and text."""
    documents = (make_watch(), make_operators(), make_health())
    return {
        f"{document['uid']}.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        for document in documents
    }


if __name__ == "__main__":
    for name, text in build().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
