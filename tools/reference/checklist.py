"""The table of the checklist in `docs/deployment.md`."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from exporter.preflight.checklist import read_items

PAGE = "docs/deployment.md"
_BEGIN, _END = "<!-- checklist: by make docs -->\n", "<!-- end of checklist -->\n"


def rendered_files(root: Path) -> dict[str, str]:
    """Return the page with its table."""
    text = (root / PAGE).read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    return {PAGE: before + _BEGIN + _render() + _END + rest.partition(_END)[2]}


def _render() -> str:
    parts = []
    for phase, items in groupby(read_items(), key=lambda item: item.phase):
        parts.append(
            f"\n### {phase.capitalize()}\n\n| | command | proves | by |\n|---|---|---|---|\n"
        )
        for item in items:
            command = item.command.replace("|", "\\|")
            parts.append(f"| {item.what} | `{command}` | {item.proves} | {item.who} |\n")
    return "".join(parts) + "\n"
