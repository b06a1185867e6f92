"""deploy/prometheus: what is copied from there is right, with the rules beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from exporter.ops.rules import Links, write_rules
from tests.servers import require_tool

EXAMPLE = Path(__file__).parents[2] / "deploy" / "prometheus" / "prometheus.example.yml"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_promtool_has_no_complaint(tls: bool, tmp_path: Path) -> None:
    file = tmp_path / EXAMPLE.name
    shutil.copy(EXAMPLE, file)
    if tls:
        text = re.sub(
            r"^    # (?=\w+:$|\w+: \w+$|  )", "    ", file.read_text(), flags=re.MULTILINE
        )
        assert yaml.safe_load(text)["scrape_configs"][0].keys() >= {"basic_auth", "tls_config"}
        file.write_text(text)
        for name in ("chatqueue-ca.pem", "chatqueue-password"):
            (tmp_path / name).touch()
    write_rules(tmp_path / "chatqueue", Links())
    promtool = require_tool("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "config", file], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 rule files found" in done.stdout
