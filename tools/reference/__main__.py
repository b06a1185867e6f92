"""Rewrite every generated file of a source tree: `python -m tools.reference [root]`."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.reference import alerts, checklist, configuration, manual, metrics

ROOT = Path(__file__).parents[2]


def rendered_files(root: Path = ROOT) -> dict[str, str]:
    """Return the text of each generated file by its path below the root.

    Raises:
        CatalogueError: A metric lacks its note, a note its metric, or a query its header.
    """
    return {
        name: text
        for module in (configuration, metrics, alerts, checklist, manual)
        for name, text in module.rendered_files(root).items()
    }


def main(root: Path = ROOT) -> None:
    """Rewrite them.

    Raises:
        FileNotFoundError: The root is not a source tree; nothing is written.
        CatalogueError: As above; nothing is written.
    """
    if not (root / "pyproject.toml").is_file():
        raise FileNotFoundError(f"{root} is not the source tree of chatqueue-exporter")
    for name, text in rendered_files(root).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
