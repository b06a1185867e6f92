"""What repeats the code, the catalogue or the rules is current, and one command rewrites it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.test_docs import ROOT, copy_tree
from tools.reference.__main__ import main, rendered_files

FILES = rendered_files()
# Only a part of these is generated: what stands in some lines of it, and nowhere else.
GENERATED_LINES = {
    "alerts/exporter.rules.yml": '"input", "chatqueue_threshold_',
    "docs/deployment.md": " | machine |",
    "docs/queries.md": "| `thresholds.",
    "docs/runbooks.md": ") (`slo.",
}


@pytest.mark.parametrize("name", FILES)
def test_a_generated_file_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name], "run `make docs`"


def test_the_command_rewrites_every_file_and_leaves_what_is_typed(tmp_path: Path) -> None:
    root = copy_tree(tmp_path / "tree")
    (root / "exporter").mkdir()
    for name, text in FILES.items():
        part = GENERATED_LINES.get(name)
        rest = [line for line in text.splitlines(keepends=True) if part and part not in line]
        (root / name).write_text("".join(rest), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "tools.reference", str(root)], check=True, cwd=ROOT
    )

    assert {name: (root / name).read_text(encoding="utf-8") for name in FILES} == FILES


def test_a_folder_that_is_no_source_tree_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not the source tree of chatqueue-exporter"):
        main(tmp_path)

    assert list(tmp_path.iterdir()) == []
