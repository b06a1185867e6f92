"""deploy/prometheus: what is copied from there is right, with the rules beside it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from exporter.ops.rules import Links, write_rules
from tests.servers import require_tool

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("*.yml")))
def test_promtool_has_no_complaint(file: str, tmp_path: Path) -> None:
    shutil.copy(FOLDER / file, tmp_path)
    write_rules(tmp_path / "chatqueue", Links())
    promtool = require_tool("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "config", tmp_path / file], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert ("4 rule files found" in done.stdout) == (file == "prometheus.example.yml")
